"""cgroup/v2.py: neutral resources become control files, as tables; a dictionary takes the place of the directory."""

import errno
import math

import pytest

import cgroup_tools as tools
from pyrunc.cgroup import v2
from pyrunc.errors import StepFailure


@pytest.mark.parametrize(
    "shares, weight",
    [
        (1, 1), (2, 1), (3, 2), (10, 4), (100, 17), (128, 21), (256, 35), (512, 59), (1000, 99), (1024, 100), (2048, 174), (4096, 303),
        (10240, 639), (100000, 4340), (262144, 10000), (300000, 10000),
    ],
)  # fmt: skip
def test_weight_of_shares(shares, weight):
    assert v2.weight_of(shares) == weight


def test_our_logarithm_gives_the_same_weights_as_the_math_module():
    for shares in list(range(3, 5000)) + list(range(5000, 262144, 97)):
        power = math.log2(shares)
        assert v2.weight_of(shares) == math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


@pytest.mark.parametrize(
    "limit, swap, value",
    [
        (-1, 0, "max"), (100, 0, None), (0, 0, None), (100, -1, "max"), (0, -1, "max"), (-1, 500, "500"), (100, 100, "0"),
        (100, 250, "150"),
        (-1, -1, "max"),
    ],
)  # fmt: skip
def test_swap(limit, swap, value):
    assert v2.swap_value(limit, swap) == value


@pytest.mark.parametrize(
    "mem, written",
    [
        ({"limit": 100}, ["memory.max=100"]),
        ({"limit": -1}, ["memory.swap.max=max", "memory.max=max"]),
        ({"limit": 100, "swap": 100}, ["memory.swap.max=0", "memory.max=100"]),
        ({"limit": 100, "swap": 300, "reservation": 50}, ["memory.swap.max=200", "memory.max=100", "memory.low=50"]),
        ({"reservation": -1}, ["memory.low=max"]),
    ],
)
def test_memory(mem, written):
    group = tools.Files(key="unified")
    v2.memory(group, mem)
    assert group.written == written


@pytest.mark.parametrize("swap, fails", [(100, False), (-1, False), (150, True)])
def test_a_kernel_without_swap(swap, fails, monkeypatch):
    monkeypatch.setattr(v2, "explain_missing", lambda *a: ("reason", None))
    group = tools.Files({}, {"memory.swap.max": errno.ENOENT}, "unified")
    if fails:
        with pytest.raises(StepFailure):
            v2.memory(group, {"limit": 100, "swap": swap})
    else:
        v2.memory(group, {"limit": 100, "swap": swap})
        assert group.written == ["memory.max=100"]


@pytest.mark.parametrize(
    "mem, usage, words",
    [
        ({"limit": 100, "check": True}, "100", "rejecting memory limit 100 <= usage 100"),
        ({"limit": 100, "swap": 150, "check": True}, "120", "rejecting memory limit 100 <= usage 120"),
        ({"swap": 150, "check": True}, "200", "rejecting memory+swap limit 150 <= usage 200"),
        ({"limit": 101, "check": True}, "100", None),
        ({"limit": 100, "check": True}, None, None),
        ({"limit": -1, "check": True}, "100", None),
        ({"limit": 100}, "500", None),
    ],
)
def test_check_before_update(mem, usage, words):
    group = tools.Files({} if usage is None else {"memory.current": usage + "\n"}, key="unified")
    if words is None:
        v2.memory(group, mem)
        return
    with pytest.raises(StepFailure) as e:
        v2.memory(group, mem)
    assert e.value.words == words and group.written == []


@pytest.mark.parametrize(
    "quota, period, now, text",
    [
        (50000, 100000, None, "50000 100000"), (50000, 0, None, "50000 100000"), (50000, 0, "max 20000", "50000 20000"),
        (0, 20000, "7000 10000", "7000 20000"), (0, 20000, None, "max 20000"), (-1, 0, "7000 10000", "max 10000"),
        (-5, 20000, None, "max 20000"),
    ],
)  # fmt: skip
def test_cpu_max(quota, period, now, text):
    assert v2.cpu_max(quota, period, now) == text


