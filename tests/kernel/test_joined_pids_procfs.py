"""procfs for a pid namespace of others, on a kernel without the option pidns=: the process that creates it has nothing to steal, and what
it sends is checked."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import subprocess
import time
from collections.abc import Iterator

import pytest

import harness
from pyrunc.errors import CallError
from pyrunc.linux import _syscalls, constants, mount
from tail import capset, returns
from test_joined_pids import neighbour, others_in  # noqa: F401  # a fixture

pytestmark = pytest.mark.kernel


def test_a_context_from_inside(neighbour):  # noqa: F811
    fd = os.open("/proc/%d/ns/pid" % neighbour, os.O_RDONLY)
    context = _syscalls.proc_context(fd)
    _syscalls.fsconfig(context, constants.FSCONFIG_CMD_CREATE, None, None, 0)
    top = _syscalls.fsmount(context, constants.FSMOUNT_CLOEXEC, 0)
    assert mount.magic(top) == constants.PROC_SUPER_MAGIC
    assert os.stat("1/ns/pid", dir_fd=top).st_ino == os.fstat(fd).st_ino
    for one in (fd, context, top):
        os.close(one)


@pytest.mark.parametrize("fstype", ["proc", "tmpfs", "sysfs", "ext4"])
def test_a_context_of_another_file_system_is_not_used(monkeypatch, neighbour, fstype):  # noqa: F811
    """A process that was taken over could send one: completed with our privileges, it would mount what that process chose."""

    def hostile(_pid_ns):
        context = _syscalls.fsopen(fstype, constants.FSOPEN_CLOEXEC)
        with contextlib.suppress(OSError):  # with an error message of its choice
            _syscalls.fsconfig(context, constants.FSCONFIG_SET_STRING, "x'\ne proc: Unknown parameter 'x", "1", 0)
        return context

    def old_kernel(context, cmd, *rest):
        if cmd == constants.FSCONFIG_SET_FD:
            raise CallError(errno.EINVAL, "Invalid argument", None, "fsconfig")
        real(context, cmd, *rest)

    real = _syscalls.fsconfig
    monkeypatch.setattr(mount._syscalls, "proc_context", hostile)
    monkeypatch.setattr(mount._syscalls, "fsconfig", old_kernel)
    fd = os.open("/proc/%d/ns/pid" % neighbour, os.O_RDONLY)
    try:
        if fstype == "proc":
            os.close(mount.procfs_of(fd))
            return
        with pytest.raises(PermissionError):
            mount.procfs_of(fd)
    finally:
        os.close(fd)


RUNTIME = str(pathlib.Path(_syscalls.__file__).parents[2])  # the extension under test, such as one with sanitizers
SLOW = (
    "import os, sys; sys.path.insert(0, sys.argv[1]); from pyrunc.linux import _syscalls; _syscalls.proc_context(os.open(sys.argv[2], 0))"
)


@contextlib.contextmanager
def held_up(neighbour: int, calls: str = "/dev/null", secret: str = "") -> Iterator[pathlib.Path]:  # noqa: F811
    """The directory in /proc of the process that creates the context and that neighbours may see, delayed before it sends the context."""
    slow = ["strace", "-f", "-qq", "-o", calls, "-e", "trace=keyctl,sendmsg", "-e", "inject=sendmsg:delay_enter=3000000"]
    argv = [*slow, "/usr/bin/python3", "-I", "-B", "-c", SLOW, RUNTIME, "/proc/%d/ns/pid" % neighbour, secret]
    shared = os.readlink("/proc/%d/ns/pid" % neighbour)
    with subprocess.Popen(argv) as command:
        end = time.monotonic() + harness.WATCHDOG
        while not (found := others_in(shared, neighbour)):
            assert command.poll() is None and time.monotonic() < end, "it was never seen"
        yield pathlib.Path("/proc/%d" % found[0])
        assert command.wait(harness.WATCHDOG) == 0


def test_the_process_that_creates_the_context_has_nothing_to_steal(neighbour, tmp_path):  # noqa: F811
    """It runs as nobody, in separate namespaces and an empty root, with one descriptor, and without the memory and the keys of the caller."""
    secret = "s3cret-of-the-caller"
    with held_up(neighbour, str(tmp_path / "calls"), secret) as folder:
        status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
        assert status["Uid"].split() == ["65534"] * 4 and status["Groups"].strip() == "" and status["NoNewPrivs"] == "1"
        for kind in ("user", "mnt", "net", "ipc", "uts"):
            assert os.readlink(folder / "ns" / kind) != os.readlink("/proc/self/ns/" + kind), kind
        assert os.listdir(folder / "root") == []
        links = [os.readlink(entry) for entry in (folder / "fd").iterdir()]
        assert [link.partition(":")[0] for link in links if link != "anon_inode:[fscontext]"] == ["socket"], links
        assert secret.encode() not in heap_of(folder)
    assert "keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)" in (tmp_path / "calls").read_text()


def test_its_namespaces_lead_to_no_file_of_the_host(neighbour):  # noqa: F811
    """The host's root takes the place of a neighbour that has written the id maps: even then, no mount leads to the host's files."""
    with held_up(neighbour) as folder:
        pid = os.fork()
        if pid == 0:
            for name in ("uid_map", "gid_map"):
                (folder / name).write_text("0 0 4294967295")
            spaces = [os.open(folder / "ns" / kind, os.O_RDONLY) for kind in ("user", "mnt")]
            for fd in spaces:
                _syscalls.setns(fd, 0)
            os.setgid(0)
            os.setuid(0)
            found = os.listdir("/")
            with contextlib.suppress(OSError):
                _syscalls.umount2("/", constants.MNT_DETACH)
            _syscalls.setns(spaces[1], 0)
            os._exit(0 if found == os.listdir("/") == [] else 1)
        assert os.waitpid(pid, 0)[1] == 0


def heap_of(folder: pathlib.Path) -> bytes:
    found = []
    with open(folder / "mem", "rb") as memory:
        for line in (folder / "maps").read_text().splitlines():
            fields = line.split()
            if fields[1].startswith("rw") and (len(fields) == 5 or fields[5] == "[heap]"):
                start, end = (int(word, 16) for word in fields[0].split("-"))
                memory.seek(start)
                found.append(memory.read(end - start))
    return b"".join(found)


# Creates a procfs for the pid namespace of a child.
IN_A_USER_NAMESPACE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pyrunc.linux import _syscalls, constants
reader, writer = os.pipe()
pid, _fd = _syscalls.clone3(constants.CLONE_NEWPID)
if pid == 0:
    os.close(writer)
    os.read(reader, 1)
    os._exit(0)
fd = os.open("/proc/%d/ns/pid" % pid, os.O_RDONLY)
context = _syscalls.proc_context(fd)
_syscalls.fsconfig(context, constants.FSCONFIG_CMD_CREATE, None, None, 0)
top = _syscalls.fsmount(context, constants.FSMOUNT_CLOEXEC, 0)
print(os.stat("1/ns/pid", dir_fd=top).st_ino == os.fstat(fd).st_ino, open("/proc/self/setgroups").read().strip())
"""


