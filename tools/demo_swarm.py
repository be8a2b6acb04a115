#!/usr/bin/python3
"""`make demo-swarm`: a Docker swarm of three nodes on this machine, each of them with pyrunc as the default runtime of its dockerd.

A replicated service over an overlay network, with published ports, is scaled from 3 to 9 replicas; then one node is killed with everything
on it, and its tasks are restarted elsewhere. Every step is shown and checked; the exit status is 1 if one failed.

If the kernel has IPVS, the service has a virtual address, and the routing mesh publishes its port on every node; otherwise it uses
--endpoint-mode=dnsrr and ports with mode=host. The runtime does the same in both cases.

A node consists of separate process, mount and network namespaces (tests/contracts/holder.py, as in the contract tests), with private data
roots and sockets, connected to the others by a bridge in such a namespace. The machine's own Docker is not affected, and at the end
everything is removed: the kernel kills what is in the namespaces.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shapes import Option


PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HOLDER = os.path.join(PROJECT, "tests/contracts/holder.py")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAME = "demo-swarm-%d" % os.getpid()
CGROUPS = "/sys/fs/cgroup"
IMAGE = "demo"
PATIENCE = 120  # seconds; a manager considers a node down after about 15
PORT = "8080"  # of the routing mesh
SERVICE = "hostname > /www/index.html; echo $NODE >> /www/index.html; exec httpd -f -p 80 -h /www"


Found = TypeVar("Found")


class Failed(Exception):
    """A step failed; the text says what was seen."""


def say(text: str) -> None:
    print("%6.1f s  %s" % (time.monotonic() - START, text), flush=True)


START = time.monotonic()


def run(argv: Sequence[str], check: bool = True, seconds: float | None = None) -> str:
    """Runs a program until it exits; returns its standard output, stripped."""
    env = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds or PATIENCE)
    if check and done.returncode:
        raise Failed("%s\nended with %d: %s%s" % (" ".join(argv), done.returncode, done.stdout, done.stderr))
    return done.stdout.strip()


def until(what: str | Callable[[], str], look: Callable[[], Found | None]) -> Found:
    """Polls until `look` returns something true, and returns that."""
    end = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed("not so after %d s: %s" % (PATIENCE, what() if callable(what) else what))
        time.sleep(0.2)


class Place:
    """A set of namespaces that exists until close(); programs in it are killed with it."""

    def __init__(self) -> None:
        self.holder = subprocess.Popen([sys.executable, "-I", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdin and self.holder.stdout
        self.pid = int(self.holder.stdout.readline() or 0)
        if self.holder.stdout.readline() != "ready\n":
            raise Failed("the namespaces could not be made: root is needed")

    def argv(self, *argv: str) -> list[str]:
        return ["nsenter", "--target", str(self.pid), "--mount", "--net", "--pid", "--", *argv]

    def call(self, *argv: str, **options: Option) -> str:
        return run(self.argv(*argv), **options)

    def close(self) -> None:
        if self.holder.poll() is None and self.holder.stdin:
            self.holder.stdin.close()
            self.holder.wait()


class Node(Place):
    """One machine of the swarm: its address, its dockerd."""

    def __init__(self, number: int, hub: Place, work: str, runtime: str) -> None:
        super().__init__()
        self.name, self.address = "node%d" % number, "10.91.0.%d" % number
        self.log = "%s/%s.log" % (work, self.name)
        # only the hub's network is entered: in its process namespace our pid would not be valid
        ours = ["nsenter", "--target", str(hub.pid), "--net", "--"]
        run([*ours, "ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid)])
        hub.call("ip", "link", "set", self.name, "master", "hub", "up")
        self.call("ip", "address", "add", self.address + "/24", "dev", "eth0")
        self.call("ip", "link", "set", "eth0", "up")
        # no route to the outside: a pull fails immediately, and the existing image is used
        config = "%s/%s.json" % (work, self.name)
        run([runtime, "install", "--docker", "--default", "--config", config, "--runtime", runtime])
        dockerd = [
            "dockerd", "--config-file=" + config, "--data-root=%s/%s" % (work, self.name), "--exec-root=/run/docker",
            "--pidfile=/run/docker.pid", "--host=unix:///run/docker.sock", "--cgroup-parent=/%s/%s" % (NAME, self.name),
            "--exec-opt=native.cgroupdriver=cgroupfs", "--storage-driver=overlay2",
        ]  # fmt: skip
        script = 'hostname "$1"; shift; exec "$@"'
        with open(self.log, "w") as log:
            argv = self.argv("unshare", "--uts", "sh", "-c", script, "sh", self.name, *dockerd)
            self.daemon = subprocess.Popen(argv, env={"PATH": PATH, "HOME": "/root"}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def docker(self, *words: str, **options: Option) -> str:
        return self.call("docker", "--host=unix:///run/docker.sock", *words, **options)

    def ready(self) -> str:
        if self.daemon.poll() is not None:
            raise Failed("dockerd of %s has ended: %s" % (self.name, self.last_words()))
        return self.docker("version", "--format", "{{.Server.Version}}", check=False)

    def last_words(self) -> str:
        with open(self.log) as file:
            return file.read()[-2000:]

    def kill(self) -> None:
        """Stops the node immediately, like a power failure: the kernel kills everything in it, and no daemon shuts down."""
        self.close()


class Swarm:
    """The nodes by name; the first is the manager. mesh: with virtual addresses and the routing mesh."""

    def __init__(self, work: str, runtime: str, size: int, mesh: bool) -> None:
        self.work, self.size, self.mesh = work, size, mesh
        self.nodes: dict[str, Node] = {}
        self.hub = Place()
        self.hub.call("ip", "link", "add", "hub", "type", "bridge")
        self.hub.call("ip", "address", "add", "10.91.0.254/24", "dev", "hub")
        self.hub.call("ip", "link", "set", "hub", "up")
        self.runtime = runtime

    def start(self) -> None:
        for number in range(1, self.size + 1):
            node = Node(number, self.hub, self.work, self.runtime)
            self.nodes[node.name] = node
        for node in self.nodes.values():
            version = until(node.last_words, node.ready)
            default = node.docker("info", "--format", "{{.DefaultRuntime}}")
            node.docker("import", "%s/rootfs.tar" % self.work, IMAGE)
            say("%s (%s): dockerd %s, default runtime %s" % (node.name, node.address, version, default))
            if default != "pyrunc":
                raise Failed("the default runtime is %s" % default)

    @property
    def manager(self) -> Node:
        return self.nodes["node1"]

    def join(self) -> None:
        self.manager.docker("swarm", "init", "--advertise-addr", self.manager.address)
        token = self.manager.docker("swarm", "join-token", "-q", "worker")
        for node in list(self.nodes.values())[1:]:
            node.docker("swarm", "join", "--token", token, "--advertise-addr", node.address, self.manager.address + ":2377")
        until("all nodes are there", lambda: len(self.ready_nodes()) == self.size)
        say("swarm of %d nodes" % self.size)

    def serve(self, replicas: int) -> None:
        """The service, as the kernel allows."""
        ways = ["--endpoint-mode=dnsrr", "--publish=mode=host,target=80"]
        if self.mesh:
            ways = ["--endpoint-mode=vip", "--publish=mode=ingress,published=%s,target=80" % PORT]
        self.manager.docker(
            "service", "create", "--detach", "--name=web", "--replicas=%d" % replicas, "--network=over", *ways,
            "--env=NODE={{.Node.Hostname}}", "--no-resolve-image", "--stop-grace-period=1s", IMAGE, "sh", "-c", SERVICE,
        )  # fmt: skip

    def ready_nodes(self) -> list[str]:
        rows = self.manager.docker("node", "ls", "--format", "{{.Hostname}} {{.Status}}").splitlines()
        return [row.split()[0] for row in rows if row.endswith(" Ready")]

    def tasks(self) -> dict[str, str]:
        """{task's id: node} of the tasks that the manager believes to be running."""
        words = [
            "service",
            "ps",
            "web",
            "--filter",
            "desired-state=running",
            "--no-trunc",
            "--format",
            "{{.ID}} {{.Node}} {{.CurrentState}}",
        ]
        rows = [line.split() for line in self.manager.docker(*words).splitlines()]
        return {row[0]: row[1] for row in rows if len(row) > 2 and row[2] == "Running"}

    def spread(self, count: int) -> str:
        """Waits for `count` running tasks on the existing nodes; returns a line that shows where they are."""
        nodes = list(self.nodes)

        def look() -> dict[str, str] | None:
            found = self.tasks()
            return found if len(found) == count and set(found.values()) <= set(nodes) else None

        failures = ["service", "ps", "web", "--no-trunc", "--format", "{{.Node}} {{.CurrentState}} {{.Error}}"]
        found = until(lambda: "%d tasks run on %s\n%s" % (count, nodes, self.manager.docker(*failures)), look)
        return ", ".join("%d on %s" % (list(found.values()).count(name), name) for name in nodes)

    def answers(self, count: int) -> list[str]:
        """Queries each replica by its address on the overlay network, from a container on the manager; returns the nodes that they
        report."""

        def ask() -> list[list[str]] | None:
            script = "for a in $(nslookup tasks.web 127.0.0.11 2>/dev/null | grep -o 'Address: 10[0-9.]*' | cut -d' ' -f2); do "
            script += "wget -T 3 -qO- http://$a/ | tr '\\n' ' '; echo; done"
            out = self.manager.docker("run", "--rm", "--network=over", IMAGE, "sh", "-c", script, check=False)
            rows = [line.split() for line in out.splitlines() if len(line.split()) == 2]
            return rows if len({row[0] for row in rows}) == count else None

        rows = until("%d replicas answer on the overlay network" % count, ask)
        return sorted({row[1] for row in rows})

    def virtual(self, count: int) -> str:
        """Queries the service's virtual address, from a container on the manager, until IPVS has reached every replica; returns that
        address."""

        def ask() -> str | None:
            script = "nslookup web 127.0.0.11 | grep -o 'Address: 10[0-9.]*'; for i in $(seq %d); do " % (2 * count)
            script += "wget -T 3 -qO- http://web/ | head -n 1; done"
            out = self.manager.docker("run", "--rm", "--network=over", IMAGE, "sh", "-c", script, check=False).splitlines()
            addresses = {line.split()[1] for line in out if line.startswith("Address: ")}
            names = {line for line in out if not line.startswith("Address: ")}
            return addresses.pop() if len(addresses) == 1 and len(names) == count else None

        return until("the virtual address leads to %d replicas" % count, ask)

    def published(self, count: int) -> str:
        """Queries the published port from the hub, in each way that the kernel allows; returns a line with the answers."""
        if not self.mesh:
            until("%d replicas answer on their node's address" % count, lambda: self.ports() == count)
            return "%d replicas answer on their node's address" % count
        for node in self.nodes.values():
            words = ["busybox", "wget", "-T", "5", "-qO-", "http://%s:%s/" % (node.address, PORT)]
            heard: set[str] = set()

            def ask(words: list[str] = words, heard: set[str] = heard) -> bool:
                heard.update(self.hub.call(*words, check=False).split()[:1])
                return len(heard) == count

            until("the mesh leads from %s to %d replicas" % (node.name, count), ask)
        return "all %d replicas answer on port %s of %s" % (count, PORT, ", ".join(self.nodes))

    def ports(self) -> int:
        """How many replicas answer on the published ports of their nodes, queried from the hub."""
        good = 0
        for node in self.nodes.values():
            for name in node.docker("ps", "-q", "--filter", "label=com.docker.swarm.service.name=web").split():
                port = node.docker("inspect", "--format", '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', name)
                out = self.hub.call("busybox", "wget", "-T", "5", "-qO-", "http://%s:%s/" % (node.address, port))
                good += out.split()[-1] == node.name
        return good

    def runtimes(self) -> set[str]:
        """The runtimes of all containers of the service, as reported by the nodes' daemons."""
        found = set()
        for node in self.nodes.values():
            names = node.docker("ps", "-q", "--filter", "label=com.docker.swarm.service.name=web").split()
            found |= set(node.docker("inspect", "--format", "{{.HostConfig.Runtime}}", *names).splitlines()) if names else set()
        return found

    def close(self) -> None:
        for place in [*self.nodes.values(), self.hub]:
            place.close()


def ask_all(swarm: Swarm, count: int) -> None:
    """The service by its name, by its virtual address, by its published port."""
    say("asked over the overlay network: answers of %s" % ", ".join(swarm.answers(count)))
    if swarm.mesh:
        say("asked at its virtual address %s: answers of %d replicas" % (swarm.virtual(count), count))
    say("published ports: %s" % swarm.published(count))


def story(swarm: Swarm, few: int, many: int) -> None:
    swarm.start()
    swarm.join()
    manager = swarm.manager
    manager.docker("network", "create", "--driver=overlay", "--attachable", "over")
    swarm.serve(few)
    say("service web: %s" % swarm.spread(few))
    ask_all(swarm, few)
    manager.docker("service", "scale", "--detach", "web=%d" % many)
    say("scaled to %d: %s" % (many, swarm.spread(many)))
    ask_all(swarm, many)
    found = swarm.runtimes()
    say("runtime of the containers: %s" % ", ".join(sorted(found)))
    if found != {"pyrunc"}:
        raise Failed("the service's containers are not all of pyrunc")
    last = "node%d" % swarm.size
    swarm.nodes.pop(last).kill()
    say("%s killed with all that ran on it" % last)
    until("the manager sees it", lambda: last not in swarm.ready_nodes())
    say("the manager calls %s down" % last)
    say("its tasks are back: %s" % swarm.spread(many))
    ask_all(swarm, many)
    manager.docker("service", "rm", "web")
    until("no container is left", lambda: not any(n.docker("ps", "-aq") for n in swarm.nodes.values()))
    say("service removed, no container is left")


def kernel() -> tuple[bool, str]:
    """Whether the kernel has IPVS, and a message about it; Failed without VXLAN."""
    probe = ["unshare", "--net", "ip", "link", "add", "probe", "type", "vxlan", "id", "1", "dstport", "4789"]
    if subprocess.run(probe, env={"PATH": PATH}, capture_output=True).returncode:
        raise Failed("this kernel has no VXLAN: no overlay networks")
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(["modprobe", "ip_vs"], env={"PATH": PATH}, capture_output=True)
    mesh = os.path.exists("/proc/net/ip_vs")
    if mesh:
        return mesh, "this kernel has VXLAN and IPVS: the service has a virtual address, and its port is on every node"
    return mesh, "this kernel has VXLAN, but no IPVS: the service takes --endpoint-mode=dnsrr and ports of mode=host"


def rootfs(work: str) -> None:
    """An image of busybox, as a tar archive."""
    for name in ("bin", "etc", "www", "tmp", "proc", "sys", "dev"):
        os.makedirs("%s/root/%s" % (work, name))
    shutil.copy("/bin/busybox", work + "/root/bin/busybox")
    for applet in run(["/bin/busybox", "--list"]).split():
        if applet != "busybox":
            os.symlink("busybox", "%s/root/bin/%s" % (work, applet))
    with open(work + "/root/etc/passwd", "w") as file:
        file.write("root:x:0:0:root:/:/bin/sh\n")
    run(["tar", "-C", work + "/root", "-cf", work + "/rootfs.tar", "."])


def remove_cgroups() -> list[str]:
    """Removes our cgroups in every hierarchy, the deepest first; returns the names of those that could not be removed."""
    left = []
    tops = [CGROUPS, *(os.path.join(CGROUPS, name) for name in os.listdir(CGROUPS))]
    for top in tops:
        for path, _, _ in os.walk(os.path.join(top, NAME), topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                left.append(path)
    return left


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a Docker swarm on this machine, on pyrunc")
    parser.add_argument("--runtime", default=os.path.join(PROJECT, ".venv/bin/pyrunc"))
    parser.add_argument("--nodes", type=int, default=3, help="how many, at least 2 (3)")
    parser.add_argument("--replicas", type=int, nargs=2, metavar=("FEW", "MANY"), default=(3, 9), help="of the service (3 9)")
    parser.add_argument("--patience", type=int, default=PATIENCE, help="seconds for a step (%d)" % PATIENCE)
    return parser.parse_args()


def set_patience(seconds: int) -> None:
    global PATIENCE
    PATIENCE = seconds


def main() -> int:
    wanted = options()
    set_patience(wanted.patience)
    missing = [
        name for name in ("dockerd", "docker", "containerd", "ip", "iptables", "busybox", "nsenter") if not shutil.which(name, path=PATH)
    ]
    if os.geteuid() or missing:
        sys.exit("demo-swarm: %s" % ("not installed: " + ", ".join(missing) if missing else "root is needed"))
    work = tempfile.mkdtemp(prefix=NAME + "-")
    swarm, status = None, 0
    try:
        mesh, words = kernel()
        say(words)
        rootfs(work)
        swarm = Swarm(work, os.path.abspath(wanted.runtime), wanted.nodes, mesh)
        story(swarm, *wanted.replicas)
    except (Failed, subprocess.TimeoutExpired) as error:
        print("demo-swarm failed: %s" % error, file=sys.stderr)
        for node in swarm.nodes.values() if swarm else ():
            print("--- %s\n%s" % (node.log, node.last_words()), file=sys.stderr)
        status = 1
    finally:
        if swarm:
            swarm.close()
        try:
            until(lambda: "cgroups go: %s" % remove_cgroups(), lambda: not remove_cgroups())
        except Failed as error:
            print("demo-swarm: %s" % error, file=sys.stderr)
            status = 1
        shutil.rmtree(work)
    say("everything is gone: namespaces, cgroups, data" if not status else "cleaned up")
    print(json.dumps({"demo": "swarm", "ok": not status, "seconds": round(time.monotonic() - START, 1)}))
    return status


if __name__ == "__main__":
    sys.exit(main())
