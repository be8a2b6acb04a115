"""dockerd with --userns-remap: every container is in a user namespace that the runtime makes and maps."""

import contextlib

import pytest

from callers import IMAGE
from sandbox import BASE


@contextlib.contextmanager
def running(remapped, *words, command=("sleep", "1000")):
    """A detached container, removed by force at the end; gives its id."""
    name = remapped.run("-d", *words, IMAGE, *command).ok().out.strip()
    try:
        yield name
    finally:
        remapped("rm", "--force", name).ok()


def test_hello(remapped):
    assert remapped.run(IMAGE, "echo", "hello").ok().out == "hello\n"


def test_exit_status(remapped):
    remapped.run(IMAGE, "sh", "-c", "exit 7").exits(7)


@pytest.mark.parametrize(("status", "command"), [(127, "/no/such/file"), (126, "/etc/passwd")], ids=["missing path", "not executable"])
def test_command_that_cannot_run(remapped, status, command):
    assert f'exec: "{command}"' in remapped.run(IMAGE, command).exits(status).err


def test_ids(remapped):
    script = "id -u; cat /proc/self/uid_map; touch /made; stat -c %u /made /proc/1/status"
    assert remapped.run(IMAGE, "sh", "-c", script).ok().out.split() == ["0", "0", "200000", "65536", "0", "0"]


def test_user_namespace(remapped):
    assert remapped.run("--userns=host", IMAGE, "cat", "/proc/self/uid_map").ok().out.split() == ["0", "0", "4294967295"]


def test_user(remapped):
    assert remapped.run("--user=1000:1000", IMAGE, "sh", "-c", "id -u; id -g").ok().out == "1000\n1000\n"


def test_read_only(remapped):
    assert "Read-only file system" in remapped.run("--read-only", IMAGE, "touch", "/x").exits(1).err


def test_volume(remapped, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    assert remapped.run(f"--volume={BASE}/volume:/made/up:ro", IMAGE, "cat", "/made/up/in").ok().out == "from outside\n"


def test_tmpfs(remapped):
    assert remapped.run("--tmpfs=/scratch", IMAGE, "sh", "-c", "touch /scratch/x && stat -c %u /scratch").ok().out == "0\n"


def test_standard_devices(remapped):
    assert remapped.run(IMAGE, "sh", "-c", "echo x > /dev/null && head -c 2 /dev/zero | wc -c").ok().out == "2\n"


def test_memory_limit(remapped):
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    assert remapped.run("--memory=64m", IMAGE, "sh", "-c", script).ok().out == f"{64 << 20}\n"


def test_tty(remapped):
    assert remapped.run("--tty", IMAGE, "tty").ok().out.strip() == "/dev/pts/0"


def test_network_of_another_container(remapped):
    """The second container joins the first one's network and user namespaces by path."""
    with running(remapped) as name:
        script = "readlink /proc/self/ns/net; readlink /proc/self/ns/user"
        first = remapped("exec", name, "sh", "-c", script).ok().out
        assert remapped.run(IMAGE, "sh", "-c", script, network=f"container:{name}").ok().out == first


def test_stop_by_force(remapped):
    with running(remapped) as name:
        remapped("stop", "--time=0", name).ok()
        assert remapped("inspect", "--format", "{{.State.ExitCode}}", name).ok().out == "137\n"


@pytest.mark.needs_exec
def test_exec(remapped):
    with running(remapped, "--user=1000") as name:
        assert remapped("exec", name, "id", "-u").ok().out == "1000\n"
        assert remapped("exec", "--tty", "--user=0", name, "sh", "-c", "id -u; tty").ok().out.split() == ["0", "/dev/pts/0"]
        remapped("exec", name, "sh", "-c", "exit 9").exits(9)
