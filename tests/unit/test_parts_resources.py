"""parts/resources.py: accepted values of linux.resources and their neutral form, and rejected values with their pointers."""

import pytest

import cgroup_tools as tools
from pyrunc.cgroup import devices_rules
from pyrunc.errors import Refusal, Unsupported
from pyrunc.parts import resources

ALL = ("cpuset", "devices", "memory", "cpu", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "rdma")
DEFAULTS = [rule for _path, rule in devices_rules.DEFAULTS]


@pytest.fixture(autouse=True)
def huge_pages(monkeypatch):
    from pyrunc.cgroup import hierarchies

    monkeypatch.setattr(hierarchies, "exists", lambda path: path.endswith(("hugepages-2048kB", "hugepages-1048576kB", "hugepages-64kB")))


def cgroups_plan(version=1, controllers=ALL, **kw):
    paths = {"unified": "/u"} if version == 2 else {c: "/sys/fs/cgroup/%s/x" % c for c in controllers}
    return dict({"manager": "cgroupfs", "version": version, "paths": paths, "mounts": {}, "explicit": True, "rootless": False}, **kw)


def plan(node, version=1, ctx=None, cgroups=None, **kw):
    ctx = ctx or tools.make_ctx(**kw)
    ctx.plans["cgroups"] = cgroups or cgroups_plan(version)
    return resources.plan({} if node is None else {resources.POINTER: node}, ctx)


def neutral(node, version=1, **kw):
    entry = plan(node, version, **kw)
    return {k: v for k, v in entry.items() if k not in ("asked", "in_userns", "devices")}


@pytest.mark.parametrize(
    "node, version, wanted",
    [
        (None, 1, {}),
        ({}, 2, {}),
        ({"memory": {"limit": 5, "swap": 6, "reservation": 4}}, 1, {"memory": {"limit": 5, "swap": 6, "reservation": 4}}),
        ({"memory": {"limit": 0, "swap": 0}}, 2, {}),
        ({"memory": {"limit": -1, "swap": -1}}, 2, {"memory": {"limit": -1, "swap": -1}}),
        ({"memory": {"limit": 7, "swap": 7}}, 2, {"memory": {"limit": 7, "swap": 7}}),
        ({"memory": {"swap": 7}}, 1, {"memory": {"swap": 7}}),
        ({"memory": {"disableOOMKiller": False}}, 2, {}),
        ({"memory": {"disableOOMKiller": True}}, 1, {"memory": {"oom_off": True}}),
        ({"memory": {"swappiness": 0}}, 1, {"memory": {"swappiness": 0}}),
        ({"memory": {"swappiness": 2**64 - 1}}, 2, {}),
        ({"memory": {"limit": 5, "checkBeforeUpdate": True}}, 2, {"memory": {"limit": 5, "check": True}}),
        ({"memory": {"useHierarchy": True}}, 1, {"memory": {"hierarchy": True}}),
        ({"cpu": {"shares": 2, "quota": -1, "period": 1000}}, 1, {"cpu": {"shares": 2, "quota": -1, "period": 1000}}),
        ({"cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""}}, 1, {}),
        ({"cpu": {"burst": 0, "idle": 0}}, 2, {"cpu": {"burst": 0, "idle": 0}}),
        ({"cpu": {"idle": 1, "shares": 5}}, 2, {"cpu": {"idle": 1}}),
        ({"cpu": {"cpus": "0-3,7", "mems": " 0 "}}, 1, {"cpu": {"cpus": "0-3,7", "mems": "0"}}),
        ({"cpu": {"realtimeRuntime": 10, "realtimePeriod": 20}}, 1, {"cpu": {"rt_runtime": 10, "rt_period": 20}}),
        ({"cpu": {"realtimeRuntime": 0, "realtimePeriod": 0}}, 2, {}),
        ({"pids": {"limit": 5}}, 1, {"pids": {"limit": 5}}),
        ({"pids": {"limit": 0}}, 2, {"pids": {"limit": -1}}),
        ({"pids": {"limit": -5}}, 2, {"pids": {"limit": -1}}),
        ({"blockIO": {}}, 1, {}),
        ({"blockIO": {"weight": 0, "weightDevice": [], "throttleReadBpsDevice": []}}, 2, {}),
        ({"blockIO": {"weight": 10, "leafWeight": 1000}}, 1, {"blkio": {"weight": 10, "leaf_weight": 1000}}),
        ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 20}]}}, 2, {"blkio": {"devices": [[8, 0, 20, None]]}}),
        (
            {
                "blockIO": {
                    "throttleReadIOPSDevice": [{"major": 8, "minor": 1, "rate": 9}],
                    "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2**40}],
                }
            },
            1,
            {
                "blkio": {
                    "throttle": [
                        ["wbps", 8, 0, 2**40, "/linux/resources/blockIO/throttleWriteBpsDevice/0"],
                        ["riops", 8, 1, 9, "/linux/resources/blockIO/throttleReadIOPSDevice/0"],
                    ]
                }
            },
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}, {"pageSize": "1GB", "limit": 2**64 - 1}]},
            2,
            {"hugetlb": [["2MB", 0], ["1GB", 2**64 - 1]]},
        ),
        ({"hugepageLimits": [{"pageSize": "64KB", "limit": 1}]}, 2, {"hugetlb": [["64KB", 1]]}),
        (
            {"network": {"classID": 5, "priorities": [{"name": "lo", "priority": 1}]}},
            1,
            {"network": {"class": 5, "priorities": [["lo", 1]]}},
        ),
        ({"network": {"classID": 0}}, 2, {}),
        ({"rdma": {"b": {"hcaHandles": 1}, "a": {"hcaObjects": 2}}}, 2, {"rdma": [["a", None, 2], ["b", 1, None]]}),
        ({"unified": {"memory.high": "5", "cgroup.max.depth": "3"}}, 2, {"unified": [["cgroup.max.depth", "3"], ["memory.high", "5"]]}),
        ({"unified": {}}, 1, {}),
    ],
)
def test_neutral_form(node, version, wanted):
    assert neutral(node, version) == wanted


