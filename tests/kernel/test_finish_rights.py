"""finish(): ids, groups, capabilities, no_new_privs and the umask (csrc/rights.c)."""

import errno
import os
import struct

import pytest

import kernel_constants
from pyrunc.linux import _syscalls, constants
from tail import ERRNO, fails, field, program, program_of_argument, returns, shows

pytestmark = pytest.mark.kernel


def _last_cap():
    return int(open("/proc/sys/kernel/cap_last_cap").read())


def _caps(text):
    return {name: int(field(text, name), 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}


def _have():
    return int(field(open("/proc/self/status").read(), "CapBnd"), 16)


def test_bounding_set_is_reduced():
    keep = (1 << kernel_constants.CAP_CHOWN) | (1 << kernel_constants.CAP_KILL)
    assert _caps(shows((("BOUND", keep, _last_cap()),)))["CapBnd"] == keep & _have()


def test_bounding_set_of_a_kernel_with_fewer_capabilities():
    assert _caps(shows((("BOUND", 0, 63),)))["CapBnd"] == 0


def test_bounding_set_without_the_right_to_reduce_it():
    record = fails((("CAPS", 0, 0, 0, 0), ("BOUND", 0, _last_cap())))
    assert (record.op, record.errno, record.call) == ("BOUND", errno.EPERM, "prctl")


def test_an_already_reduced_bounding_set_needs_no_rights():
    assert _caps(shows((("BOUND", 0, 63), ("CAPS", 0, 0, 0, 0), ("BOUND", 0, 63))))["CapBnd"] == 0


def test_ids_groups_and_all_five_sets():
    chown, kill = 1 << kernel_constants.CAP_CHOWN, 1 << kernel_constants.CAP_KILL
    ops = (
        ("BOUND", chown | kill, 63),
        ("IDS", 1234, 2345, struct.pack("=3I", 7, 5, 7)),
        ("CAPS", chown, chown | kill, chown | kill, kill),
    )
    text = shows(ops)
    assert field(text, "Uid").split() == ["1234"] * 4
    assert field(text, "Gid").split() == ["2345"] * 4
    assert field(text, "Groups").split() == ["5", "7", "7"]
    # execve as an ordinary user: permitted and effective become the ambient set
    assert _caps(text) == {"CapInh": chown | kill, "CapPrm": kill, "CapEff": kill, "CapBnd": chown | kill, "CapAmb": kill}


def test_sets_before_execve():
    chown, kill = 1 << kernel_constants.CAP_CHOWN, 1 << kernel_constants.CAP_KILL
    ops = (("IDS", 1234, 1234, b""), ("CAPS", chown, chown | kill, kill, 0))
    flags = kernel_constants.PR_GET_KEEPCAPS, kernel_constants.PR_GET_DUMPABLE
    got = returns(ops, lambda: (_syscalls.capget(0), *(_syscalls.prctl(flag) for flag in flags)))
    assert got == ((chown, chown | kill, kill), 0, 0)


def test_groups_none_leaves_them_alone_and_empty_clears_them():
    before = returns((), lambda: sorted(os.getgroups()), prepare=lambda: os.setgroups([4, 5]))
    assert before == [4, 5]
    assert returns((("IDS", 0, 0, None),), lambda: sorted(os.getgroups()), prepare=lambda: os.setgroups([4, 5])) == [4, 5]
    assert returns((("IDS", 0, 0, b""),), lambda: os.getgroups(), prepare=lambda: os.setgroups([4, 5])) == []


@pytest.mark.parametrize("uid, gid, call", [(0xFFFFFFFF, 0, "setresuid"), (0, 0xFFFFFFFF, "setresgid")])
def test_the_id_that_means_unchanged_is_detected(uid, gid, call):
    record = fails((("IDS", uid, gid, b""),))
    assert (record.op, record.detail, record.errno, record.call) == ("IDS", 6, errno.EINVAL, call)


IDS, CAPS = ("IDS", 5, 5, b""), ("CAPS", 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("op", "call"),
    [(IDS, "setgroups"), (IDS, "setresgid"), (IDS, "setresuid"), (IDS, "prctl"), (CAPS, "capget"), (CAPS, "capset"), (CAPS, "prctl")],
)
def test_a_call_that_is_denied_is_an_error(op, call):
    """Only a filter makes these calls fail: a failure must not be mistaken for success."""
    record = fails((("NNP",), ("FILTER", program([call], ERRNO | errno.EPERM), 0), op))
    assert (record.op, record.call, record.errno, record.detail) == (op[0], call, errno.EPERM, 0)


@pytest.mark.parametrize(
    ("op", "option"),
    [(IDS, kernel_constants.PR_SET_KEEPCAPS), (IDS, constants.PR_SET_DUMPABLE), (CAPS, kernel_constants.PR_SET_KEEPCAPS)],
)
def test_a_setting_that_is_denied_is_an_error(op, option):
    record = fails((("NNP",), ("FILTER", program_of_argument("prctl", option, ERRNO | errno.EPERM), 0), op))
    assert (record.op, record.call, record.errno, record.detail) == (op[0], "prctl", errno.EPERM, 0)


@pytest.mark.parametrize(
    ("op", "call", "number"), [(IDS, "setresgid", errno.EINVAL), (IDS, "setresuid", errno.EINVAL), (CAPS, "capset", errno.EPERM)]
)
def test_a_call_that_does_nothing_is_detected(op, call, number):
    """The filter returns 0 instead of the kernel."""
    record = fails((("NNP",), ("FILTER", program([call], ERRNO), 0), op))
    assert (record.op, record.call, record.errno, record.detail) == (op[0], call, number, 6)


def test_an_id_without_a_mapping():
    record = fails((("IDS", 5, 0, None),), flags=constants.CLONE_NEWUSER)
    assert (record.op, record.call, record.errno) == ("IDS", "setresgid", errno.EINVAL)


def test_groups_where_setgroups_is_denied():
    def user_namespace():
        uid = os.getuid()
        _syscalls.unshare(constants.CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % uid), ("gid_map", "0 %d 1" % uid)):
            with open("/proc/self/" + name, "w") as file:
                file.write(text)

    record = fails((("IDS", 0, 0, b""),), prepare=user_namespace)
    assert (record.call, record.errno) == ("setgroups", errno.EPERM)
    assert "Uid" in shows((("IDS", 0, 0, None),), prepare=user_namespace)


def test_more_capabilities_than_permitted():
    record = fails((("CAPS", 0, 0, 0, 0), ("CAPS", 1, 1, 0, 0)))
    assert (record.op, record.errno, record.call) == ("CAPS", errno.EPERM, "capset")


def test_an_ambient_capability_that_is_not_inheritable_is_left_out():
    kill = 1 << kernel_constants.CAP_KILL
    assert _caps(shows((("IDS", 1, 1, b""), ("CAPS", kill, kill, 0, kill))))["CapAmb"] == 0


def test_no_new_privs_and_umask():
    text = shows((("NNP",), ("UMASK", 0o027)), "umask; cat /proc/self/status", prepare=lambda: os.umask(0o777))
    assert text.splitlines()[0] == "0027"
    assert field(text, "NoNewPrivs") == "1"
