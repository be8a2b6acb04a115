"""rlimits, oom, scheduling, personality, mempolicy: plans, table by table."""

import json

import pytest

from fakes.hand import Ctx
from pyrunc.errors import Refusal, Unsupported
from pyrunc.linux import _syscalls, caps
from pyrunc.parts import mempolicy, oom, personality, rlimits, scheduling

INFINITY = (1 << 64) - 1
ONLY_DEADLINE = "scheduler runtime/deadline/period can only be specified for SchedDeadline policy"


def refused(part, node, ctx=None):
    with pytest.raises((Refusal, Unsupported)) as caught:
        part.plan(node, ctx or Ctx())
    return caught.value


# ---- rlimits


def limits(*rows):
    return {"/process/rlimits": [{"type": "RLIMIT_" + name, "soft": soft, "hard": hard} for name, soft, hard in rows]}


@pytest.fixture
def powerful(monkeypatch):
    monkeypatch.setattr(caps, "effective", lambda: 1 << 24)


def test_rlimits(powerful):
    entry = rlimits.plan(limits(("CORE", 0, 0), ("NOFILE", 0, INFINITY), ("RTTIME", INFINITY, INFINITY)), Ctx())
    assert entry == {
        "list": [["RLIMIT_CORE", 4, 0, 0, 0], ["RLIMIT_NOFILE", 7, 0, INFINITY, 1], ["RLIMIT_RTTIME", 15, INFINITY, INFINITY, 2]]
    }
    assert rlimits.plan({"/process/rlimits": []}, Ctx()) is None


def test_numbers_of_all_limits():
    import resource

    for name, number in rlimits.NUMBERS.items():
        if hasattr(resource, name):
            assert getattr(resource, name) == number
    assert len(rlimits.NUMBERS) == 16


@pytest.mark.parametrize(
    ("node", "words", "pointer"),
    [
        (limits(("BOGUS", 1, 1)), "invalid rlimit type: RLIMIT_BOGUS", "/process/rlimits/0/type"),
        (limits(("CORE", 1, 1), ("CPU", 1, 1), ("CORE", 1, 1)), "RLIMIT_CORE is given twice", "/process/rlimits/2/type"),
        (limits(("CORE", 2, 1)), "RLIMIT_CORE: soft 2 is more than hard 1", "/process/rlimits/0/soft"),
        (limits(("CORE", INFINITY, 1)), "RLIMIT_CORE: soft infinity is more than hard 1", "/process/rlimits/0/soft"),
    ],
)
def test_rlimits_refused(powerful, node, words, pointer):
    e = refused(rlimits, node)
    assert (e.words, e.pointer) == (words, pointer)


def test_a_hard_limit_that_we_may_not_raise(monkeypatch):
    monkeypatch.setattr(caps, "effective", lambda: 0)
    monkeypatch.setattr(_syscalls, "prlimit", lambda *_args: (100, 200))
    assert rlimits.plan(limits(("CORE", 1, 200)), Ctx())
    e = refused(rlimits, limits(("CPU", 1, 1), ("CORE", 1, 201)))
    assert (e.words, e.pointer) == ("error setting rlimit type 4: operation not permitted", "/process/rlimits/1/hard")
    assert "1:201" in e.hint and "200" in e.hint
    monkeypatch.setattr(caps, "effective", lambda: 1 << 24)
    assert rlimits.plan(limits(("CORE", 1, 201)), Ctx())
    assert refused(rlimits, limits(("CORE", 1, 201)), Ctx(in_userns=True))  # a capability in another user namespace does not allow this


# ---- oom


@pytest.mark.parametrize("value", [-1000, 0, 1000])
def test_oom(value):
    assert oom.plan({"/process/oomScoreAdj": value}, Ctx()) == {"value": value}


@pytest.mark.parametrize("value", [-1001, 1001, 1 << 70])
def test_oom_refused(value):
    assert refused(oom, {"/process/oomScoreAdj": value}).pointer == "/process/oomScoreAdj"