R, U = Refusal, Unsupported


@pytest.mark.parametrize(
    "node, version, error, pointer",
    [
        ({"memory": {"limit": -2}}, 1, R, "/memory/limit"),
        ({"memory": {"swap": -2}}, 1, R, "/memory/swap"),
        ({"memory": {"reservation": -9}}, 2, R, "/memory/reservation"),
        ({"memory": {"limit": 9, "swap": 8}}, 1, R, "/memory/swap"),
        ({"memory": {"limit": 9, "reservation": 10}}, 1, R, "/memory/reservation"),
        ({"memory": {"swap": 8}}, 2, R, "/memory/swap"),
        ({"memory": {"swappiness": 101}}, 1, R, "/memory/swappiness"),
        ({"memory": {"swappiness": 60}}, 2, U, "/memory/swappiness"),
        ({"memory": {"disableOOMKiller": True}}, 2, U, "/memory/disableOOMKiller"),
        ({"cpu": {"period": 999}}, 1, R, "/cpu/period"),
        ({"cpu": {"period": 1000001}}, 2, R, "/cpu/period"),
        ({"cpu": {"quota": 1, "period": 1000}}, 1, R, "/cpu/quota"),
        ({"cpu": {"quota": 5000, "burst": 5001}}, 2, R, "/cpu/burst"),
        ({"cpu": {"idle": 2}}, 2, R, "/cpu/idle"),
        ({"cpu": {"idle": -1}}, 1, R, "/cpu/idle"),
        ({"cpu": {"cpus": "banana"}}, 1, R, "/cpu/cpus"),
        ({"cpu": {"cpus": "1-0"}}, 2, R, "/cpu/cpus"),
        ({"cpu": {"cpus": "0-1-2"}}, 2, R, "/cpu/cpus"),
        ({"cpu": {"cpus": "0,"}}, 2, R, "/cpu/cpus"),
        ({"cpu": {"cpus": "٣"}}, 2, R, "/cpu/cpus"),
        ({"cpu": {"mems": "0\n1"}}, 2, R, "/cpu/mems"),
        ({"cpu": {"realtimeRuntime": 1}}, 2, U, "/cpu/realtimeRuntime"),
        ({"cpu": {"realtimeRuntime": 30, "realtimePeriod": 20}}, 1, R, "/cpu/realtimeRuntime"),
        ({"blockIO": {"weight": 5}}, 1, R, "/blockIO/weight"),
        ({"blockIO": {"weight": 1001}}, 2, R, "/blockIO/weight"),
        ({"blockIO": {"leafWeight": 10}}, 2, U, "/blockIO/leafWeight"),
        ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 9}]}}, 1, R, "/blockIO/weightDevice/0/weight"),
        ({"blockIO": {"weightDevice": [{"major": -1, "minor": 0, "weight": 10}]}}, 1, R, "/blockIO/weightDevice/0/major"),
        ({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0}]}}, 1, R, "/blockIO/throttleReadBpsDevice/0/rate"),
        ({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, 1, R, "/hugepageLimits/0/pageSize"),
        ({"hugepageLimits": [{"pageSize": "2M", "limit": 1}]}, 1, R, "/hugepageLimits/0/pageSize"),
        ({"hugepageLimits": [{"pageSize": "MB", "limit": 1}]}, 1, R, "/hugepageLimits/0/pageSize"),
        ({"network": {"classID": 1}}, 2, U, "/network"),
        ({"network": {"priorities": [{"name": "a b", "priority": 1}]}}, 1, R, "/network/priorities/0/name"),
        ({"network": {"priorities": [{"name": "x" * 16, "priority": 1}]}}, 1, R, "/network/priorities/0/name"),
        ({"rdma": {"a": {}}}, 2, R, "/rdma/a"),
        ({"rdma": {"a b": {"hcaHandles": 1}}}, 2, R, "/rdma"),
        ({"unified": {"memory.max": "1"}}, 1, U, "/unified"),
        ({"unified": {"a/b.c": "1"}}, 2, R, "/unified/a~1b.c"),
        ({"unified": {"../x": "1"}}, 2, R, "/unified/..~1x"),
        ({"unified": {"memory": "1"}}, 2, R, "/unified/memory"),
        ({"unified": {"..": "1"}}, 2, R, "/unified/.."),
        ({"unified": {"cgroup.procs": "1"}}, 2, R, "/unified/cgroup.procs"),
        ({"unified": {"cgroup.freeze": "1"}}, 2, R, "/unified/cgroup.freeze"),
        ({"unified": {"memory.max": "1\0"}}, 2, R, "/unified/memory.max"),
        ({"devices": [{"allow": True}]}, 1, R, "/devices/0/access"),
        ({"devices": [{"allow": True, "access": ""}]}, 2, R, "/devices/0/access"),
        ({"devices": [{"allow": True, "access": "rwq"}]}, 2, R, "/devices/0/access"),
        ({"devices": [{"allow": True, "access": "r", "type": "x"}]}, 2, R, "/devices/0/type"),
        ({"devices": [{"allow": True, "access": "r", "type": "c", "major": -2}]}, 2, R, "/devices/0/major"),
        ({"devices": [{"allow": True, "access": "r", "type": "c", "minor": 2**32}]}, 2, R, "/devices/0/minor"),
        (
            {
                "devices": [
                    {"allow": True, "access": "rw", "type": "c"},
                    {"allow": False, "access": "r", "type": "c", "major": 1, "minor": 3},
                ]
            },
            1,
            U,
            "/devices/1",
        ),
    ],
)
def test_refused(node, version, error, pointer):
    with pytest.raises(error) as e:
        plan(node, version)
    assert e.value.pointer == "/linux/resources" + pointer


