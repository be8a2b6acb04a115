"""Annotations with an effect, in complete containers: with and without --allow-annotation-paths."""

import base64
import os
import socket
import struct

import pytest

import harness

pytestmark = pytest.mark.kernel
ALLOW = ("--allow-annotation-paths",)
NOTIFY = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
}


@pytest.fixture
def listening(scratch):
    """(path, socket) of a listening unix socket."""
    path = scratch / ("s%d" % len(os.listdir(scratch)))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        sock.settimeout(harness.WATCHDOG)
        yield str(path), sock
    path.unlink()


def annotated(**values):
    return {"/annotations": {"run.oci." + key: value for key, value in values.items()}}


def test_pidfd_receiver(pyrunc, make_bundle, listening):
    path, sock = listening
    bundle = make_bundle(annotated(pidfd_receiver=path), args=harness.WAIT_FOR_TERM)
    id = pyrunc.create(bundle, globals=ALLOW)
    peer, _ = sock.accept()
    _data, fds, _flags, _ = socket.recv_fds(peer, 100, 2)
    peer.close()
    with open("/proc/self/fdinfo/%d" % fds[0], encoding="ascii") as file:
        assert "Pid:\t%d\n" % pyrunc.state(id)["pid"] in file.read()
    os.close(fds[0])


def test_an_image_cannot_set_the_pidfd_receiver(pyrunc, make_bundle, listening):
    path, sock = listening
    sock.setblocking(False)
    pyrunc.create(make_bundle(annotated(pidfd_receiver=path), args=harness.WAIT_FOR_TERM))
    with pytest.raises(BlockingIOError):
        sock.accept()


def test_no_receiver_for_the_pidfd(pyrunc, make_bundle, scratch, no_leaks):
    bundle = make_bundle(annotated(pidfd_receiver=str(scratch / "none")))
    result = pyrunc.call("create", "--bundle", bundle, pyrunc.new_id(), globals=ALLOW)
    assert result.code == 1 and "cannot send the pidfd" in result.err


@pytest.mark.parametrize("allowed", [True, False])
def test_output_of_hooks(pyrunc, make_bundle, tmp_path, allowed):
    notes = {"run.oci.hooks.stdout": str(tmp_path / "out"), "run.oci.hooks.stderr": str(tmp_path / "err")}
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo said; echo complained >&2"]}
    bundle = make_bundle({"/annotations": notes, "/hooks": {"createRuntime": [hook], "poststop": [hook]}})
    pyrunc.ok("run", "--bundle", bundle, pyrunc.new_id(), globals=ALLOW if allowed else ())
    if allowed:
        assert (tmp_path / "out").read_text() == "said\n" * 2
        assert (tmp_path / "err").read_text() == "complained\n" * 2
    else:
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("keep", "allowed"), [("1", True), ("1", False), ("0", True)])
def test_groups(pyrunc, make_bundle, keep, allowed):
    changes = {**annotated(keep_original_groups=keep), "/process/user/additionalGids": [7]}
    bundle = make_bundle(changes, args=["/bin/sh", "-c", "grep ^Groups: /proc/self/status"])
    result = pyrunc.ok("run", "--bundle", bundle, pyrunc.new_id(), globals=ALLOW if allowed else (), extra_groups=[4, 27])
    assert result.out.split()[1:] == (["4", "27"] if keep == "1" and allowed else ["7"])


def test_handler(pyrunc, make_bundle, no_leaks):
    result = pyrunc.call("create", "--bundle", make_bundle(annotated(handler="wasm")), pyrunc.new_id())
    assert result.code == 1 and "the handler wasm is not available (/annotations/run.oci.handler)" in result.err


def raw(*instructions):
    return base64.b64encode(b"".join(struct.pack("=HBBI", *one) for one in instructions)).decode()


EPERM_FOR_ALL_BUT = 0x50000 | 1
UNAME = {"x86_64": 63, "aarch64": 160}


@pytest.mark.parametrize("allowed", [True, False])
def test_raw_filter(pyrunc, make_bundle, allowed):
    """The raw program makes uname(2) fail with EPERM; the profile that it replaces has no rules."""
    number = UNAME.get(os.uname().machine)
    if number is None:
        pytest.skip("this test does not know the system call numbers of this machine")
    program = raw((0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, EPERM_FOR_ALL_BUT), (0x06, 0, 0, 0x7FFF0000))
    changes = {**annotated(seccomp_bpf_data=program), "/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}
    result = pyrunc.call("run", "--bundle", make_bundle(changes, args=["/bin/uname"]), pyrunc.new_id(), globals=ALLOW if allowed else ())
    assert result.out.strip() == ("" if allowed else "Linux"), result


def receives_listener(sock):
    peer, _ = sock.accept()
    data, fds, _flags, _ = socket.recv_fds(peer, 65536, 2)
    peer.close()
    for fd in fds:
        os.close(fd)
    return len(fds) == 1 and b"seccompFd" in data


def test_seccomp_receiver(pyrunc, make_bundle, listening):
    path, sock = listening
    changes = {"/annotations": {"run.oci.seccomp.receiver": path}, "/linux/seccomp": NOTIFY}
    bundle = make_bundle(changes, args=harness.WAIT_FOR_TERM)
    pyrunc.create(bundle, globals=ALLOW)
    assert receives_listener(sock)
    result = pyrunc.call("create", "--bundle", bundle, pyrunc.new_id())
    assert result.code == 1 and "listenerPath is not set" in result.err


def test_seccomp_receiver_of_the_environment(pyrunc, make_bundle, listening):
    """The caller's environment counts for create and, because it is in the plan, for exec."""
    path, sock = listening
    bundle = make_bundle({"/linux/seccomp": NOTIFY}, args=harness.WAIT_FOR_TERM)
    id = pyrunc.create(bundle, env={**pyrunc.env, "RUN_OCI_SECCOMP_RECEIVER": path})
    assert receives_listener(sock)
    pyrunc.start(id)
    pyrunc.ok("exec", id, "/bin/true")
    assert receives_listener(sock)


@pytest.mark.parametrize("value", ["1", "0"])
def test_unknown_system_calls(pyrunc, make_bundle, value):
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}]}
    result = pyrunc.run(make_bundle({**annotated(seccomp_fail_unknown_syscall=value), "/linux/seccomp": seccomp}))
    assert (result.code == 0) is (value == "0")
    assert value == "0" or "no_such_call" in result.err


@pytest.mark.parametrize("key", ["systemd.subgroup", "delegate-cgroup"])
def test_sub_cgroups_stay_inside(pyrunc, make_bundle, key, no_leaks):
    changes = {"/annotations": {"run.oci." + key: "../elsewhere"}}
    if key == "systemd.subgroup":
        changes["/linux/cgroupsPath"] = "system.slice:pyrunc:x"  # type: ignore[assignment]
    globals = ("--systemd-cgroup",) if key == "systemd.subgroup" else ()
    result = pyrunc.call("create", "--bundle", make_bundle(changes), pyrunc.new_id(), globals=globals)
    assert result.code == 1 and "(/annotations/run.oci.%s)" % key in result.err, result
