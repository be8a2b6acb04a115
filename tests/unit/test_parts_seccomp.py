"""seccomp: plans, refusals, and what is sent to the listener."""

import errno
import os
import socket

import pytest

from fakes.hand import Ctx, Run
from pyrunc.errors import Refusal, StepFailure, Unsupported
from pyrunc.linux import filters as f
from pyrunc.parts import seccomp
from pyrunc.parts.seccomp import profile

POINTER = "/linux/seccomp"


def plan(value, ctx=None):
    return seccomp.plan({POINTER: value}, ctx or Ctx(config={}))


def rule(names, action="SCMP_ACT_ALLOW", args=None, **more):
    return {"names": names if isinstance(names, list) else [names], "action": action, **({"args": args} if args else {}), **more}


def arg(index, op, value, second=None):
    return {"index": index, "op": "SCMP_CMP_" + op, "value": value, **({} if second is None else {"valueTwo": second})}


def deny(*rules, **more):
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule(["execve", "read", "write"]), *rules], **more}


def allow(*rules, **more):
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **more}


def refused(value):
    with pytest.raises((Refusal, Unsupported)) as caught:
        plan(value)
    return caught.value


def annotated(**annotations):
    return Ctx(plans={"meta": {"annotations": {getattr(profile, name): value for name, value in annotations.items()}}})


# ---- plan


def test_actions_become_numbers():
    actions = {
        "KILL": 0, "KILL_THREAD": 0, "KILL_PROCESS": 0x80000000, "TRAP": 0x00030000, "ERRNO": 0x00050001, "TRACE": 0x7FF00001,
        "LOG": 0x7FFC0000,
    }  # fmt: skip
    for name, number in actions.items():
        entry = plan(allow(rule("getpid", "SCMP_ACT_" + name)))
        assert entry["profile"]["rules"][0]["action"] == number, name
    assert plan(allow(rule("getpid", "SCMP_ACT_ERRNO", errnoRet=38)))["profile"]["rules"][0]["action"] == 0x50026
    assert plan(allow(rule("getpid", "SCMP_ACT_TRACE", errnoRet=65535)))["profile"]["rules"][0]["action"] == 0x7FF0FFFF
    assert plan({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 22})["profile"]["default"] == 0x50016


def test_nothing_to_do():
    assert plan({}) is None