@pytest.mark.parametrize(
    "node, words",
    [
        ({"memory": {"swap": 8}}, "unable to set swap limit without memory limit"),
        ({"memory": {"limit": 9, "swap": 8}}, "memory+swap limit should be >= memory limit"),
        ({"memory": {"swappiness": 101}}, "invalid memory swappiness value: 101 (valid range is 0-100)"),
        ({"memory": {"limit": -2}}, "invalid memory value"),
        ({"devices": [{"allow": True}]}, "device access at 0 field cannot be empty"),
        ({"unified": {"memory": "1"}}, "must be in the form CONTROLLER.PARAMETER"),
    ],
)
def test_refusals_in_words_that_callers_know(node, words):
    with pytest.raises(Refusal) as e:
        plan(node, 2)
    assert words in e.value.words


def test_unified_on_v1_has_the_known_words():
    with pytest.raises(Unsupported, match="^invalid configuration: cannot use unified on cgroup v1"):
        plan({"unified": {"memory.max": "1"}}, 1)


def test_kernel_memory_limits_are_ignored_with_a_warning():
    ctx = tools.make_ctx()
    assert plan({"memory": {"kernel": 5, "kernelTCP": 6}}, 1, ctx)["asked"] is False
    assert [p for p, _t in ctx.warnings] == ["/linux/resources/memory/kernel", "/linux/resources/memory/kernelTCP"]


