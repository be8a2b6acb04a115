"""The system calls of the extension on the real kernel: each is called once successfully and once with a failure. Those for mounts and
files are in test_syscalls_files.py."""

import errno
import os
import resource
import signal
import struct

import pytest

import kernel_constants
from pyrunc.linux import _syscalls, constants
from tail import Tail, capset, returns

pytestmark = pytest.mark.kernel


def fails_with(number, call, function, *args, **kw):
    with pytest.raises(OSError) as failed:
        function(*args, **kw)
    assert (failed.value.errno, failed.value.call) == (number, call)  # type: ignore[attr-defined]
    assert failed.value.strerror == os.strerror(number)
    return failed.value


# --- clone3


@pytest.mark.parametrize("name", ["NEWPID", "NEWNS", "NEWUTS", "NEWIPC", "NEWNET", "NEWCGROUP", "NEWUSER", "NEWTIME"])
def test_clone3_makes_namespaces(name):
    file = {"NEWNS": "mnt", "NEWTIME": "time"}.get(name, name[3:].lower())
    theirs = returns((), lambda: os.readlink("/proc/self/ns/" + file), flags=getattr(constants, "CLONE_" + name))
    assert theirs != os.readlink("/proc/self/ns/" + file)


def test_clone3_continues_in_python_as_pid_1_with_six_namespaces():
    flags = sum(getattr(constants, "CLONE_" + n) for n in ("NEWPID", "NEWNS", "NEWUTS", "NEWIPC", "NEWNET", "NEWCGROUP"))
    assert returns((), lambda: (os.getpid(), os.getppid()), flags=flags) == (1, 0)


def test_clone3_gives_a_pidfd_that_exec_closes():
    pid, fd = _syscalls.clone3(0)
    if pid == 0:
        os._exit(3)
    assert not os.get_inheritable(fd)
    info = os.waitid(os.P_PIDFD, fd, os.WEXITED)
    assert (info.si_pid, info.si_status) == (pid, 3)
    os.close(fd)


def test_clone3_passes_its_arguments_on():
    fails_with(errno.EBADF, "clone3", _syscalls.clone3, 0, cgroup_fd=999)
    fails_with(errno.EINVAL, "clone3", _syscalls.clone3, constants.CLONE_NEWNS | kernel_constants.CLONE_FS)
    fails_with(errno.EINVAL, "clone3", _syscalls.clone3, 0, exit_signal=99)


def test_hooks_of_the_interpreter_run_around_clone3():
    """In a child, because os.register_at_fork can't be undone."""

    def look():
        seen = []
        os.register_at_fork(before=lambda: seen.append("before"), after_in_parent=lambda: seen.append("parent"))
        pid, _fd = _syscalls.clone3(0)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return seen

    assert returns((), look) == ["before", "parent"]


# --- process


def test_capabilities():
    assert _syscalls.capget(0) == _syscalls.capget(os.getpid())

    def look():
        capset(1, 3, 1)
        return _syscalls.capget(0)

    assert returns((), look) == (1, 3, 1)
    fails_with(errno.ESRCH, "capget", _syscalls.capget, 0x7FFFFFFF)


def test_prctl():
    def look():
        _syscalls.prctl(kernel_constants.PR_SET_NAME, b"other\0")
        kill = kernel_constants.CAP_KILL
        have = _syscalls.capget(0)
        capset(have[0], have[1], 1 << kill)
        _syscalls.prctl(kernel_constants.PR_CAP_AMBIENT, kernel_constants.PR_CAP_AMBIENT_RAISE, kill)
        return open("/proc/self/comm").read().strip(), _syscalls.prctl(
            kernel_constants.PR_CAP_AMBIENT, kernel_constants.PR_CAP_AMBIENT_IS_SET, kill
        )

    assert returns((), look) == ("other", 1)
    fails_with(errno.EINVAL, "prctl", _syscalls.prctl, 99999)


def test_prlimit():
    def look():
        old = _syscalls.prlimit(0, resource.RLIMIT_NOFILE, 64, 128)
        return old == _syscalls.prlimit(0, resource.RLIMIT_NOFILE, None, None), _syscalls.prlimit(0, resource.RLIMIT_NOFILE, None, None)

    assert returns((), look, prepare=lambda: None)[1] == (64, 128)
    assert _syscalls.prlimit(0, kernel_constants.RLIMIT_AS, None, None)[1] == constants.RLIM_INFINITY
    fails_with(errno.EINVAL, "prlimit64", _syscalls.prlimit, 0, kernel_constants.RLIMIT_CORE, 5, 4)