@pytest.mark.parametrize(("count", "setgroups"), [(1, "deny"), (1000, "allow")], ids=["one id", "a thousand"])
def test_a_context_where_nobody_has_no_id(count, setgroups):
    """As in rootless containers without subordinate ids: nobody is not mapped, and with a single id, groups can't be set. (The test writes the
    maps itself: unshare's options for them differ between versions, and older ones call newuidmap.)"""
    program = ["unshare", "--mount", "/usr/bin/python3", "-I", "-B", "-c", IN_A_USER_NAMESPACE, RUNTIME]
    argv = ["unshare", "--user", "sh", "-c", 'echo unmapped; read -r word; exec "$@"', "sh", *program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "unmapped\n"
        for name, text in (("setgroups", setgroups), ("uid_map", "0 0 %d" % count), ("gid_map", "0 0 %d" % count)):
            with open("/proc/%d/%s" % (child.pid, name), "w") as file:
                file.write(text)
        done = child.communicate("mapped\n", timeout=harness.WATCHDOG)
    assert done == ("True %s\n" % setgroups, "")


@pytest.mark.parametrize("name", ["CAP_SETGID", "CAP_SETUID"])
def test_a_caller_that_may_not_change_its_ids(neighbour, name):  # noqa: F811
    """If nobody is mapped, keeping the caller's ids is a failure that names the call."""
    number = {"CAP_SETGID": 6, "CAP_SETUID": 7}[name]
    fd = os.open("/proc/%d/ns/pid" % neighbour, os.O_RDONLY)

    def look():
        effective, permitted, _inheritable = _syscalls.capget(0)
        capset(effective & ~(1 << number), permitted & ~(1 << number), 0)
        try:
            _syscalls.proc_context(fd)
        except CallError as e:
            return e.errno, e.call

    assert returns((), look) == (errno.EPERM, "setresgid" if name == "CAP_SETGID" else "setresuid")
    os.close(fd)


def test_a_file_that_is_not_a_namespace():
    with open("/dev/null") as file, pytest.raises(OSError) as e:
        _syscalls.proc_context(file.fileno())
    assert e.value.call == "setns"  # type: ignore[attr-defined]