# --- devices


def test_no_rules_is_deny_all_but_the_defaults():
    for node in (None, {}, {"devices": []}):
        assert plan(node)["devices"] == DEFAULTS


def test_the_defaults_come_behind_what_is_said_of_all_devices():
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "wr"}]
    assert plan({"devices": rules})["devices"] == [[False, "a", -1, -1, "rwm"], *DEFAULTS, [True, "c", 10, 229, "rw"]]
    wide = {"allow": False, "type": "c", "access": "rw"}
    assert plan({"devices": [rules[1], wide]})["devices"] == [[True, "c", 10, 229, "rw"], [False, "c", -1, -1, "rw"], *DEFAULTS]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("before", [[], [{"allow": False, "access": "rwm"}], [{"allow": True, "access": "rwm"}]])
def test_denials_of_a_device_win_over_the_defaults(version, before):
    """For mknod as well, which the built-in rules allow for all nodes: those rules used to come last."""
    denied = {"allow": False, "type": "c", "major": 10, "minor": 200, "access": "rwm"}
    rules = plan({"devices": [*before, denied]}, version)["devices"]
    found = devices_rules.Rules(rules)
    everything = bool(before) and before[0]["allow"]
    for letter in "rwm":
        made_as_in_runc = version == 1 and letter == "m" and not everything
        if version == 1 and not made_as_in_runc:  # an exception if everything is allowed, and none if nothing is
            covering = [key for key, access in found.exceptions.items() if letter in access and key[0] == "c" and key[1] in (-1, 10)]
            assert (("c", 10, 200) in covering) is everything and (found.default or not {("c", -1, -1), ("c", 10, 200)} & set(covering))
        assert devices_rules.may(rules, "c", 10, 200, letter) is made_as_in_runc
    assert devices_rules.may(rules, "c", 1, 3, "r") and devices_rules.may(rules, "b", 1, 3, "m")


@pytest.mark.parametrize(
    "node, kept",
    [
        ({"path": "/dev/null", "type": "c", "major": 1, "minor": 3}, True),
        ({"path": "/dev/null", "type": "c", "major": 1, "minor": 5}, False),
    ],
)
def test_a_default_device_that_the_config_replaces_loses_its_rule(node, kept):
    entry = plan({}, ctx=tools.make_ctx(config={"linux": {"devices": [node]}}))
    assert ([True, "c", 1, 3, "rwm"] in entry["devices"]) is kept
    assert [True, "c", 1, 5, "rwm"] in entry["devices"]


def test_update_never_plans_device_rules():
    assert "devices" not in plan({"devices": [{"allow": False, "access": "rwm"}], "pids": {"limit": 3}}, command="update")


# --- managers and rights


def test_controllers_that_are_not_mounted():
    with pytest.raises(Unsupported) as e:
        plan({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}, cgroups=cgroups_plan(1, ("devices", "memory")))
    assert e.value.pointer == "/linux/resources/hugepageLimits" and "hugetlb" in e.value.words


def test_v1_without_the_devices_controller_is_refused():
    with pytest.raises(Unsupported) as e:
        plan({}, cgroups=cgroups_plan(1, ("memory",)))
    assert e.value.pointer == "/linux/resources/devices"


def test_disabled_manager():
    off = cgroups_plan(1, (), manager="disabled")
    ctx = tools.make_ctx()
    assert plan({}, ctx=ctx, cgroups=off) is None and ctx.warnings == []
    assert plan({"devices": [{"allow": False, "access": "rwm"}]}, ctx=ctx, cgroups=off) is None
    assert len(ctx.warnings) == 1
    with pytest.raises(Unsupported):
        plan({"pids": {"limit": 5}}, cgroups=off)


def test_plans_are_plain_and_stable():
    from pyrunc import jsonio

    node = {"memory": {"limit": 5}, "cpu": {"cpus": "0"}, "devices": [{"allow": False, "access": "rwm"}], "pids": {"limit": 1}}
    entry = plan(node)
    assert jsonio.loads(jsonio.dumps(entry)) == entry and jsonio.dumps(entry) == jsonio.dumps(plan(node))
