"""Ids, groups and capabilities: the program has those in the config, and never those of root by accident."""

import pytest

import harness
from advisory_tools import ordinary_user

pytestmark = pytest.mark.kernel

WHO = ["/bin/sh", "-c", "id -u; id -g; id -G"]


def sets(text):
    return {line.split()[0].rstrip(":"): int(line.split()[1], 16) for line in text.splitlines() if line.startswith("Cap")}


# In the image the user named 1000 is root; a runtime that looks up the number as a name would become root.
LINES = "%s:x:0:0::/:/bin/sh\nroot:x:0:0::/:/bin/sh\n"


def test_cve_2016_3697_run_as_a_number_that_is_a_name(runtime, make_bundle):
    bundle = make_bundle({"/process/user": {"uid": 1000, "gid": 1000}}, args=WHO)
    (bundle.rootfs / "etc/passwd").write_text(LINES % 1000)
    (bundle.rootfs / "etc/group").write_text("1000:x:0:\n")
    assert runtime.run(bundle).out.split()[:2] == ["1000", "1000"]


@pytest.mark.parametrize("form", ["1000", "1000:1000"])
def test_cve_2016_3697_exec_as_a_number_that_is_a_name(runtime, make_bundle, form):
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    (bundle.rootfs / "etc/passwd").write_text(LINES % 1000)
    (bundle.rootfs / "etc/group").write_text("1000:x:0:\n")
    result = runtime.call("exec", "--user", form, runtime.started(bundle), *WHO)
    assert result.code == 0 and result.out.split()[0] == "1000", result


def test_cve_2016_8867_no_capability_from_the_bounding_set(runtime, make_bundle):
    changes = {"/process/user": {"uid": 1000, "gid": 1000}, "/process/capabilities": {"bounding": ["CAP_KILL", "CAP_NET_RAW"]}}
    result = runtime.run(make_bundle(changes, args=["/bin/cat", "/proc/self/status"]))
    assert result.code == 0, result
    seen = sets(result.out)
    assert (seen["CapPrm"], seen["CapEff"], seen["CapInh"], seen["CapAmb"]) == (0, 0, 0, 0)


@pytest.mark.parametrize("user", ["0", "1000:1000"])
def test_cve_2022_29162_exec_cap_is_not_inheritable(runtime, make_bundle, user):
    changes = {"/process/capabilities": {k: ["CAP_KILL"] for k in ("bounding", "effective", "permitted")}}
    live = runtime.started(make_bundle(changes, args=harness.WAIT_FOR_TERM))
    seen = sets(runtime.ok("exec", "--user", user, "--cap", "CAP_SYS_ADMIN", live, "/bin/cat", "/proc/self/status").out)
    assert (seen["CapInh"], seen["CapAmb"]) == (0, 0), "a program with file capabilities could raise it"


def test_cve_2022_29162_run_gives_nothing_inheritable(runtime, make_bundle):
    changes = {"/process/capabilities": {k: ["CAP_KILL"] for k in ("bounding", "effective", "permitted")}}
    seen = sets(runtime.run(make_bundle(changes, args=["/bin/cat", "/proc/self/status"])).out)
    assert (seen["CapInh"], seen["CapAmb"]) == (0, 0)


# The requested user, and the uids that the program may have; never 0 unless 0 was requested. None: refusing it is fine too.
FORMS = {
    "1": {1}, "1:2": {1}, "01": {1, None}, "1:": {1, None}, " 1": {1, None}, "+1": {1, None}, ":1": {None},
    "1a": {None}, "-1": {None}, "0x1": {1, None}, "4294967295": {None}, "1:1:1": {None}, "1_0": {None, 10}, "nosuchname": {None},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_cve_2026_30892_exec_user_never_root_by_accident(runtime, waiting, harmless, form):
    live = runtime.started(waiting)
    assert harmless.exec(live, args=["/bin/id", "-u"]) == "0\n"
    result = runtime.call("exec", "--user=%s" % form, live, "/bin/id", "-u")
    assert (int(result.out) if result.code == 0 else None) in FORMS[form], result  # type: ignore[operator]


@pytest.mark.parametrize("number", ["4294967296", "18446744073709551616", "99999999999"])
def test_cve_2026_46680_a_number_too_large_is_no_name(runtime, make_bundle, harmless, number):
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    (bundle.rootfs / "etc/passwd").write_text(LINES % number)
    live = runtime.started(bundle)
    assert harmless.exec(live, args=["/bin/id", "-u"]) == "0\n"
    result = runtime.call("exec", "--user", number, live, "/bin/id", "-u")
    assert result.code != 0 and result.out != "0\n", result


@pytest.mark.parametrize("uid", [2147483648, 4294967294, 4294967295, 4294967296, 2**64, -1, 1.5, "1000", True])
@pytest.mark.parametrize("which", ["uid", "gid"])
def test_cve_2024_40635_a_large_id_does_not_wrap(runtime, make_bundle, harmless, which, uid):
    bundle = make_bundle({"/process/user/" + which: uid}, args=["/bin/id", "-u" if which == "uid" else "-g"])
    assert harmless(bundle, {"/process/user/" + which: 65536}).out == "65536\nworks\n"
    result = runtime.run(bundle)
    if type(uid) is int and uid in (2147483648, 4294967294) and result.code == 0:
        assert int(result.out) % 2**32 == uid, result
    else:
        assert result.code != 0 and result.out == "", result


@pytest.mark.parametrize("given", [None, [], [7, 8]])
def test_cve_2022_36109_groups_are_those_of_the_config(runtime, make_bundle, given):
    user = {"uid": 1000, "gid": 1000} | ({} if given is None else {"additionalGids": given})
    bundle = make_bundle({"/process/user": user}, args=["/bin/grep", "^Groups:", "/proc/self/status"])
    (bundle.rootfs / "etc/group").write_text("lent:x:27:user\nmore:x:4:user\n")
    result = runtime.run(bundle, extra_groups=[4, 27])
    assert result.code == 0 and result.out.startswith("Groups:"), result
    assert set(result.out.split()[1:]) - {"1000"} == {str(gid) for gid in given or []}


def test_cve_2022_36109_groups_of_exec(runtime, waiting):
    live = runtime.started(waiting)
    result = runtime.ok("exec", "--user", "1000:1000", live, "/bin/grep", "^Groups:", "/proc/self/status", extra_groups=[4, 27])
    assert result.out.startswith("Groups:") and set(result.out.split()[1:]) <= {"1000"}


def test_cve_2014_8989_setgroups_is_denied_to_ordinary_users(runtime, make_bundle, scratch):
    """A process that can drop a group gains the access that is denied to the group."""
    user, make = ordinary_user(runtime, make_bundle, scratch)
    bundle = make(args=["/bin/sh", "-c", "cat /proc/self/setgroups"])
    result = user.run(bundle)
    assert (result.code, result.out) == (0, "deny\n"), result
