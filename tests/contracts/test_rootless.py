"""podman of an ordinary user: the runtime is root of a user namespace that podman made, and may not touch cgroups."""

import contextlib

import pytest

from callers import IMAGE, packages_missing
from sandbox import BASE, UID, wait_until


@contextlib.contextmanager
def running(rootless, *words, command=("sleep", "1000")):
    """A detached container, removed by force at the end; gives its id."""
    name = rootless.run("-d", *words, IMAGE, *command).ok().out.strip()
    try:
        yield name
    finally:
        rootless("rm", "--force", "--time=0", name).ok()


def test_hello(rootless):
    assert rootless.run(IMAGE, "echo", "hello").ok().out == "hello\n"


def test_exit_status(rootless):
    rootless.run(IMAGE, "sh", "-c", "exit 7").exits(7)


@pytest.mark.parametrize(("status", "command"), [(127, "/no/such/file"), (126, "/etc/passwd")], ids=["missing path", "not executable"])
def test_command_that_cannot_run(rootless, status, command):
    assert f'exec: "{command}"' in rootless.run(IMAGE, command).exits(status).err


def test_ids(rootless):
    script = "id -u; cat /proc/self/uid_map; touch /made; stat -c %u /made"
    assert rootless.run(IMAGE, "sh", "-c", script).ok().out.split() == ["0", "0", "4321", "1", "1", "200000", "65536", "0"]


def test_user(rootless):
    assert rootless.run("--user=1000:1000", IMAGE, "sh", "-c", "id -u; id -g").ok().out == "1000\n1000\n"


def test_user_namespace(rootless):
    out = rootless.run("--userns=keep-id", IMAGE, "sh", "-c", "id -u; cat /proc/self/uid_map | wc -l").ok().out
    assert out == "4321\n3\n"


def test_volume(rootless, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    assert rootless.run(f"--volume={BASE}/volume:/data:ro", IMAGE, "cat", "/data/in").ok().out == "from outside\n"
    assert "Read-only file system" in rootless.run(f"--volume={BASE}/volume:/data:ro", IMAGE, "touch", "/data/x").exits(1).err


def test_read_only(rootless):
    assert "Read-only file system" in rootless.run("--read-only", IMAGE, "touch", "/x").exits(1).err


def test_tmpfs(rootless):
    assert rootless.run("--tmpfs=/www", IMAGE, "cat", "/www/index.html").ok().out == "served\n"


def test_standard_devices(rootless):
    script = "echo x > /dev/null && head -c 2 /dev/zero | wc -c; stat -c %t:%T /dev/full"
    assert rootless.run(IMAGE, "sh", "-c", script).ok().out == "2\n1:7\n"


def test_network_host(rootless, world):
    inside = rootless.run(IMAGE, "readlink", "/proc/self/ns/net", network="host").ok().out
    assert inside == world.run(["readlink", "/proc/self/ns/net"]).out


def test_host_namespaces(rootless, world):
    script = "for name in pid uts; do readlink /proc/self/ns/$name; done"
    inside = rootless.run("--pid=host", "--uts=host", IMAGE, "sh", "-c", script).ok().out
    assert inside == world.run(["sh", "-c", script]).out


def test_seccomp_default(rootless):
    assert rootless.run(IMAGE, "grep", "Seccomp:", "/proc/self/status").ok().out.split()[1] == "2"


def test_privileged(rootless):
    assert rootless.run("--privileged", IMAGE, "sh", "-c", "mkdir /x && mount -t tmpfs none /x && echo mounted").ok().out == "mounted\n"


def test_tty(rootless):
    assert rootless.run("--tty", IMAGE, "tty").ok().out.strip() == "/dev/pts/0"


def test_systemd_mode(rootless):
    assert rootless.run("--systemd=always", IMAGE, "grep", "-c", "-e", " /run/lock ", "/proc/self/mounts").ok().out == "1\n"


def test_stop(rootless):
    with running(rootless, command=("sh", "-c", "trap 'exit 3' TERM; echo set; while :; do sleep 0.05; done")) as name:
        wait_until("the trap is set", lambda: rootless("logs", name).out)
        rootless("stop", "--time=20", name).ok()
        assert rootless("inspect", "--format", "{{.State.ExitCode}}", name).ok().out == "3\n"


@pytest.mark.needs_exec
def test_exec(rootless):
    with running(rootless, "--user=1000") as name:
        assert rootless("exec", name, "id", "-u").ok().out == "1000\n"
        assert rootless("exec", "--tty", "--user=0", name, "sh", "-c", "id -u; tty").ok().out.split() == ["0", "/dev/pts/0"]
        rootless("exec", name, "sh", "-c", "exit 9").exits(9)


@pytest.mark.caller("buildah rootless")
def test_build_by_buildah(rootless, world):
    """buildah of a user: RUN steps in its user namespace, one as another user of the image, with a secret."""
    missing = packages_missing(["buildah"])
    if missing:
        pytest.skip("not installed: buildah")
    world.write(f"{BASE}/rootless-build/secret", "hush")
    text = (
        f"FROM localhost/{IMAGE}\nRUN --mount=type=secret,id=word cat /run/secrets/word > /built; id -u >> /built\n"
        "USER app\nRUN id -u > /tmp/user; cat /proc/self/uid_map > /tmp/map\n"
    )
    world.write(f"{BASE}/rootless-build/Containerfile", text)
    words = [
        "--runtime",
        rootless.runtime,
        "--isolation=rootless",
        "--network=none",
        "--ulimit=nofile=1024:1024",
        "--ulimit=nproc=1024:1024",
    ]
    secret = f"--secret=id=word,src={BASE}/rootless-build/secret"
    rootless.buildah("build", *words, secret, "--tag=built", f"{BASE}/rootless-build").ok()
    try:
        out = rootless.run("built", "cat", "/built", "/tmp/user", "/tmp/map").ok().out.split()
        assert out[:5] == ["hush0", "1000", "0", str(UID), "1"], out
    finally:
        rootless("rmi", "--force", "built").ok()