def test_pidfd_getfd():
    tail = Tail((("SYNC",),), prepare=lambda: os.dup2(os.open("/etc/hostname", os.O_RDONLY), 900))
    assert tail.record().kind == "S"
    fd = _syscalls.pidfd_getfd(tail.pidfd, 900, 0)
    assert os.readlink("/proc/self/fd/%d" % fd) == "/etc/hostname" and not os.get_inheritable(fd)
    os.close(fd)
    fails_with(errno.EBADF, "pidfd_getfd", _syscalls.pidfd_getfd, tail.pidfd, 901, 0)
    tail.end()


def test_keyrings():
    name = "_ses.pt%d-syscalls" % os.getpid()  # only this run uses it

    def look():
        serial = _syscalls.join_session_keyring(name)
        found = _syscalls.keyctl(kernel_constants.KEYCTL_GET_KEYRING_ID, kernel_constants.KEY_SPEC_SESSION_KEYRING, 0)
        return serial == found, _syscalls.keyctl_describe(found).rpartition(b";")[2], _syscalls.join_session_keyring(None) > 0

    assert returns((), look) == (True, name.encode(), True)
    fails_with(errno.EOPNOTSUPP, "keyctl", _syscalls.keyctl, 9999)


def test_scheduling():
    def look():
        _syscalls.sched_setattr(0, kernel_constants.SCHED_BATCH, 0, 5, 0, 0, 0, 0, 0, 0)
        _syscalls.ioprio_set(
            kernel_constants.IOPRIO_WHO_PROCESS, 0, (kernel_constants.IOPRIO_CLASS_BE << kernel_constants.IOPRIO_CLASS_SHIFT) | 3
        )
        got = _syscalls.sched_getattr(0)
        return got[0], got[2], _syscalls.ioprio_get(kernel_constants.IOPRIO_WHO_PROCESS, 0) & 7

    assert returns((), look) == (kernel_constants.SCHED_BATCH, 5, 3)
    fails_with(errno.EINVAL, "sched_setattr", _syscalls.sched_setattr, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0)
    fails_with(errno.ESRCH, "sched_getattr", _syscalls.sched_getattr, 0x7FFFFFFF)
    fails_with(errno.EINVAL, "ioprio_set", _syscalls.ioprio_set, 99, 0, 0)
    fails_with(errno.EINVAL, "ioprio_get", _syscalls.ioprio_get, 99, 0)


def test_memory_policy_and_personality():
    def look():
        _syscalls.set_mempolicy(kernel_constants.MPOL_BIND, b"\1" + bytes(7), 64)
        mode, mask = _syscalls.get_mempolicy()
        before = _syscalls.personality(kernel_constants.ADDR_NO_RANDOMIZE)
        return mode, mask[:1], before, _syscalls.personality(0xFFFFFFFF)

    assert returns((), look) == (kernel_constants.MPOL_BIND, b"\1", 0, kernel_constants.ADDR_NO_RANDOMIZE)
    fails_with(errno.EINVAL, "set_mempolicy", _syscalls.set_mempolicy, 99, None, 0)
    with pytest.raises(ValueError):
        _syscalls.set_mempolicy(kernel_constants.MPOL_BIND, b"\1", 64)


def test_names_of_the_machine():
    def look():
        _syscalls.sethostname("host-name")
        _syscalls.setdomainname("domain.name")
        return os.uname().nodename, open("/proc/sys/kernel/domainname").read().strip()

    assert returns((), look, flags=constants.CLONE_NEWUTS) == ("host-name", "domain.name")
    fails_with(errno.EINVAL, "sethostname", _syscalls.sethostname, "x" * 65)
    fails_with(errno.EINVAL, "setdomainname", _syscalls.setdomainname, "x" * 65)


def test_execveat():
    fd = os.open("/bin/cat", os.O_RDONLY | os.O_CLOEXEC)
    args = ("name", "/proc/self/cmdline", "/proc/self/environ")
    tail = Tail((), after=lambda _fd: _syscalls.execveat(fd, "", args, ["A=b"], constants.AT_EMPTY_PATH))
    os.close(fd)
    assert tail.output() == b"name\0/proc/self/cmdline\0/proc/self/environ\0A=b\0"
    assert tail.status() == 0
    failed = fails_with(errno.ENOENT, "execve", _syscalls.execveat, constants.AT_FDCWD, "/nowhere", ("x",), (), 0)
    assert failed.filename == "/nowhere"