@pytest.mark.parametrize(
    "cpu, refuse, written",
    [
        ({"shares": 1024}, {}, ["cpu.weight=100"]),
        ({"shares": 2}, {}, ["cpu.weight=1"]),
        ({"idle": 0, "shares": 1024}, {}, ["cpu.idle=0", "cpu.weight=100"]),
        ({"idle": 1, "shares": 1024}, {}, ["cpu.idle=1"]),
        ({"burst": 5}, {}, ["cpu.max.burst=5"]),
        ({"burst": 5, "quota": 5000}, {"cpu.max.burst": errno.EINVAL}, ["cpu.max=5000 100000", "cpu.max.burst=5"]),
    ],
)
def test_cpu(cpu, refuse, written):
    group = tools.Files({}, refuse, "unified")
    v2.cpu(group, cpu)
    assert group.written == written


def test_a_late_burst_that_fails_again_is_an_error():
    class Stubborn(tools.Files):
        def put(self, name, value):
            if name == "cpu.max.burst":
                raise OSError(errno.EINVAL, "x", name)
            super().put(name, value)

    with pytest.raises(StepFailure):
        v2.cpu(Stubborn(key="unified"), {"burst": 9000, "quota": 5000})


@pytest.mark.parametrize("weight, io", [(10, 1), (11, 11), (100, 910), (500, 4950), (1000, 10000)])
def test_io_weight(weight, io):
    assert v2.io_weight_of(weight) == io


@pytest.mark.parametrize("bfq", [True, False])
def test_io(bfq):
    group = tools.Files({"io.bfq.weight": "default 100"} if bfq else {}, key="unified")
    v2.io(group, {"weight": 500, "devices": [[8, 0, 100, None]], "throttle": [["rbps", 8, 0, 1000, "p"], ["wiops", 8, 16, 0, "p"]]})
    weights = ["io.bfq.weight=500", "io.bfq.weight=8:0 100"] if bfq else ["io.weight=4950", "io.weight=8:0 910"]
    assert group.written == weights + ["io.max=8:0 rbps=1000", "io.max=8:16 wiops=max"]


@pytest.mark.parametrize(
    "value, lines", [("max", ["max"]), ("8:0 rbps=1\n8:16 rbps=2\n", ["8:0 rbps=1", "8:16 rbps=2"]), ("", [""]), ("a\n\nb", ["a", "b"])]
)
def test_unified_is_written_line_by_line(value, lines):
    group = tools.Files(key="unified")
    v2.unified(group, [["io.max", value]])
    assert group.written == ["io.max=" + line for line in lines]


def test_unified_of_a_controller_that_is_not_there(monkeypatch):
    monkeypatch.setattr(v2, "explain_missing", lambda *a: ("reason", "a hint"))
    monkeypatch.setattr(v2, "controllers", lambda path: {"cpu"})
    with pytest.raises(StepFailure) as e:
        v2.unified(tools.Files({}, {"memory.max": errno.ENOENT}, "unified"), [["memory.max", "1"]])
    assert 'controller "memory" not available' in e.value.words and e.value.hint == "a hint"
    assert e.value.pointer == "/linux/resources/unified/memory.max"


def test_unified_is_written_last():
    assert v2.WRITERS[-1][0] == "unified"


@pytest.mark.parametrize(
    "resources, controller, wanted",
    [
        ({"memory": {"limit": 1}}, "memory", True),
        ({"blkio": {"weight": 10}}, "io", True),
        ({"unified": [["io.max", "x"]]}, "io", True),
        ({"pids": {"limit": 1}}, "memory", False),
    ],
)
def test_wants(resources, controller, wanted):
    assert v2._wants(resources, controller) is wanted
