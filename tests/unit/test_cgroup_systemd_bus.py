"""cgroup/systemd.py and systemd_manager.py: what is said to systemd over D-Bus, to start and to stop units. The bus is a fake."""

import pytest
import test_dbus
from test_dbus import bus  # noqa: F401

import cgroup_tools as tools
from pyrunc.cgroup import systemd, unit_properties
from pyrunc.cgroup.systemd_manager import outer_uid
from pyrunc.errors import StepFailure
from pyrunc.linux import dbus


def reply(signature="", *values):
    return lambda fields, got: [(dbus.REPLY, {}, signature, values)]


VERSION = {"Get": reply("v", ("s", "257.7-1"))}


@pytest.fixture
def manager(bus, monkeypatch):  # noqa: F811
    def make(script, timeout_s=10, **kw):
        thread, path = bus({**VERSION, **script}, **kw)
        return thread, systemd.Manager({"name": "x.scope", "user": True, "address": path, "timeout_ms": timeout_s * 1000})

    return make


def job(member, result="done"):
    return {member: lambda f, v: [(dbus.REPLY, {}, "o", ("/job/1",)), test_dbus.removed("/job/1", result)]}


def test_version(manager):
    assert manager({})[1].version == 257


def test_a_job_is_waited_for(manager):
    thread, it = manager(job("StopUnit"))
    it.job("StopUnit", "x.scope", "ss", ("x.scope", "replace"), "stopp")
    assert [member for member, _values in thread.seen] == ["Hello", "AddMatch", "Subscribe", "StopUnit"]
    it.close()


def test_a_job_that_fails(manager):
    _thread, it = manager(job("StopUnit", "failed"))
    with pytest.raises(StepFailure, match="error stopping systemd unit x.scope: got failed"):
        it.job("StopUnit", "x.scope", "ss", ("x.scope", "replace"), "stopp")


def test_a_job_that_never_ends(manager):
    _thread, it = manager({"StopUnit": reply("o", "/job/1")}, timeout_s=0.05)
    with pytest.raises(StepFailure, match="did not answer within 0.05 s about the unit x.scope"):
        it.job("StopUnit", "x.scope", "ss", ("x.scope", "replace"), "stopp")


def test_a_unit_that_is_left_over_is_reset_once(manager):
    answers = [
        [(dbus.ERROR, {dbus.ERROR_NAME: ("s", systemd.NAME + ".UnitExists")}, "s", ("exists",))],
        [(dbus.REPLY, {}, "o", ("/job/1",)), test_dbus.removed("/job/1")],
    ]
    thread, it = manager({"StartTransientUnit": lambda f, v: answers.pop(0)})
    run = tools.Run({})
    run.id, run.pid = "c1", 77  # type: ignore[attr-defined]
    unit = {"name": "x.scope", "slice": "a.slice", "properties": [["KillSignal", "i", 15]]}
    systemd._start(it, unit, {"version": 2}, run)
    members = [member for member, _values in thread.seen]
    assert members.count("StartTransientUnit") == 2 and "ResetFailedUnit" in members
    name, mode, properties, _aux = thread.seen[-1][1]
    given = {key: value[1] for key, value in properties}
    assert (name, mode) == ("x.scope", "replace")
    assert given["PIDs"] == [77] and given["Slice"] == "a.slice" and given["Delegate"] is True and given["KillSignal"] == 15
    assert given["IOAccounting"] is True and given["DefaultDependencies"] is False
    it.close()


UNIT = {"name": "x.scope", "slice": "a.slice", "properties": [], "below": "/a.slice/x.scope", "user": True, "timeout_ms": 10000}
UNIT_EXISTS = [(dbus.ERROR, {dbus.ERROR_NAME: ("s", systemd.NAME + ".UnitExists")}, "s", ("exists",))]


def test_a_unit_of_someone_else_is_not_recorded(manager):
    """What is not recorded is not stopped when the create is undone."""
    _thread, it = manager({"StartTransientUnit": lambda f, v: UNIT_EXISTS})
    run = tools.Run({})
    run.record("cgroup_paths", {"unified": "/x"})
    run.record("cgroups", {"mounts": {}, "existed": {}, "inodes": {}, "unit": UNIT})
    with pytest.raises(StepFailure, match="unable to start unit x.scope: exists"):
        systemd._start(it, UNIT, {"version": 2}, run)
    assert systemd.fs.record_of(run, {})["paths"] == {}
    it.close()