# ---- scheduling


def scheduler(**value):
    return scheduling.plan({"/process/scheduler": {"policy": "SCHED_OTHER", **value}}, Ctx())["scheduler"]


def test_nothing_asked_for_still_resets_the_affinity():
    expected = {"exec": False, "scheduler": None, "ioprio": None, "initial": None, "final": None}
    assert scheduling.plan({}, Ctx()) == expected
    assert scheduling.plan({}, Ctx(options={"command": "exec"})) == {**expected, "exec": True}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, [0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ({"policy": "SCHED_BATCH", "nice": 19}, [3, 0, 19, 0, 0, 0, 0, 0, 0]),
        ({"policy": "SCHED_OTHER", "nice": -20}, [0, 0, -20, 0, 0, 0, 0, 0, 0]),
        ({"policy": "SCHED_FIFO", "priority": 99}, [1, 0, 0, 99, 0, 0, 0, 0, 0]),
        ({"policy": "SCHED_RR", "priority": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, [2, 1, 0, 1, 0, 0, 0, 0, 0]),
        ({"policy": "SCHED_IDLE"}, [5, 0, 0, 0, 0, 0, 0, 0, 0]),
        (
            {
                "policy": "SCHED_DEADLINE",
                "runtime": 1024,
                "deadline": 1024,
                "period": 2048,
                "flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"],
            },
            [6, 6, 0, 0, 1024, 1024, 2048, 0, 0],
        ),
        ({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000}, [6, 0, 0, 0, 2000, 3000, 0, 0, 0]),
        ({"flags": ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"]}, [0, 0x60, 0, 0, 0, 0, 0, 0, 1024]),
        ({"flags": ["SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS"]}, [0, 0x18, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_scheduler(value, expected):
    assert scheduler(**value) == expected


@pytest.mark.parametrize(
    ("value", "words", "pointer"),
    [
        ({"policy": "SCHED_BOGUS"}, "unknown scheduler policy SCHED_BOGUS", "policy"),
        ({"policy": ""}, "scheduler policy is required", "policy"),
        ({"policy": "SCHED_ISO"}, "SCHED_ISO is reserved and in no kernel", "policy"),
        ({"nice": 99}, "invalid scheduler.nice: 99", "nice"),
        ({"nice": -21}, "invalid scheduler.nice: -21", "nice"),
        ({"priority": 1}, "scheduler.priority can only be specified for SchedFIFO or SchedRR policy", "priority"),
        ({"policy": "SCHED_FIFO"}, "scheduler.priority 0: SCHED_FIFO takes 1 to 99", "priority"),
        ({"policy": "SCHED_RR", "priority": 100}, "scheduler.priority 100: SCHED_RR takes 1 to 99", "priority"),
        ({"runtime": 1}, ONLY_DEADLINE, "runtime"),
        ({"policy": "SCHED_FIFO", "priority": 1, "period": 1}, ONLY_DEADLINE, "period"),
        ({"policy": "SCHED_DEADLINE"}, "scheduler.runtime 0 ns: SCHED_DEADLINE takes 1024 and more", "runtime"),
        (
            {"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 1999},
            "scheduler.deadline 1999 ns is less than runtime 2000", "deadline",
        ),
        (
            {"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 2001, "period": 2000},
            "scheduler.period 2000 ns is less than deadline 2001", "period",
        ),
        ({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 1 << 63}, "scheduler.period %d ns is too long" % (1 << 63), "period"),
        ({"flags": ["SCHED_FLAG_RESET_ON_FORK", "X"]}, "unknown scheduler flag X", "flags/1"),
    ],
)  # fmt: skip
def test_scheduler_refused(value, words, pointer):
    e = refused(scheduling, {"/process/scheduler": {"policy": "SCHED_OTHER", **value}})
    assert (e.words, e.pointer) == (words, "/process/scheduler/" + pointer)


def test_nice_without_effect_is_warned_of():
    ctx = Ctx()
    scheduling.plan({"/process/scheduler": {"policy": "SCHED_FIFO", "priority": 1, "nice": 3}}, ctx)
    assert ctx.warnings[0][0] == "/process/scheduler/nice"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"class": "IOPRIO_CLASS_RT", "priority": 7}, 1 << 13 | 7),
        ({"class": "IOPRIO_CLASS_BE"}, 2 << 13),
        ({"class": "IOPRIO_CLASS_IDLE", "priority": 0}, 3 << 13),
    ],
)
def test_ioprio(value, expected):
    assert scheduling.plan({"/process/ioPriority": value}, Ctx())["ioprio"] == expected


@pytest.mark.parametrize(
    ("value", "words", "pointer"),
    [
        ({"class": "X"}, "invalid ioPriority.Class: X", "class"),
        ({}, "invalid ioPriority.Class: ", "class"),
        ({"class": "IOPRIO_CLASS_BE", "priority": 9}, "invalid ioPriority.Priority: 9", "priority"),
        ({"class": "IOPRIO_CLASS_BE", "priority": -1}, "invalid ioPriority.Priority: -1", "priority"),
    ],
)
def test_ioprio_refused(value, words, pointer):
    e = refused(scheduling, {"/process/ioPriority": value})
    assert (e.words, e.pointer) == (words, "/process/ioPriority/" + pointer)


@pytest.fixture
def many_cpus(monkeypatch):
    monkeypatch.setattr(scheduling, "_possible", lambda: 4096)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        (" ", None),
        ("0", [[0, 0]]),
        ("0-3,7", [[0, 3], [7, 7]]),
        (" 7 , 0 - 3 ,", [[0, 3], [7, 7]]),
        ("0-3,2-5", [[0, 3], [2, 5]]),
        ("1500-2000", [[1500, 2000]]),
        ("0-8191", [[0, 8191]]),
    ],
)
def test_cpu_lists(many_cpus, text, expected):
    entry = scheduling.plan({"/process/execCPUAffinity": {"initial": text, "final": text}}, Ctx(options={"command": "exec"}))
    assert (entry["initial"], entry["final"]) == (expected, expected)
    assert json.loads(json.dumps(entry)) == entry


@pytest.mark.parametrize(
    "text", ["banana", "0-99999", "3-1", "1-2-3", "-", "1-", "-1", "1 2", "٣", "9999999999", ",", "8192", "5000", "0x1"]
)
def test_cpu_lists_refused(many_cpus, text):
    assert refused(scheduling, {"/process/execCPUAffinity": {"initial": "0", "final": text}}).pointer == "/process/execCPUAffinity/final"


# ---- personality


@pytest.mark.parametrize(("domain", "number"), [("LINUX", 0), ("LINUX32", 8)])
def test_personality(domain, number):
    entry = personality.plan({"/linux/personality": {"domain": domain, "flags": []}}, Ctx())
    assert entry == {"domain": number}
    assert personality.exec_op(entry, None) == ("PERSONALITY", number)


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"domain": "LINUX99"}, "/linux/personality/domain"),
        ({}, "/linux/personality/domain"),
        ({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}, "/linux/personality/flags/0"),
    ],
)
def test_personality_refused(value, pointer):
    assert refused(personality, {"/linux/personality": value}).pointer == pointer


