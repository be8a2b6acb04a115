"""The callers under test, each set up in the private world with its own directories, sockets and settings.

Owns their configuration and their command lines. The runtime is passed to a caller the way its users would do it: with --runtime to podman
and buildah, in the configuration and with --runc-binary to containerd, in the configuration to dockerd, and with
DOCKER_BUILDKIT_RUNC_COMMAND to BuildKit.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

import images
from sandbox import BASE, UID, USER, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness import Option
    from sandbox import Result as Output
    from sandbox import Sandbox


IMAGE = "contracts"
REFERENCE = "localhost/contracts:latest"


def packages_missing(names: Sequence[str]) -> list[str]:
    """The programs that are not installed."""
    places = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".split(":")
    return [name for name in names if not any(os.access(f"{place}/{name}", os.X_OK) for place in places)]


class Engine:
    """The common base of callers with docker's command line: the same tests use all of them (test_engines.py, test_engines_life.py)."""

    world: Sandbox
    runtime: str
    env: dict[str, str]
    force: tuple[str, ...] = ("--force",)  # option of `rm`: does not wait for a stop timeout
    garbage: tuple[int, ...] = (
        1,
        126,
        255,
    )  # exit status for a program that is neither a binary nor a script: one of these, depending on the runtime
    exec_of_missing: tuple[int, ...] = (127,)  # exit status of `exec` for a program that does not exist
    attach_status = 0  # exit status of `attach` when the program exits with 5
    attach_hangs_up = False  # whether `attach` may end before it has shown the last lines

    def argv(self, *words: str) -> list[str]:
        raise NotImplementedError

    def __call__(self, *words: str, **options: Option) -> Output:
        raise NotImplementedError

    def run(self, *words: str, network: str | None = "none", **options: Option) -> Output:
        raise NotImplementedError

    def create_options(self, network: str | None) -> list[str]:
        """Options for `run` and `create`."""
        return [f"--network={network}"] if network else []

    def create(self, *words: str) -> str:
        """Creates a container without starting it; returns its id."""
        return self("create", *self.create_options("none"), *words).ok().out.strip()

    @contextlib.contextmanager
    def running(self, *words: str, command: Sequence[str] = ("sleep", "1000"), image: str = IMAGE, **options: Option) -> Iterator[str]:
        """A detached container, which is removed by force at the end; yields its id."""
        name = self.run("-d", *words, image, *command, **options).ok().out.strip()
        try:
            yield name
        finally:
            self.remove(name)

    def remove(self, name: str) -> None:
        self("rm", *self.force, name).ok()

    def inspect(self, name: str, template: str) -> str:
        return self("inspect", "--format", template, name).ok().out.strip()

    def has(self, command: str, option: str) -> bool:
        """Whether this version of the caller has an option."""
        return option in self(command, "--help").ok().out.split()

    def status_of(self, key: str, *words: str) -> str:
        """A field of /proc/self/status as seen by a process in a container."""
        text = self.run(*words, IMAGE, "cat", "/proc/self/status").ok().out
        return next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith(key + ":"))

    def on_terminal(self, *words: str) -> Output:
        return self.world.run_on_tty(["env", *(f"{key}={value}" for key, value in self.env.items()), *self.argv(*words)])