@pytest.mark.parametrize(
    "description, group, stopped",
    [
        ("pyrunc container c1", "/a.slice/x.scope", True),
        ("pyrunc container c1", "/prefix/a.slice/x.scope", True),
        ("pyrunc container c1", "", True),
        ("pyrunc container c2", "/a.slice/x.scope", False),
        ("pyrunc container c1", "/b.slice/x.scope", False),
        ("Session 1 of User root", "/a.slice/x.scope", False),
    ],
)
def test_only_our_own_unit_is_stopped(bus, description, group, stopped):  # noqa: F811
    got = lambda f, v: [(dbus.REPLY, {}, "v", (("s", {"Description": description, "ControlGroup": group}[v[1]]),))]  # noqa: E731
    thread, path = bus({"GetUnit": reply("o", "/u"), "Get": got, **job("StopUnit")})
    assert systemd._stop({**UNIT, "address": path}, "c1") is stopped
    members = [member for member, _values in thread.seen]
    assert ("StopUnit" in members, "ResetFailedUnit" in members) == (stopped, stopped)


@pytest.mark.parametrize("group, stopped", [("/a.slice/a-b.slice", True), ("/other.slice", False)])
def test_the_name_of_a_slice_determines_its_place(bus, group, stopped):  # noqa: F811
    got = lambda f, v: [(dbus.REPLY, {}, "v", (("s", {"Description": "pyrunc container c1", "ControlGroup": group}[v[1]]),))]  # noqa: E731
    _thread, path = bus({"GetUnit": reply("o", "/u"), "Get": got, **job("StopUnit")})
    assert systemd._stop({**UNIT, "name": "a-b.slice", "below": "/x.slice/a-b.slice", "address": path}, "c1") is stopped


def test_a_unit_that_has_gone_is_not_stopped(bus):  # noqa: F811
    missing = [(dbus.ERROR, {dbus.ERROR_NAME: ("s", systemd.NAME + ".NoSuchUnit")}, "s", ("gone",))]
    thread, path = bus({"GetUnit": lambda f, v: missing})
    assert systemd._stop({**UNIT, "address": path}, "c1") is True
    assert [member for member, _values in thread.seen] == ["Hello", "GetUnit"]


def test_the_description_may_come_from_an_annotation():
    unit = {**UNIT, "properties": [["Description", "s", "one"], ["KillSignal", "i", 15], ["Description", "s", "two"]]}
    assert unit_properties.description(unit, "c1") == "two" and unit_properties.description(UNIT, "c1") == "pyrunc container c1"


HOSTILE = [
    ("Hello", lambda: [(dbus.REPLY, {dbus.SIGNATURE: ("u", 7)}, "", ())], "cannot connect to"),
    ("AddMatch", lambda: [(dbus.ERROR, {dbus.ERROR_NAME: ("u", 7)}, "u", (7,))], "cannot subscribe to"),
    ("AddMatch", lambda: [(dbus.REPLY, {dbus.SIGNATURE: ("u", 7)}, "", ())], "cannot subscribe to"),
    ("Subscribe", lambda: [(dbus.ERROR, {}, "", ())], "cannot subscribe to"),
    ("StopUnit", lambda: [(dbus.REPLY, {dbus.SIGNATURE: ("s", "a()")}, "", ())], "cannot call StopUnit of"),
    ("StopUnit", lambda: [(dbus.REPLY, {}, "u", (7,))], "cannot call StopUnit of"),
]


@pytest.mark.parametrize("member, answer, words", HOSTILE)
def test_a_bus_that_answers_nonsense(bus, member, answer, words):  # noqa: F811
    """Each answer results in a StepFailure, never in an error of Python."""
    _thread, path = bus({member: lambda f, v: answer()})
    with pytest.raises(StepFailure, match=words):
        systemd.Manager({**UNIT, "address": path}).job("StopUnit", "x.scope", "ss", ("x.scope", "replace"), "stopp")


def test_a_property_of_another_type(manager):
    _thread, it = manager({"Get": reply("v", ("u", 7))})
    with pytest.raises(StepFailure, match="its ControlGroup has the type 'u' instead of 's'"):
        it.get("ControlGroup")


def test_no_systemd(tmp_path):
    with pytest.raises(StepFailure) as e:
        systemd.Manager({"name": "x.scope", "user": True, "address": str(tmp_path / "none")})
    assert e.value.words == "cannot connect to the user's systemd: there is no such socket" and "cgroupfs" in e.value.hint
    assert "no such file" not in e.value.sentence()


@pytest.mark.parametrize(
    "environment, path",
    [
        ([b"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/7/bus,guid=1"], "/run/user/7/bus"),
        ([b"DBUS_SESSION_BUS_ADDRESS=tcp:host=x;unix:path=/b", b"XDG_RUNTIME_DIR=/r"], "/b"),
        ([b"XDG_RUNTIME_DIR=/run/user/5"], "/run/user/5/bus"),
        ([b"XDG_RUNTIME_DIR="], "/run/user/%d/bus" % outer_uid()),
    ],
)
def test_where_the_users_bus_is(environment, path):
    assert systemd.bus_address(environment) == path