def test_operators_and_one_rule_for_all_arguments():
    args = [arg(0, "EQ", 8), arg(1, "MASKED_EQ", 0xF0, 0x20), arg(5, "GE", 2**64 - 1)]
    rules = plan(deny(rule("personality", args=args)))["profile"]["rules"]
    assert rules[1]["args"] == [[0, 4, 8, 0], [1, 7, 0xF0, 0x20], [5, 5, 2**64 - 1, 0]]
    assert [f.OPERATORS["SCMP_CMP_" + name] for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")] == list(range(1, 8))


def test_an_index_given_twice_makes_separate_rules():
    rules = plan(deny(rule("personality", args=[arg(0, "EQ", 8), arg(1, "EQ", 9), arg(0, "EQ", 7)])))["profile"]["rules"]
    assert [r["args"] for r in rules[1:]] == [[[0, 4, 8, 0]], [[1, 4, 9, 0]], [[0, 4, 7, 0]]]


def test_bits_outside_of_the_mask_do_not_count():
    """The same as in libseccomp, and so in runc and crun. Otherwise a rule that denies a call would be lost."""
    ctx = Ctx(config={})
    entry = plan(deny(rule("clone", args=[arg(0, "MASKED_EQ", 0x0F, 0x13)])), ctx)
    assert entry["profile"]["rules"][1]["args"] == [[0, 7, 0x0F, 3]]
    assert [pointer for pointer, *_words in ctx.warnings] == [POINTER + "/syscalls/1/args/0/valueTwo"]


@pytest.mark.parametrize(
    ("value", "pointer", "words"),
    [
        ({"defaultAction": "SCMP_ACT_NO"}, "/defaultAction", "string SCMP_ACT_NO is not a valid action for seccomp"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "/defaultAction", "SCMP_ACT_NOTIFY cannot be used as default action"),
        (allow(defaultErrnoRet=1), "/defaultErrnoRet", "which returns none"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}, "/defaultErrnoRet", "larger than 4095"),
        (deny(rule("getpid", errnoRet=1)), "/syscalls/1/errnoRet", "which returns none"),
        (deny(rule("getpid", "SCMP_ACT_ERRNO", errnoRet=5000)), "/syscalls/1/errnoRet", "larger than 4095"),
        (deny(rule("getpid", "SCMP_ACT_TRACE", errnoRet=65536)), "/syscalls/1/errnoRet", "larger than 65535"),
        (deny(rule("getpid", "SCMP_ACT_LOUD")), "/syscalls/1/action", "not a valid action"),
        (deny(rule([])), "/syscalls/1/names", "without system call names"),
        (deny(rule(["getpid", ""])), "/syscalls/1/names/1", "empty"),
        (deny(rule("a\0")), "/syscalls/1/names/0", "NUL"),
        (deny(rule("getpid", args=[arg(0, "EQ", 1), arg(6, "EQ", 1)])), "/syscalls/1/args/1/index", "0 to 5"),
        (deny(rule("getpid", args=[arg(0, "LIKE", 1)])), "/syscalls/1/args/0/op", "not a valid operator"),
        (deny(rule("getpid", args=[arg(0, "EQ", 1, 2)])), "/syscalls/1/args/0/valueTwo", "MASKED_EQ only"),
        (deny(architectures=["SCMP_ARCH_X86", "SCMP_ARCH_VAX"]), "/architectures/1", "not a valid arch"),
        (deny(flags=["SECCOMP_FILTER_FLAG_FAST"]), "/flags/0", "is not known"),
        (deny(listenerMetadata="x"), "/listenerMetadata", "without listenerPath"),
        (deny(rule("getpid", "SCMP_ACT_NOTIFY")), "/listenerPath", "seccomp listenerPath is not set"),
        (deny(rule(["getpid", "write"], "SCMP_ACT_NOTIFY"), listenerPath="/l"), "/syscalls/1/names/1", "used for the write syscall"),
        (deny(rule("sendmsg", "SCMP_ACT_NOTIFY"), listenerPath="/l"), "/syscalls/1/names/0", "used for the sendmsg syscall"),
        (deny(rule("getpid", "SCMP_ACT_NOTIFY"), listenerPath="l"), "/listenerPath", "not an absolute path"),
        (deny(rule("getpid", "SCMP_ACT_NOTIFY"), listenerPath="/no/such"), "/listenerPath", "no such file or directory"),
        (deny(rule("getpid", "SCMP_ACT_NOTIFY"), listenerPath="/etc/passwd"), "/listenerPath", "is not a socket"),
        (deny(rule(["n%d" % i for i in range(20000)])), "/syscalls", "more than"),
    ],
)
def test_refusals(value, pointer, words):
    e = refused(value)
    assert e.pointer == POINTER + pointer and words in e.words


def test_value_two_of_zero_is_what_encoders_write():
    assert plan(deny(rule("getpid", args=[arg(0, "EQ", 1, 0)])))