class Podman(Engine):
    """podman with its own roots, cgroupfs, and files as locks. Containers have no network unless a test requests one."""

    needs = ("podman", "conmon", "busybox")
    force = ("--force", "--time=0")

    def __init__(self, world: Sandbox, runtime: str, layer: bytes) -> None:
        self.world, self.runtime = world, runtime
        # podman's manual says runtime_supports_nocgroups, but the program reads the key without the s
        names = json.dumps(["crun", "runc", "kata", "runsc", "youki", "krun", os.path.basename(runtime)])
        world.write(
            f"{BASE}/containers.conf",
            f"""\
[engine]
lock_type = "file"
events_logger = "file"
runtime_supports_json = {names}
runtime_supports_nocgroup = {names}
[network]
firewall_driver = "iptables"
""",
        )
        # podman 4.3 wants the places here, too
        places = "".join(f'{name} = "{BASE}/podman/{place}"\n' for name, place in (("graphroot", "root"), ("runroot", "runroot")))
        world.write(f"{BASE}/podman-storage.conf", f'[storage]\ndriver = "overlay"\n{places}')
        world.write(f"{BASE}/rootfs.tar", layer)
        self.env = {
            "CONTAINERS_CONF": f"{BASE}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{BASE}/podman-storage.conf",
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }
        self("import", f"{BASE}/rootfs.tar", IMAGE).ok()

    def argv(self, *words: str, runtime: str | None = None) -> list[str]:
        places = [f"--{name}={BASE}/podman/{name}" for name in ("root", "runroot", "tmpdir")]
        return ["podman", *places, "--cgroup-manager=cgroupfs", "--runtime", runtime or self.runtime, *words]

    def __call__(self, *words: str, runtime: str | None = None, **options: Option) -> Output:
        return self.world.run(self.argv(*words, runtime=runtime), env=self.env, **options)

    def create_options(self, network: str | None) -> list[str]:
        return [f"--cgroup-parent=/{self.world.cgroup}", *([f"--network={network}"] if network else [])]

    def run(self, *words: str, network: str | None = "none", runtime: str | None = None, **options: Option) -> Output:
        """podman run; the container is removed at its end unless detached."""
        keep = [] if "-d" in words or "--name" in words else ["--rm"]
        return self("run", *keep, *self.create_options(network), *words, runtime=runtime, **options)

    def close(self) -> None:
        self("pod", "rm", "--all", "--force", "--time=0")
        self("rm", "--all", "--force", "--time=0")


class RootlessPodman(Engine):
    """podman of an ordinary user with subordinate ids: the runtime runs as root in podman's user namespace, without write access to cgroups."""

    needs = ("podman", "conmon", "newuidmap", "setpriv", "busybox")
    force = ("--force", "--time=0")
    home = f"{BASE}/tester"

    def __init__(self, world: Sandbox, runtime: str, layer: bytes) -> None:
        self.world, self.runtime = world, runtime
        world.add_user()
        for path in (self.home, f"{self.home}/run", f"{self.home}/tmp"):
            os.makedirs(world.outer(path), exist_ok=True)
            os.chmod(world.outer(path), 0o700)
            os.chown(world.outer(path), UID, UID)
        world.write(f"{BASE}/rootfs.tar", layer)
        self.env = {
            "HOME": self.home,
            "USER": USER,
            "TMPDIR": f"{self.home}/tmp",
            "XDG_RUNTIME_DIR": f"{self.home}/run",
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }
        self("import", f"{BASE}/rootfs.tar", IMAGE).ok()

    def argv(self, *words: str) -> list[str]:
        return self.as_user("podman", "--cgroup-manager=cgroupfs", "--runtime", self.runtime, *words)

    def as_user(self, *words: str) -> list[str]:
        return ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--", *words]

    def __call__(self, *words: str, **options: Option) -> Output:
        return self.world.run(self.argv(*words), env=self.env, cwd=self.home, **options)

    def buildah(self, *words: str, **options: Option) -> Output:
        """buildah of the same user, with the same store."""
        return self.world.run(self.as_user("buildah", *words), env=self.env, cwd=self.home, **options)

    def run(self, *words: str, network: str | None = "none", **options: Option) -> Output:
        keep = [] if "-d" in words or "--name" in words else ["--rm"]
        return self("run", *keep, f"--network={network}", *words, **options)

    def close(self) -> None:
        self("rm", "--all", "--force", "--time=0")


