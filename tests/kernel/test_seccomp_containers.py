"""seccomp: filters in containers, for create and exec, and listeners that answer calls."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import struct
import threading

import pytest

import harness
from pyrunc.linux import filters as f
from tail import NUMBERS
from test_seccomp import HERE, MACHINE, allow, rule

pytestmark = pytest.mark.kernel
MKDIR = NUMBERS.get("mkdir", NUMBERS["mkdirat"])  # what busybox calls
NOTIF, RESPONSE = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101


# ---- in containers


def fields(text):
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def status_of(pid):
    with open("/proc/%d/status" % pid) as file:
        return fields(file.read())


# what a shell and cat of busybox call, names of all processors
NEEDED = [
    "execve", "brk", "mmap", "munmap", "mprotect", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "getrandom",
    "readlink", "readlinkat", "exit_group", "exit", "write", "read", "close", "close_range", "openat", "open", "fstat", "newfstatat",
    "getuid", "getgid", "setuid", "setgid", "geteuid", "getegid", "ioctl", "sendfile", "dup2", "fcntl", "rt_sigaction", "rt_sigprocmask",
    "rt_sigreturn", "sigaltstack", "futex", "getpid", "getppid", "stat", "lstat", "poll",
    *(() if MACHINE == "x86_64" else ("uname",)),  # the C library asks for the kernel's version when it starts, and ends without an answer
]  # fmt: skip
CAT = ["/bin/cat", "/proc/self/status"]


@pytest.mark.parametrize("nnp", [False, True])
def test_it_is_in_force_from_the_moment_it_is_loaded(pyrunc, make_bundle, no_leaks, nnp):
    profile = allow(rule(["mkdir", "mkdirat"], "SCMP_ACT_ERRNO", errnoRet=95))
    bundle = make_bundle({HERE: profile, "/process/noNewPrivileges": nnp}, args=harness.WAIT_FOR_TERM)
    id = pyrunc.create(bundle)
    pid = pyrunc.state(id)["pid"]
    created = status_of(pid)
    assert (created["Seccomp"], created["NoNewPrivs"]) == (("0", "1") if nnp else ("2", "0"))
    pyrunc.start(id)
    running = status_of(pid)
    assert running["Seccomp"] == "2" and running["Seccomp_filters"] == "1" and running["NoNewPrivs"] == str(int(nnp))
    inside = fields(pyrunc.ok("exec", id, *CAT).out)
    assert inside["Seccomp"] == "2" and inside["Seccomp_filters"] == "1"
    refused = pyrunc.call("exec", id, "mkdir", "/tmp/x")
    assert refused.code == 1 and "not supported" in refused.err
    pyrunc.ok("delete", "--force", id)


@pytest.mark.parametrize("nnp", [False, True])
def test_a_tight_profile(pyrunc, make_bundle, no_leaks, nnp):
    """It lacks all calls that prepare a process (setuid, capset, prctl, chdir, ...): they happen before the filter is loaded."""
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule(NEEDED)]}
    changes = {HERE: profile, "/process/noNewPrivileges": nnp, "/process/user": {"uid": 1000, "gid": 1000, "additionalGids": [5]}}
    result = pyrunc.run(make_bundle(changes, args=CAT))
    assert result.code == 0, result
    seen = fields(result.out)
    assert seen["Uid"].split() == ["1000"] * 4 and seen["Seccomp"] == "2"


@pytest.mark.parametrize("nnp", [False, True])
def test_a_profile_that_lets_nothing_start(pyrunc, make_bundle, no_leaks, nnp):
    changes = {HERE: {"defaultAction": "SCMP_ACT_KILL"}, "/process/noNewPrivileges": nnp}
    result = pyrunc.run(make_bundle(changes))
    assert result.code == 1 and "the seccomp profile answers execve with KILL_THREAD" in result.said and HERE in result.said, result


@pytest.mark.parametrize("nnp", [False, True])
def test_a_profile_that_kills_one_of_our_last_steps(pyrunc, make_bundle, no_leaks, nnp):
    killed = rule(["setresuid", "close_range"], "SCMP_ACT_KILL_PROCESS")
    result = pyrunc.run(make_bundle({HERE: allow(killed), "/process/noNewPrivileges": nnp}))
    assert result.code == 0, "they happen before the filter is loaded: %r" % result


def test_the_profile_of_docker(pyrunc, make_bundle, no_leaks):
    bundle = make_bundle.example("seccomp-docker")
    script = "unshare -U true; echo $?; mkdir /tmp/d && cat /proc/self/status"
    result = pyrunc.run(bundle.patch({"/process/args": ["/bin/sh", "-c", script]}))
    assert result.code == 0, result
    assert result.out.startswith("1\n") and "Operation not permitted" in result.err and fields(result.out)["Seccomp"] == "2"


def test_a_damaged_cache_never_gives_a_wrong_filter(pyrunc, make_bundle, no_leaks):
    bundle = make_bundle({HERE: allow(rule(["mkdir", "mkdirat"], "SCMP_ACT_ERRNO"))}, args=["/bin/mkdir", "/tmp/x"])
    assert pyrunc.run(bundle).code == 1
    (name,) = os.listdir(pyrunc.root)
    path = os.path.join(pyrunc.root, name)
    good = open(path, "rb").read()
    with open(path, "wb") as file:
        file.write(good[:-8] + f.pack([(6, 0, 0, f.ALLOW)]))
    assert pyrunc.run(bundle).code == 1
    assert open(path, "rb").read() == good


# ---- listeners


class Agent:
    """Answers one kind of call: a thread with a listening socket. `received`: (the state, the listener's descriptor) of each connection."""

    def __init__(self, path, answer):
        self.path = str(path)
        self.answer = answer
        self.received = []
        self.arrived = threading.Event()
        self.calls = []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.path)
        self.server.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            data, extra, _flags, _from = peer.recvmsg(1 << 16, socket.CMSG_SPACE(64))
            while chunk := peer.recv(1 << 16):
                data += chunk
            fds = struct.unpack("%di" % (len(extra[0][2]) // 4), extra[0][2])
            self.received.append((json.loads(data), fds))
            self.arrived.set()
            threading.Thread(target=self._answer, args=(fds[0],), daemon=True).start()

    def _answer(self, fd):
        while True:
            request = bytearray(NOTIF.size)
            try:
                fcntl.ioctl(fd, NOTIF_RECV, request)
            except OSError:  # the last process under the filter is gone
                return
            id, pid, _flags, number, _arch, _ip, *args = NOTIF.unpack(request)
            self.calls.append((number, pid))
            with contextlib.suppress(OSError):  # the caller ended while its call was pending
                fcntl.ioctl(fd, NOTIF_SEND, RESPONSE.pack(id, *self.answer(number, args)))

    def close(self):
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join()


@pytest.fixture
def agent(scratch):
    made = []

    def make(name, answer=lambda number, args: (0, -errno.EXDEV, 0)):
        made.append(Agent(scratch / name, answer))
        return made[-1]

    yield make
    for one in made:
        one.close()
        os.unlink(one.path)


def notifying(agent, names=("mkdir", "mkdirat"), **more):
    return allow(rule(list(names), "SCMP_ACT_NOTIFY"), listenerPath=agent.path, **more)


@pytest.mark.parametrize("nnp", [False, True])
def test_the_listener_answers(pyrunc, make_bundle, no_leaks, agent, nnp):
    one = agent("agent%d" % nnp)
    changes = {HERE: notifying(one, listenerMetadata="told"), "/process/noNewPrivileges": nnp, "/annotations": {"a": "b"}}
    bundle = make_bundle(changes, args=harness.WAIT_FOR_TERM)
    id = pyrunc.create(bundle)
    assert one.arrived.wait(harness.WATCHDOG) and len(one.received) == 1, "sent before create returned, read by a thread"
    state, fds = one.received[0]
    pid = pyrunc.state(id)["pid"]
    assert len(fds) == 1 and state["fds"] == ["seccompFd"] and state["metadata"] == "told" and state["pid"] == pid
    assert state["state"] == {
        "ociVersion": state["ociVersion"], "id": id, "status": "creating", "pid": pid, "bundle": str(bundle), "annotations": {"a": "b"},
    }  # fmt: skip
    assert os.readlink("/proc/self/fd/%d" % fds[0]) == "anon_inode:seccomp notify"
    pyrunc.start(id)
    tried = pyrunc.call("exec", id, "mkdir", "/tmp/x")
    assert tried.code == 1 and "ross-device" in tried.err, tried
    state, _fds = one.received[1]
    assert state["state"]["status"] == "running" and state["state"]["pid"] == pid != state["pid"]
    assert one.calls[0][0] in (MKDIR, NUMBERS["mkdirat"])
    pyrunc.ok("delete", "--force", id)


@pytest.mark.parametrize("nnp", [False, True])
def test_our_own_last_steps_may_be_notified(pyrunc, make_bundle, no_leaks, agent, nnp):
    """read, close, execve, setresuid and capset go to the agent, which lets them continue (SECCOMP_USER_NOTIF_FLAG_CONTINUE)."""
    one = agent("steps%d" % nnp, lambda number, args: (0, 0, 1))
    names = ("read", "close", "execve", "setresuid", "capset", "close_range", "prctl")
    changes = {HERE: notifying(one, names, flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), "/process/noNewPrivileges": nnp}
    result = pyrunc.run(make_bundle(changes, args=CAT))
    assert result.code == 0 and fields(result.out)["Seccomp"] == "2", result
    assert NUMBERS["execve"] in {number for number, _pid in one.calls}


def test_nobody_listens(pyrunc, make_bundle, no_leaks, scratch):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(scratch / "dead"))
    dead.close()
    profile = allow(rule("mkdir", "SCMP_ACT_NOTIFY"), listenerPath=str(scratch / "dead"))
    result = pyrunc.call("create", "--bundle", make_bundle({HERE: profile}), pyrunc.new_id())
    assert result.code == 1 and "failed to connect with seccomp agent" in result.said and "connection refused" in result.said, result
    assert "/linux/seccomp/listenerPath" in result.said


def test_a_long_path(pyrunc, make_bundle, no_leaks, scratch, monkeypatch):
    folder = scratch / ("long" * 30)
    folder.mkdir()
    monkeypatch.chdir(folder)
    one = Agent("agent", lambda number, args: (0, -errno.EXDEV, 0))
    one.path = str(folder / "agent")
    result = pyrunc.run(make_bundle({HERE: notifying(one)}, args=["/bin/mkdir", "/tmp/x"]))
    assert result.code == 1 and "ross-device" in result.err, result
    one.close()