# ---- mempolicy


@pytest.fixture
def four_nodes(monkeypatch):
    monkeypatch.setattr(mempolicy, "_online", lambda: [[0, 3]])


def policy(mode, nodes=None, flags=None):
    value = {"mode": mode}
    if nodes is not None:
        value["nodes"] = nodes
    if flags is not None:
        value["flags"] = ["MPOL_F_" + flag for flag in flags]
    return {"/linux/memoryPolicy": value}


@pytest.mark.parametrize(
    ("node", "mode", "nodes"),
    [
        (policy("MPOL_DEFAULT"), 0, []),
        (policy("MPOL_DEFAULT", ""), 0, []),
        (policy("MPOL_LOCAL", " "), 4, []),
        (policy("MPOL_PREFERRED"), 1, []),
        (policy("MPOL_PREFERRED", "1"), 1, [[1, 1]]),
        (policy("MPOL_BIND", "0-1,3", ["NUMA_BALANCING"]), 2 | 1 << 13, [[0, 1], [3, 3]]),
        (policy("MPOL_INTERLEAVE", "0", ["STATIC_NODES"]), 3 | 1 << 15, [[0, 0]]),
        (policy("MPOL_PREFERRED_MANY", "2,0", ["NUMA_BALANCING"]), 5 | 1 << 13, [[0, 0], [2, 2]]),
        (policy("MPOL_WEIGHTED_INTERLEAVE", "3-9"), 6, [[3, 9]]),
        (policy("MPOL_BIND", "900-1023", ["RELATIVE_NODES"]), 2 | 1 << 14, [[900, 1023]]),
    ],
)
def test_memory_policy(four_nodes, node, mode, nodes):
    assert mempolicy.plan(node, Ctx()) == {"mode": mode, "nodes": nodes}