class Containerd:
    """containerd with its own root, state and socket; ctr is its client, and the CRI plugin handles Kubernetes calls."""

    needs = ("containerd", "ctr", "containerd-shim-runc-v2", "busybox")
    address = f"{BASE}/containerd.sock"
    name = "containerd"

    def __init__(self, world: Sandbox, runtime: str, layer: bytes, before: Callable[[], object] = lambda: None) -> None:
        """`before` is called after the configuration has been written, before containerd is started."""
        self.world, self.runtime = world, runtime
        self.namespace = world.cgroup
        said = world.run(["containerd", "--version"]).ok().out
        found = re.search(r" v?(\d+)\.", said)
        assert found, said
        self.major = int(found[1])
        file = world.write(f"{BASE}/{self.name}.toml", self.config() + self.runtimes())
        world.write(f"{BASE}/net.d/10-contracts.conf", json.dumps({"cniVersion": "1.0.0", "name": "none", "type": "nothing"}))
        for name in ("nothing", "loopback"):
            world.write(f"{BASE}/cni/{name}", CNI_PLUGIN, 0o755)
        world.write(f"{BASE}/image.tar", images.oci_archive(layer, REFERENCE))
        before()
        world.start_daemon(self.name, ["containerd", "--config", file], lambda: self("version").status == 0)
        for namespace in (self.namespace, "k8s.io"):
            self("--namespace", namespace, "images", "import", f"{BASE}/image.tar").ok()

    def config(self) -> str:
        """The configuration without runtimes(): in version 3, which containerd 2 uses, the settings of the CRI plugin are in other tables."""
        images = ["", '[plugins."io.containerd.cri.v1.images".pinned_images]'][self.major > 1]
        return f"""\
version = {self.major + 1}
root = "{BASE}/{self.name}"
state = "{BASE}/{self.name}-run"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing"]
[grpc]
address = "{self.address}"
[plugins."io.containerd.internal.v1.opt"]
path = "{BASE}/opt"
[plugins."io.containerd.grpc.v1.cri"]
disable_tcp_service = true
{images}
{"sandbox" if images else "sandbox_image"} = "{REFERENCE}"
{f"[{self.table}]" if images else ""}
restrict_oom_score_adj = true
[{self.table}.cni]
bin_dir = "{BASE}/cni"
conf_dir = "{BASE}/net.d"
"""

    @property
    def table(self) -> str:
        return f'plugins."{"io.containerd.cri.v1.runtime" if self.major > 1 else "io.containerd.grpc.v1.cri"}"'

    def runtimes(self) -> str:
        """The part that names the runtime under test."""
        return f"""\
[{self.table}.containerd]
default_runtime_name = "contracts"
[{self.table}.containerd.runtimes.contracts]
runtime_type = "io.containerd.runc.v2"
[{self.table}.containerd.runtimes.contracts.options]
BinaryName = "{self.runtime}"
"""

    def argv(self, *words: str) -> list[str]:
        return ["ctr", "--address", self.address, *words]

    def __call__(self, *words: str, **options: Option) -> Output:
        return self.world.run(self.argv(*words), **options)

    def ctr(self, *words: str, **options: Option) -> Output:
        """ctr in the namespace of these tests; the namespace is also the name of the containers' parent cgroup."""
        return self("--namespace", self.namespace, *words, **options)

    def run_words(self, *words: str) -> list[str]:
        return ["run", "--runtime=io.containerd.runc.v2", f"--runc-binary={self.runtime}", f"--fifo-dir={BASE}/fifo", *words]

    def run(self, *words: str, **options: Option) -> Output:
        return self.ctr(*self.run_words(*words), **options)

    def close(self) -> None:
        for name in self.ctr("tasks", "ls", "-q").out.split():
            self.ctr("tasks", "rm", "--force", name)
        for name in self.ctr("containers", "ls", "-q").out.split():
            self.ctr("containers", "rm", name)


class Docker(Engine):
    """dockerd on our containerd, with a bridge network in the private network namespace."""

    needs = ("dockerd", "docker", "docker-proxy", "iptables", "busybox")
    garbage = (1, 125, 126, 127, 255)
    exec_of_missing = (126, 127)  # dockerd has returned both for the same program
    attach_status = 5
    attach_hangs_up = True
    name = "docker"
    more: tuple[str, ...] = ("--bip=172.31.250.1/24",)

    def __init__(self, world: Sandbox, runtime: str, layer: bytes, others: Mapping[str, str] = MappingProxyType({})) -> None:
        """`others`: {name: path} of more runtimes."""
        self.world, self.runtime = world, runtime
        self.env = {}
        world.write(f"{BASE}/rootfs.tar", layer)
        self.place = f"{BASE}/{self.name}"
        runtimes = {
            "contracts": {"path": runtime},
            "reference": {"path": "runc"},
            **{name: {"path": path} for name, path in others.items()},
        }
        settings = {"default-runtime": "contracts", "runtimes": runtimes}
        world.write(f"{self.place}.json", json.dumps(settings))
        self.socket = f"{self.place}.sock"
        self.daemon = [
            "dockerd",
            f"--config-file={self.place}.json",
            f"--data-root={self.place}",
            f"--exec-root={self.place}-run",
            f"--pidfile={self.place}.pid",
            f"--host=unix://{self.socket}",
            f"--containerd={Containerd.address}",
            f"--cgroup-parent=/{world.cgroup}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            "--storage-driver=overlay2",
            *self.more,
        ]
        self.start()
        self.major = int(self("version", "--format", "{{.Server.Version}}").ok().out.partition(".")[0])
        self("import", f"{BASE}/rootfs.tar", IMAGE).ok()

    def start(self) -> None:
        env = {"DOCKER_BUILDKIT_RUNC_COMMAND": self.runtime}
        self.world.start_daemon(self.name, self.daemon, lambda: self("version").status == 0, env=env)

    def argv(self, *words: str) -> list[str]:
        return ["docker", "--host", f"unix://{self.socket}", *words]

    def __call__(self, *words: str, **options: Option) -> Output:
        return self.world.run(self.argv(*words), **options)

    def run(self, *words: str, network: str | None = "none", **options: Option) -> Output:
        """docker run; the container is removed at its end unless detached or named."""
        keep = [] if "-d" in words or "--name" in words else ["--rm"]
        return self("run", *keep, *([f"--network={network}"] if network else []), *words, **options)

    def close(self) -> None:
        for name in self("ps", "-aq").out.split():
            self("rm", "--force", "--volumes", name)
        for name in self("network", "ls", "--filter=type=custom", "-q").out.split():
            self("network", "rm", name)


