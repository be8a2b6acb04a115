"""cgroup/devices_rules.py and devices_bpf.py: the meaning of a list of device rules. The eBPF program runs in a small simulator."""

import itertools
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrunc.cgroup import devices_bpf, devices_rules
from pyrunc.errors import Unsupported

DENY_ALL = [False, "a", -1, -1, "rwm"]
ALLOW_ALL = [True, "a", -1, -1, "rwm"]
DEFAULTS = [rule for _path, rule in devices_rules.DEFAULTS]


def lines(rules):
    found = devices_rules.Rules(rules)
    return found.default, found.lines()


@pytest.mark.parametrize(
    "rules, default, wanted",
    [
        ([], False, []),
        ([DENY_ALL], False, []),
        ([ALLOW_ALL], True, []),
        ([ALLOW_ALL, DENY_ALL], False, []),
        ([[True, "c", 1, 3, "rw"], [True, "c", 1, 3, "m"]], False, ["c 1:3 rwm"]),
        ([[True, "c", 1, 3, "rwm"], [False, "c", 1, 3, "w"]], False, ["c 1:3 rm"]),
        ([[True, "c", 1, 3, "rwm"], [False, "c", 1, 3, "rwm"]], False, []),
        ([[False, "c", 10, 229, "rwm"]], False, []),
        ([ALLOW_ALL, [False, "c", 10, 229, "rwm"]], True, ["c 10:229 rwm"]),
        ([ALLOW_ALL, [False, "c", 10, 229, "rwm"], [True, "c", 10, 229, "r"]], True, ["c 10:229 wm"]),
        ([[True, "b", 8, -1, "r"]], False, ["b 8:* r"]),
        ([[True, "a", -1, -1, "r"]], False, ["b *:* r", "c *:* r"]),  # never read as "allow everything"
        ([[True, "a", 8, 0, "rwm"]], False, ["b 8:0 rwm", "c 8:0 rwm"]),
        ([[True, "c", 10, 229, "rwm"], [False, "c", -1, -1, "rw"]], False, ["c 10:229 m"]),  # a wider rule that comes later
        ([[True, "c", 10, 229, "rwm"], [True, "c", 1, 3, "r"], [False, "c", 10, -1, "rwm"]], False, ["c 1:3 r"]),
        ([[True, "b", 1, 3, "w"], [False, "a", -1, -1, "rw"]], False, []),
        ([ALLOW_ALL, [False, "c", 10, 229, "rwm"], [True, "c", -1, 229, "rm"]], True, ["c 10:229 w"]),
    ],
)
def test_rules(rules, default, wanted):
    assert lines(rules) == (default, wanted)


def test_the_defaults_alone():
    assert lines(DEFAULTS) == (
        False,
        [
            "b *:* m",
            "c *:* m",
            "c 1:3 rwm",
            "c 1:5 rwm",
            "c 1:7 rwm",
            "c 1:8 rwm",
            "c 1:9 rwm",
            "c 5:0 rwm",
            "c 5:2 rwm",
            "c 10:200 rwm",
            "c 136:* rwm",
        ],
    )


DOCKER = (
    [DENY_ALL] + [[True, "c", a, b, "rwm"] for a, b in ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1))] + [[False, "c", 10, 229, "rwm"]]
)


def test_docker_sends_its_list_twice():
    once, twice = devices_rules.Rules(DOCKER + DEFAULTS), devices_rules.Rules(DOCKER * 2 + DEFAULTS)
    assert once.exceptions == twice.exceptions and not twice.punched
    assert "c 5:1 rwm" in once.lines() and "c 10:229 rwm" not in once.lines()


@pytest.mark.parametrize(
    "rules, refused",
    [
        ([[True, "c", -1, -1, "rwm"], [False, "c", 1, 3, "w"]], True),
        ([[True, "c", 1, -1, "rwm"], [False, "c", 1, 3, "w"]], True),
        ([[True, "c", -1, 3, "r"], [False, "c", 1, 3, "r"]], True),
        ([[True, "c", -1, 3, "r"], [False, "c", 1, -1, "r"]], True),
        ([[True, "c", 1, 3, "r"], [False, "c", 1, -1, "r"]], False),
        ([[True, "c", -1, -1, "m"], [False, "c", 1, 3, "rw"]], False),
        ([[True, "c", -1, -1, "rwm"], [False, "c", -1, -1, "w"]], False),
        ([[True, "b", -1, -1, "rwm"], [False, "c", 1, 3, "w"]], False),
        ([[True, "c", -1, -1, "rwm"], [False, "c", 1, 3, "w"], DENY_ALL], False),
    ],
)
def test_v1_cannot_make_exceptions_of_exceptions(rules, refused):
    if not refused:
        devices_rules.check_v1(rules)
        return
    with pytest.raises(Unsupported) as e:
        devices_rules.check_v1(rules)
    assert "cannot punch hole in existing wildcard rule" in e.value.words
    assert e.value.pointer == "/linux/resources/devices/1"


