"""Scopes of a real systemd, created by the package directly: root uses the system manager; test_scopes_of_a_user.py uses that of a user."""

import os
import subprocess

import pytest

import cgroup_tools as tools
from pyrunc.cgroup import hierarchies, kill
from pyrunc.errors import StepFailure
from pyrunc.linux import constants
from pyrunc.parts import cgroups, resources
from pyrunc.store import in_user_namespace

LAYOUT = hierarchies.layout()
IN_USERNS = in_user_namespace()
USER = os.geteuid() != 0 or IN_USERNS
MIB = 1 << 20


@pytest.fixture
def scope(request):
    made = []

    def make(path=None, node=None, annotations=None, **kw):
        plans = {"meta": {"annotations": annotations or {}}}
        one = tools.LiveGroup(
            path, node, systemd_cgroup=True, euid=os.geteuid(), in_userns=IN_USERNS, plans=plans, id="%s-%d" % (tools.TOP, len(made)), **kw
        )
        one.run.host_env = ["=".join(i).encode() for i in os.environ.items()]
        one.run.id = one.ctx.id
        made.append(one)
        return one

    yield make
    for one in made:
        one.end()


def show(one, *names):
    call = ["systemctl", "show", *(["--user"] if USER else []), "--property", ",".join(names), one.entry["unit"]["name"]]
    told = {}
    for line in subprocess.run(call, capture_output=True, text=True, check=True).stdout.split("\n"):
        name, _, value = line.partition("=")
        told[name] = told[name] + ", " + value if name in told else value  # lists come as several lines
    told.pop("", None)
    return told


def test_life_of_a_scope(scope):
    one = scope().make()
    pid = one.start()
    assert kill.procs(one.paths) == [pid]
    told = show(one, "ActiveState", "ControlGroup", "Delegate", "Slice")
    assert told["ActiveState"] == "active" and told["Delegate"] == "yes"
    assert told["Slice"] == ("user.slice" if USER else "system.slice")
    if LAYOUT.version == 2:
        assert one.paths["unified"] == "/sys/fs/cgroup" + told["ControlGroup"]
    one.end()
    assert show(one, "ActiveState", "LoadState") == {"ActiveState": "inactive", "LoadState": "not-found"}
    assert not any(os.path.exists(path) for path in one.entry["paths"].values())


def test_limits_are_known_to_systemd_and_to_the_kernel(scope):
    node: dict = {"memory": {"limit": 64 * MIB, "reservation": 32 * MIB}, "pids": {"limit": 11}}
    if not USER:
        node["cpu"] = {"shares": 2048, "quota": 33333, "period": 100000}
        node["unified"] = {"memory.high": str(48 * MIB)}
    one = scope(node=node)
    one.make()
    one.start()
    one.apply()
    told = show(one, "MemoryMax", "MemoryLow", "TasksMax", "CPUWeight", "CPUQuotaPerSecUSec", "MemoryHigh", "DevicePolicy", "DeviceAllow")
    assert told["MemoryMax"] == str(64 * MIB) and told["MemoryLow"] == str(32 * MIB) and told["TasksMax"] == "11"
    with open(one.paths["unified"] + "/memory.max") as f:
        assert f.read().strip() == str(64 * MIB)
    if USER:
        return
    assert told["CPUWeight"] == "174" and told["CPUQuotaPerSecUSec"] == "340ms" and told["MemoryHigh"] == str(48 * MIB)
    assert told["DevicePolicy"] == "strict" and "char-136" in told["DeviceAllow"]
    with open(one.paths["unified"] + "/cpu.max") as f:
        assert f.read().strip() == "34000 100000"


@pytest.mark.skipif(USER, reason="the user may not reload the system manager")
def test_limits_survive_a_reload(scope):
    one = scope(node={"memory": {"limit": 64 * MIB}, "devices": [{"allow": False, "access": "rwm"}]})
    one.make()
    one.start()
    one.apply()
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    with open(one.paths["unified"] + "/memory.max") as f:
        assert f.read().strip() == str(64 * MIB)
    from pyrunc.cgroup import devices_bpf, fs

    fd = fs.open_dir(one.paths["unified"], "unified")
    try:
        assert devices_bpf._syscalls.bpf_prog_query(fd, constants.BPF_CGROUP_DEVICE, 0)
    finally:
        os.close(fd)


def test_annotations_become_properties(scope):
    one = scope(
        annotations={"org.systemd.property.TimeoutStopUSec": "uint64 7000000", "org.systemd.property.CollectMode": "'inactive-or-failed'"}
    )
    one.make()
    one.start()
    told = show(one, "TimeoutStopUSec", "CollectMode")
    assert told == {"TimeoutStopUSec": "7s", "CollectMode": "inactive-or-failed"}


def test_a_property_that_systemd_does_not_know(scope):
    one = scope(annotations={"org.systemd.property.NoSuchThing": "5"})
    one.make()
    with pytest.raises(StepFailure) as e:
        one.start()
    assert "unable to start unit" in e.value.words and "NoSuchThing" in e.value.words
    one.undo()


@pytest.mark.skipif(USER, reason="the slice belongs to the system manager")
def test_a_slice_of_the_config(scope):
    one = scope("pyrunctest-sub.slice:pre:%s" % tools.TOP).make()
    pid = one.start()
    path = one.paths["unified"] if LAYOUT.version == 2 else one.paths["name=systemd"]
    assert path.endswith("/pyrunctest.slice/pyrunctest-sub.slice/pre-%s.scope" % tools.TOP)
    assert kill.procs({"unified" if LAYOUT.version == 2 else "name=systemd": path}) == [pid]


def test_a_unit_that_runs_already_is_not_taken(scope):
    one = scope().make()
    pid = one.start()
    other = tools.LiveGroup(None, systemd_cgroup=True, euid=os.geteuid(), in_userns=IN_USERNS, id=one.ctx.id)
    other.run.host_env = one.run.host_env
    with pytest.raises(StepFailure, match="container's cgroup is not empty"):
        other.make()
    other.undo()
    assert kill.procs(one.paths) == [pid]


def test_update_reaches_both(scope):
    one = scope(node={"memory": {"limit": 64 * MIB}})
    one.make()
    one.start()
    one.apply()
    ctx = tools.make_ctx(command="update", plans={"cgroups": one.entry}, euid=os.geteuid(), in_userns=IN_USERNS)
    new = resources.plan({"/linux/resources": {"memory": {"limit": 96 * MIB}, "pids": {"limit": 12}}}, ctx)
    stored = resources.update(new, one.resources, one.run)
    assert stored["memory"]["limit"] == 96 * MIB
    assert show(one, "MemoryMax", "TasksMax") == {"MemoryMax": str(96 * MIB), "TasksMax": "12"}


def test_undo_after_everything_has_died_and_twice(scope):
    one = scope().make()
    one.start()
    kill.end_all(one.paths)
    one.undo()
    one.undo()
    cgroups.undo_make(one.entry, one.run)
    assert show(one, "LoadState") == {"LoadState": "not-found"}