class RemappedDocker(Docker):
    """dockerd with --userns-remap: all its containers have a user namespace. Its bridge is not docker0, which belongs to the other dockerd; with
    --bridge=none it would remove that bridge."""

    name = "remapped"
    more = (
        "--userns-remap=tester",
        "--bridge=remapped0",
        "--iptables=false",
        "--ip6tables=false",
        "--containerd-namespace=remapped",
        "--containerd-plugins-namespace=remapped-plugins",
    )

    def __init__(self, world: Sandbox, runtime: str, layer: bytes) -> None:
        world.add_user()
        world.run(["ip", "link", "add", "remapped0", "type", "bridge"]).ok()
        world.run(["ip", "addr", "add", "172.31.249.1/24", "dev", "remapped0"]).ok()
        super().__init__(world, runtime, layer)


class Buildah:
    """buildah with its own store. It passes neither a state root nor a cgroup to the runtime."""

    needs = ("buildah", "busybox")
    limits = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")  # without CAP_SYS_RESOURCE buildah's defaults are too high

    def __init__(self, world: Sandbox, runtime: str, layer: bytes) -> None:
        self.world, self.runtime = world, runtime
        world.write(f"{BASE}/build/rootfs.tar", layer)
        world.write(f"{BASE}/storage.conf", '[storage]\ndriver = "overlay"\n')
        world.write(f"{BASE}/buildah.conf", '[network]\nfirewall_driver = "iptables"\n')
        self.env = {"CONTAINERS_CONF": f"{BASE}/buildah.conf", "CONTAINERS_STORAGE_CONF": f"{BASE}/storage.conf"}

    def argv(self, *words: str) -> list[str]:
        return ["buildah", f"--root={BASE}/buildah/root", f"--runroot={BASE}/buildah/runroot", *words]

    def __call__(self, *words: str, **options: Option) -> Output:
        return self.world.run(self.argv(*words), env=self.env, **options)

    def build(self, *lines: str, options: Sequence[str] = (), **more: Option) -> Output:
        """Builds an image from the busybox root and the Containerfile `lines`."""
        text = "\n".join(["FROM scratch", "ADD rootfs.tar /", "ENV PATH=/usr/bin:/bin", *lines]) + "\n"
        self.world.write(f"{BASE}/build/Containerfile", text)
        words = ["--runtime", self.runtime, "--isolation=oci", "--network=none", *self.limits, *options]
        return self("build", *words, f"{BASE}/build", **more)

    def close(self) -> None:
        self("rm", "--all")


CNI_PLUGIN = """\
#!/bin/sh
# A network plugin that connects nothing: it only answers as the CNI specification requires.
case $CNI_COMMAND in
ADD) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],'
    echo '"ips":[{"address":"192.0.2.9/24","interface":0}]}' ;;
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}' ;;
esac
"""


def gone(world: Sandbox) -> None:
    """Waits until nothing of the finished containers is left; the error lists what remains."""
    wait_until(lambda: "\n".join(["nothing is left; but there is:", *world.leftovers()]), lambda: not world.leftovers())