def test_reset_signals():
    def look():
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        _syscalls.reset_signals()
        lines = open("/proc/self/status").read().splitlines()
        return [line.split()[1] for line in lines if line[:6] in ("SigBlk", "SigIgn", "SigCgt")]

    assert returns((), look) == ["0" * 16] * 3


def test_wipe_environ():
    def look():
        _syscalls.wipe_environ()
        return open("/proc/self/environ", "rb").read().strip(b"\0"), open("/proc/self/cmdline", "rb").read().strip(b"\0")

    assert open("/proc/self/environ", "rb").read().strip(b"\0")
    assert returns((), look) == (b"", b"pyrunc init")


# --- seccomp and bpf


def test_seccomp_questions():
    fails_with(errno.EINVAL, "seccomp", _syscalls.seccomp, 99, 0, None)
    with pytest.raises(ValueError):
        _syscalls.seccomp(constants.SECCOMP_SET_MODE_FILTER, 0, b"no program")


def test_seccomp_filter():
    def look():
        allow = struct.pack("=HBBI", kernel_constants.BPF_RET | kernel_constants.BPF_K, 0, 0, kernel_constants.SECCOMP_RET_ALLOW)
        _syscalls.prctl(kernel_constants.PR_SET_NO_NEW_PRIVS, 1)
        listener = _syscalls.seccomp(constants.SECCOMP_SET_MODE_FILTER, kernel_constants.SECCOMP_FILTER_FLAG_NEW_LISTENER, allow)
        return _syscalls.prctl(kernel_constants.PR_GET_SECCOMP), os.get_inheritable(listener)

    assert returns((), look) == (2, False)


ALLOW_ALL = struct.pack("=BBhi", 0xB7, 0, 0, 1) + struct.pack("=BBhi", 0x95, 0, 0, 0)  # r0 = 1; exit


def test_device_programs():
    device = constants.BPF_PROG_TYPE_CGROUP_DEVICE
    fd = _syscalls.bpf_prog_load(device, ALLOW_ALL, "GPL", "allow", 0)
    assert os.readlink("/proc/self/fd/%d" % fd) == "anon_inode:bpf-prog"
    fails_with(errno.EBADF, "bpf", _syscalls.bpf_prog_attach, 999, fd, constants.BPF_CGROUP_DEVICE, constants.BPF_F_ALLOW_MULTI)
    fails_with(errno.EBADF, "bpf", _syscalls.bpf_prog_detach, 999, fd, constants.BPF_CGROUP_DEVICE)
    fails_with(errno.EBADF, "bpf", _syscalls.bpf_prog_query, 999, constants.BPF_CGROUP_DEVICE, 0)
    fails_with(errno.ENOENT, "bpf", _syscalls.bpf_prog_get_fd_by_id, 0x7FFFFFFF)
    os.close(fd)
    failed = fails_with(errno.EINVAL, "bpf", _syscalls.bpf_prog_load, device, ALLOW_ALL[:8], "GPL", "x", 65536)
    assert failed.log


def test_device_programs_of_a_cgroup():
    root = next((p for p in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if _syscalls.statfs(p)[0] == constants.CGROUP2_SUPER_MAGIC), None)
    if root is None:
        pytest.skip("this machine has no cgroup v2 mounted")
    path = "%s/pt%d-bpf" % (root, os.getpid())
    os.mkdir(path)
    try:
        group = os.open(path, os.O_DIRECTORY)
        kind = constants.BPF_CGROUP_DEVICE
        first, second = (_syscalls.bpf_prog_load(constants.BPF_PROG_TYPE_CGROUP_DEVICE, ALLOW_ALL, "GPL", "allow", 0) for _ in range(2))
        _syscalls.bpf_prog_attach(group, first, kind, constants.BPF_F_ALLOW_MULTI)
        before = _syscalls.bpf_prog_query(group, kind, 0)
        _syscalls.bpf_prog_attach(group, second, kind, constants.BPF_F_ALLOW_MULTI | constants.BPF_F_REPLACE, replace_fd=first)
        after = _syscalls.bpf_prog_query(group, kind, 0)
        assert len(before) == len(after) == 1 and before != after
        again = _syscalls.bpf_prog_get_fd_by_id(after[0])
        _syscalls.bpf_prog_detach(group, again, kind)
        assert _syscalls.bpf_prog_query(group, kind, 0) == []
        for fd in (group, first, second, again):
            os.close(fd)
    finally:
        os.rmdir(path)
