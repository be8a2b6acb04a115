"""devices_rules.with_rule: a list of rules with one more at the end, as for `update --device-add` and `--device-remove`."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrunc.cgroup.devices_rules import DEFAULTS, may, with_rule

numbers = st.sampled_from([-1, 1, 2])
accesses = st.sampled_from(["r", "w", "m", "rw", "rwm"])
rules = st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), numbers, numbers, accesses).map(list), max_size=6)
news = st.tuples(st.booleans(), st.sampled_from("bc"), numbers, numbers, accesses).map(list)
DEVICES = [(kind, major, minor, letter) for kind in "bc" for major in (1, 2, 3) for minor in (1, 2, 3) for letter in "rwm"]
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


def answer(listed, kind, major, minor, letter):
    """The answer of the last rule that names the device and the letter; without one it is denied."""
    for allow, other, a, b, access in reversed(listed):
        if other in ("a", kind) and a in (-1, major) and b in (-1, minor) and letter in access:
            return allow
    return False


def answers(listed):
    return [answer(listed, *device) for device in DEVICES]


@PATIENT
@given(rules, news)
def test_it_means_what_appending_means(listed, new):
    """Except for mknod: the built-in rules allow it for all devices, and a denial does not change that."""
    assert [a for d, a in zip(DEVICES, answers(with_rule(listed, new)), strict=True) if d[3] != "m"] == [
        a for d, a in zip(DEVICES, answers([*listed, new]), strict=True) if d[3] != "m"
    ]


@PATIENT
@given(rules, news)
def test_a_list_does_not_grow_by_repetition(listed, new):
    once = with_rule(listed, new)
    assert with_rule(once, new) == once


@PATIENT
@given(rules, st.tuples(st.sampled_from("bc"), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 3]), st.sampled_from("rwm")))
def test_may_is_the_answer_for_one_device(listed, device):
    assert may(listed, *device) == answer(listed, *device)


@pytest.mark.parametrize("access", ["r", "rw", "rwm"])
def test_what_was_added_can_be_removed(access):
    before = [list(rule) for _path, rule in DEFAULTS]
    assert with_rule(with_rule(before, [True, "c", 10, 229, access]), [False, "c", 10, 229, "rwm"]) == before


def test_a_builtin_device_is_denied_but_not_its_node():
    before = [list(rule) for _path, rule in DEFAULTS]
    after = with_rule(before, [False, "c", 1, 5, "rwm"])
    assert not may(after, "c", 1, 5, "r") and not may(after, "c", 1, 5, "w") and may(after, "c", 1, 5, "m")
    assert [False, "c", 1, 5, "rw"] not in after, "no rule allows it any longer, so none has to deny it"