def test_flags():
    given = plan(deny(flags=["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]))["flags"]
    assert given == f.FLAG_LOG | f.FLAG_SPEC_ALLOW
    assert plan(deny(flags=[]))["flags"] == 0
    assert plan(deny())["flags"] == f.FLAG_SPEC_ALLOW
    ctx = Ctx(config={})
    assert plan(deny(flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), ctx)["flags"] == 0
    assert ctx.warnings[0][0] == POINTER + "/flags/0"


def test_a_flag_that_the_kernel_lacks(monkeypatch):
    monkeypatch.setattr(f, "supports_flag", lambda flag: False)
    assert plan(deny())["flags"] == 0
    with pytest.raises(Unsupported) as caught:
        plan(deny(flags=["SECCOMP_FILTER_FLAG_LOG"]))
    assert caught.value.pointer == POINTER + "/flags/0"


def test_flags_are_probed_without_loading_anything():
    assert f.supports_flag(f.FLAG_LOG) and not f.supports_flag(1 << 20)
    with open("/proc/self/status") as status:
        assert "Seccomp:\t0" in status.read()


def test_listener(tmp_path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "s"))
    value = deny(rule("getppid", "SCMP_ACT_NOTIFY"), listenerPath=str(tmp_path / "s"), listenerMetadata="m")
    value["flags"] = ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    entry = plan(value)
    assert entry["notify"] and entry["listener"] == str(tmp_path / "s") and entry["metadata"] == "m"
    assert entry["flags"] == f.FLAG_WAIT_KILLABLE_RECV
    sock.close()
    assert plan(deny(listenerPath="/no/such"))["listener"] is None, "no rule notifies, so no listener is needed"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (deny(), True),
        ({"defaultAction": "SCMP_ACT_KILL"}, True),
        (deny(defaultErrnoRet=38), False),
        (allow(), False),
        ({"defaultAction": "SCMP_ACT_LOG"}, False),
        ({"defaultAction": "SCMP_ACT_TRACE"}, False),
    ],
)
def test_newer_calls_are_unknown_where_the_default_denies(value, expected):
    assert plan(value)["profile"]["enosys"] is expected


# ---- the listener


class Told(Run):
    pid = 77
    init_pid = 0  # a create
    id, bundle, annotations = "c", "/b", {"long": "x" * 300000}


@pytest.mark.parametrize("name", ["s", "d" * 90 + "/" + "s" * 60])
def test_the_listener_is_delivered(tmp_path, name):
    import array
    import json

    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    server = socket.socket(socket.AF_UNIX)
    parent = os.open(path.parent, os.O_PATH)
    server.bind("/proc/self/fd/%d/%s" % (parent, path.name))
    server.listen()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            seccomp.host_deliver({"listener": str(path), "metadata": "hello"}, Told(listener_fd=writer))
            os._exit(0)
        finally:
            os._exit(1)
    peer, _ = server.accept()
    data, extra, _flags, _from = peer.recvmsg(1 << 16, socket.CMSG_SPACE(8))
    while chunk := peer.recv(1 << 16):
        data += chunk
    assert os.waitpid(pid, 0)[1] == 0
    fds = array.array("i", extra[0][2][:4])
    os.write(fds[0], b"through")
    assert os.read(reader, 7) == b"through"
    state = json.loads(data)
    container = {"ociVersion": "1.3.0", "id": "c", "status": "creating", "pid": 77, "bundle": "/b"}
    assert state.pop("state") == {**container, "annotations": Told.annotations}
    assert state == {"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": 77, "metadata": "hello"}
    for fd in (reader, writer, parent, fds[0]):
        os.close(fd)


def test_exec_reports_the_pid_of_init_as_the_containers(tmp_path):
    import json

    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    server.listen()
    run = Told(init_pid=5, listener_fd=0, annotations={})
    seccomp.host_deliver({"listener": str(tmp_path / "s"), "metadata": None}, run)
    state = json.loads(server.accept()[0].recv(4096))
    container = {"ociVersion": "1.3.0", "id": "c", "status": "running", "pid": 5, "bundle": "/b"}
    assert state == {"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": 77, "state": container}


def test_nobody_listens(tmp_path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    server.close()
    with pytest.raises(StepFailure) as caught:
        seccomp.host_deliver({"listener": str(tmp_path / "s"), "metadata": None}, Told(listener_fd=0))
    assert caught.value.errno == errno.ECONNREFUSED and caught.value.pointer == POINTER + "/listenerPath"