# --- the program


def run(code, kind, access, major, minor):
    """An eBPF interpreter for the instructions that devices_bpf emits. Returns r0."""
    insns = list(struct.iter_unpack("=BBhi", code))
    context = {0: {"b": 1, "c": 2}[kind] | access << 16, 4: major, 8: minor}
    registers = [0] * 11
    at = steps = 0
    while True:
        steps += 1
        assert steps < 100000
        op, regs, offset, value = insns[at]
        dst, src = regs & 15, regs >> 4
        at += 1
        if op == 0x61:
            registers[dst] = context[offset]
        elif op == 0x54:
            registers[dst] = registers[dst] & value & 0xFFFFFFFF
        elif op == 0x57:
            registers[dst] &= value
        elif op == 0x74:
            registers[dst] = (registers[dst] & 0xFFFFFFFF) >> value
        elif op == 0xBF:
            registers[dst] = registers[src]
        elif op == 0xB7:
            registers[dst] = value
        elif op == 0x55:
            at += offset if registers[dst] != value else 0
        elif op == 0x15:
            at += offset if registers[dst] == value else 0
        elif op == 0x95:
            return registers[0]
        else:
            raise AssertionError("unknown instruction %#x" % op)


BITS = {"m": 1, "r": 2, "w": 4}


def meaning(rules, kind, access, major, minor):
    """The definition: the last rule that names the device and the letter decides; without one it is denied."""
    for letter, bit in BITS.items():
        if not access & bit:
            continue
        answer = False
        for allow, rule_kind, rule_major, rule_minor, letters in rules:
            if rule_kind in ("a", kind) and rule_major in (-1, major) and rule_minor in (-1, minor) and letter in letters:
                answer = allow
        if not answer:
            return 0
    return 1


NODES = list(itertools.product("bc", (0, 1, 5, 77), (0, 3, 4095)))
numbers = st.sampled_from([-1, 0, 1, 3, 5, 200, 4095])
rule = st.tuples(
    st.booleans(), st.sampled_from("abc"), numbers, numbers, st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"])
).map(list)  # fmt: skip


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(rule, max_size=8))
def test_program_means_what_the_rules_mean(rules):
    code = devices_bpf.program(rules)
    for kind, major, minor in NODES:
        for access in range(1, 8):
            assert run(code, kind, access, major, minor) == meaning(rules, kind, access, major, minor)


def on_v1(found, kind, letter, major, minor):
    """The kernel's answer: an exception that names the device and the letter reverses the default."""
    named = any(k == kind and a in (-1, major) and b in (-1, minor) and letter in access for (k, a, b), access in found.exceptions.items())
    return named != found.default


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(rule, max_size=8))
def test_v1_means_what_the_rules_mean(rules):
    found = devices_rules.Rules(rules)
    for kind, major, minor in NODES if not found.punched else ():
        for letter, bit in BITS.items():
            assert on_v1(found, kind, letter, major, minor) == meaning(rules, kind, bit, major, minor)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(rule, max_size=8))
def test_allows_everything_is_true_only_where_it_is(rules):
    everything = all(meaning(rules, kind, access, 77, 78) for kind in "bc" for access in range(1, 8))
    assert everything or not devices_bpf.allows_everything(rules)


@pytest.mark.parametrize(
    "rules, answer",
    [
        ([], False),
        ([ALLOW_ALL], True),
        ([ALLOW_ALL] + DEFAULTS, True),
        ([ALLOW_ALL, [False, "c", 1, 3, "r"]], False),
        (DEFAULTS, False),
        ([DENY_ALL], False),
    ],
)
def test_when_no_program_is_needed(rules, answer):
    assert devices_bpf.allows_everything(rules) is answer


def test_a_number_beyond_all_devices_matches_nothing():
    assert run(devices_bpf.program([[True, "c", 2**31, 0, "rwm"]]), "c", 2, 2**31, 0) == 0


def test_empty_rules_deny_everything():
    code = devices_bpf.program([])
    assert not any(run(code, kind, access, 1, 3) for kind in "bc" for access in range(1, 8))


def test_lines_keep_the_order_of_the_config():
    rules = [[True, "c", 10, 229, "rw"], *DEFAULTS, [True, "b", 8, 0, "r"], [True, "c", 4, 1, "rw"]]
    assert lines(rules)[1][:3] == ["c 10:229 rw", "b 8:0 r", "c 4:1 rw"]