@pytest.mark.parametrize(
    ("node", "words", "pointer"),
    [
        (policy("MPOL_BOGUS"), 'invalid memory policy mode "MPOL_BOGUS"', "mode"),
        ({"/linux/memoryPolicy": {}}, 'invalid memory policy mode ""', "mode"),
        (policy("MPOL_BIND", "0", ["X"]), 'invalid memory policy flag "MPOL_F_X"', "flags/0"),
        (policy("MPOL_DEFAULT", "0-2"), "memory policy mode requires 0 nodes but got 3", "nodes"),
        (policy("MPOL_LOCAL", "1"), "memory policy mode requires 0 nodes but got 1", "nodes"),
        (policy("MPOL_BIND"), "memory policy mode requires at least one node but got 0", "nodes"),
        (policy("MPOL_INTERLEAVE", ""), "memory policy mode requires at least one node but got 0", "nodes"),
        (policy("MPOL_BIND", "x"), 'invalid memory policy nodes "x": not a list', "nodes"),
        (policy("MPOL_BIND", "9999"), 'invalid memory policy nodes "9999": no kernel has a node 9999', "nodes"),
        (policy("MPOL_BIND", "2-1"), 'invalid memory policy nodes "2-1": the range is empty', "nodes"),
        (policy("MPOL_BIND", "4,7"), "none of the nodes 4,7 is in this machine", "nodes"),
        (
            policy("MPOL_BIND", "0", ["STATIC_NODES", "RELATIVE_NODES"]),
            "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other", "flags/1",
        ),
        (
            policy("MPOL_PREFERRED", "0", ["NUMA_BALANCING"]),
            "MPOL_F_NUMA_BALANCING goes with MPOL_BIND and MPOL_PREFERRED_MANY, not with MPOL_PREFERRED", "flags/0",
        ),
        (policy("MPOL_PREFERRED", "", ["STATIC_NODES"]), "MPOL_F_STATIC_NODES says how nodes are meant, and none is given", "flags/0"),
    ],
)  # fmt: skip
def test_memory_policy_refused(four_nodes, node, words, pointer):
    e = refused(mempolicy, node)
    assert (e.words, e.pointer) == (words, "/linux/memoryPolicy/" + pointer)


@pytest.mark.parametrize(
    ("ranges", "mask", "maxnode"),
    [
        ([], b"", 0),
        ([[0, 0]], b"\x01" + bytes(7), 65),
        ([[0, 1], [3, 3]], b"\x0b" + bytes(7), 65),
        ([[63, 64]], bytes(7) + b"\x80\x01" + bytes(7), 129),
    ],
)
def test_masks(ranges, mask, maxnode):
    assert mempolicy.exec_op({"mode": 2, "nodes": ranges}, None) == ("MEMPOLICY", 2, mask, maxnode)
