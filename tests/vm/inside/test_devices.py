"""Device rules on cgroup v2: our program is attached to the cgroup, and real nodes are opened; with systemd, there is also a program of
systemd."""

import json

import pytest

import guest

FUSE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0}
DENY_ALL = {"allow": False, "access": "rwm"}
PROBE = "true </dev/fuse && echo read; true >>/dev/fuse && echo wrote; true"  # opening is enough
MKNOD = ["CAP_MKNOD"]


def rules(*given, devices=(FUSE,)):
    return {"/linux/devices": list(devices), "/linux/resources": {"devices": list(given)}}


def allow(kind="c", access="rwm", **numbers):
    return {"allow": True, "type": kind, "access": access, **numbers}


def opened(ran, *given):
    result = ran(rules(*given), ["/bin/sh", "-c", PROBE])
    assert result.code == 0, result
    return result.out.split()


def test_denied_unless_allowed(ran):
    assert opened(ran, DENY_ALL) == []


@pytest.mark.vm_short("-r")
@pytest.mark.parametrize(
    ("access", "seen"), [("r", ["read"]), ("w", ["wrote"]), ("rw", ["read", "wrote"]), ("m", [])], ids=["r", "w", "rw", "m"]
)
def test_access_by_letter(ran, access, seen):
    assert opened(ran, DENY_ALL, allow(access=access, major=10, minor=229)) == seen


@pytest.mark.parametrize(
    ("rule", "seen"),
    [
        (allow(major=10), ["read", "wrote"]),
        (allow(), ["read", "wrote"]),
        (allow("a"), ["read", "wrote"]),
        (allow("b"), []),
        (allow(major=2), []),
        (allow(major=10, minor=230), []),
        (allow(minor=229), ["read", "wrote"]),
    ],
    ids=["any minor", "any char", "all", "block", "other major", "other minor", "any major"],
)
def test_wildcards(ran, rule, seen):
    assert opened(ran, DENY_ALL, rule) == seen


def test_allow_all_but_one(ran):
    assert opened(ran, allow("a"), {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"}) == []
    assert opened(ran, allow("a"), {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "w"}) == ["read"]
    assert opened(ran, allow("a"), {"allow": False, "type": "c", "major": 10, "minor": 230, "access": "rwm"}) == ["read", "wrote"]


def test_the_last_rule_counts(ran):
    one = {"type": "c", "major": 10, "minor": 229, "access": "rwm"}
    assert opened(ran, DENY_ALL, {"allow": True, **one}, {"allow": False, **one}) == []
    assert opened(ran, DENY_ALL, {"allow": False, **one}, {"allow": True, **one}) == ["read", "wrote"]
    assert opened(ran, {"allow": True, **one}, DENY_ALL) == []


def test_the_usual_devices_are_always_allowed(ran):
    script = "for d in null zero full random urandom; do true </dev/$d && echo $d; done; true >/dev/ptmx && echo ptmx"
    result = ran(rules(DENY_ALL), ["/bin/sh", "-c", script])
    assert result.out.split() == ["null", "zero", "full", "random", "urandom", "ptmx"], result


def test_block_devices(ran, disk):
    node = {"path": "/dev/disk", "type": "b", "major": disk[0], "minor": disk[1], "fileMode": 0o600}
    script = "dd if=/dev/disk of=/dev/null bs=512 count=1 2>/dev/null && echo read; true >>/dev/disk && echo wrote; true"
    allowed = {"allow": True, "type": "b", "major": disk[0], "minor": disk[1], "access": "r"}
    result = ran(rules(DENY_ALL, allowed, devices=[node]), ["/bin/sh", "-c", script])
    assert result.out.split() == ["read"], result


def test_nodes_created_by_the_program(ran):
    """Creating any node is allowed, but opening it is not: a node does not give access."""
    caps = {"/process/capabilities/%s" % kind: MKNOD for kind in ("bounding", "effective", "permitted")}
    script = "mknod /dev/f c 10 229 && echo made; true </dev/f && echo read; mknod /dev/n c 1 3 && true </dev/n && echo null"
    result = ran({**rules(DENY_ALL), **caps}, ["/bin/sh", "-c", script])
    assert result.out.split() == ["made", "null"] and "Operation not permitted" in result.err, result


def test_exec_is_restricted_too(runtime, started):
    id, _pid, _group = started(rules(DENY_ALL, allow(access="r", major=10, minor=229)))
    result = runtime.ok("exec", id, "/bin/sh", "-c", PROBE)
    assert result.out.split() == ["read"], result


def test_update_leaves_them(runtime, started):
    id, _pid, _group = started(rules(DENY_ALL, allow(access="r", major=10, minor=229)))
    runtime.ok("update", "--resources", "-", id, text='{"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 50}}')
    assert runtime.ok("exec", id, "/bin/sh", "-c", PROBE).out.split() == ["read"]


def test_no_rules_at_all(ran):
    """Without resources.devices, the list only has the usual devices."""
    result = ran({"/linux/devices": [FUSE], "/linux/resources": {"pids": {"limit": 10}}}, ["/bin/sh", "-c", PROBE])
    assert result.out.split() == [], result


def test_they_hold_when_systemd_reloads(runtime, started, driver):
    """A reload makes systemd write everything that it knows again."""
    id, _pid, _group = started(rules(DENY_ALL, allow(access="r", major=10, minor=229)))
    guest.systemctl("daemon-reload")
    assert runtime.ok("exec", id, "/bin/sh", "-c", PROBE).out.split() == ["read"]


def test_a_privileged_list_with_systemd(runtime, started, driver):
    """The list "all except one" cannot be expressed in systemd's syntax. The property allows everything, and our program denies the one."""
    denied = {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "w"}
    id, _pid, group = started(rules(allow("a"), denied))
    guest.systemctl("daemon-reload")
    assert runtime.ok("exec", id, "/bin/sh", "-c", PROBE).out.split() == ["read"]
    if driver.name == "systemd":
        assert guest.shown(group.name, "DevicePolicy") == {"DevicePolicy": "auto"}


def test_diff_tells_programs_apart(runtime, started):
    """The kernel does not return a program, but it returns its checksum."""
    from pyrunc.cgroup import devices_bpf

    id, _pid, group = started(rules(DENY_ALL, allow(access="r", major=10, minor=229)))

    def found():
        document = json.loads(runtime.call("diff", "--format", "json", id).out)
        assert document["unread"] == []
        return [row for row in document["differences"] if row["area"] == "devices"]

    assert found() == []
    runtime.ok("update", "--device-add", "c 10:230 rwm", id)
    assert found() == []
    devices_bpf.apply(str(group), [[True, "c", 1, 3, "rwm"]], False)
    (row,) = found()
    assert row["planned"].startswith("program ") and row["planned"] != row["seen"] and row["pointer"] == "/linux/resources/devices"
