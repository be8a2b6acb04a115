"""Device rules: the meaning of a list of rules, and how to apply it on cgroup v1.

runtime-spec, config-linux.md#device-cgroup; Documentation/admin-guide/cgroup-v1/devices.rst. A rule is [allow, type, major, minor,
access]: type "a" (every device), "b" or "c"; major and minor -1 for any; access consists of the letters r, w, m. Invariant: what no rule
allows is denied, and on v1 "deny a" is written before the first allow, whatever the parent cgroup allows (applying a deny list to an
allow-all cgroup was GHSA-g54h-m393-cpwq).
"""

from __future__ import annotations

import errno

from pyrunc.cgroup.group import Group
from pyrunc.errors import CallError, StepFailure, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TypeAlias

    Rule: TypeAlias = list[Any]  # [allow, type, major, minor, access], as in a plan: JSON has no tuples
    Key: TypeAlias = tuple[str, int, int]  # (type, major, minor); -1 matches any number

POINTER = "/linux/resources/devices"
FULL = "rwm"
# Allowed unless the config denies it: creating nodes, and the devices that every container has.
DEFAULTS = (
    (None, [True, "b", -1, -1, "m"]),
    (None, [True, "c", -1, -1, "m"]),
    ("/dev/null", [True, "c", 1, 3, FULL]),
    ("/dev/zero", [True, "c", 1, 5, FULL]),
    ("/dev/full", [True, "c", 1, 7, FULL]),
    ("/dev/random", [True, "c", 1, 8, FULL]),
    ("/dev/urandom", [True, "c", 1, 9, FULL]),
    ("/dev/tty", [True, "c", 5, 0, FULL]),
    (None, [True, "c", 5, 2, FULL]),  # ptmx
    (None, [True, "c", 10, 200, FULL]),  # net/tun: always a default in runc
    (None, [True, "c", 136, -1, FULL]),  # pts
)

_BUILT_IN = frozenset([tuple(rule[1:4]) for _path, rule in DEFAULTS])


def split(rule: Rule) -> list[Rule]:
    """Splits a rule of type "a" with numbers or partial access into one for each type: the kernel's "a" ignores numbers and access."""
    allow, kind, major, minor, access = rule
    if kind != "a" or (major == -1 and minor == -1 and set(access) == set(FULL)):
        return [[allow, kind, major, minor, access]]
    return [[allow, "b", major, minor, access], [allow, "c", major, minor, access]]


def with_rule(rules: Iterable[Rule], rule: Rule) -> list[Rule]:
    """The list with one more rule at the end: earlier rules for exactly the same devices lose the letters that it decides. A denial is left
    out if nothing would allow the access anyway; a denial of mknod also if the built-in rule allows it for all devices, which v1 can't
    narrow."""
    allow, kind, major, minor, access = rule
    out = []
    for old in rules:
        if old[1:4] == [kind, major, minor] and kind != "a":
            left = "".join(c for c in old[4] if c not in access)
            old = [*old[:4], left]
        if old[4]:
            out.append(list(old))
    if not allow and kind != "a":
        access = "".join(c for c in access if may(out, kind, major, minor, c) and not (c == "m" and [True, kind, -1, -1, "m"] in out))
    return [*out, [allow, kind, major, minor, access]] if access else out


def may(rules: Sequence[Rule], kind: str, major: int, minor: int, letter: str) -> bool:
    """Whether a list allows any of the devices that match: the last matching rule decides, and allowing some of them is enough."""
    for allow, other, *numbers, access in reversed(rules):
        if letter not in access or other not in (kind, "a"):
            continue
        pairs = list(zip(numbers, (major, minor), strict=True))
        if all(-1 in pair or pair[0] == pair[1] for pair in pairs):
            covers = all(theirs in (-1, ours) for theirs, ours in pairs)
            if allow or covers:
                return bool(allow)
    return False


class Rules:
    """The result of applying a list of rules in order. default: the decision for devices without an exception; exceptions: {(type, major,
    minor): set of letters} with the opposite decision. `punched` has the rules that v1 can't express: [(number, text)]."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.default = False
        self.exceptions: dict[Key, set[str]] = {}
        self.punched: list[tuple[int, str]] = []
        for number, rule in enumerate(rules):
            if rule[1] == "a":
                for one in split(rule):
                    self._add(number, one)
            else:
                self._add(number, rule)

    def _add(self, number: int, rule: Rule) -> None:
        allow, kind, major, minor, access = rule
        if kind == "a":
            self.default = allow
            self.exceptions = {}
            self.punched = []
            return
        key = (kind, major, minor)
        if allow != self.default:
            self.exceptions.setdefault(key, set()).update(access)
            return
        for other, letters in list(self.exceptions.items()):
            if letters.isdisjoint(access) or not _meet(key, other):
                continue
            if not _covers(key, other):
                self.punched.append((number, "%s in %s" % (text(key, access), text(other, letters))))
            elif letters.difference(access):
                self.exceptions[other] = letters.difference(access)
            else:
                del self.exceptions[other]

    def lines(self) -> list[str]:
        """The exceptions in v1's format: first the config's in order, then the built-in ones."""
        return [text(key, self.exceptions[key]) for key in sorted(self.exceptions, key=_BUILT_IN.__contains__)]  # stable


def _meet(one: Key, other: Key) -> bool:
    """Whether some device matches both."""
    return all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def _covers(wide: Key, narrow: Key) -> bool:
    """Whether the first, which overlaps the second, matches all of its devices."""
    return all(a in (-1, b) for a, b in zip(wide, narrow, strict=True))


_ALL = frozenset(FULL)


def text(key: Key, access: Iterable[str]) -> str:
    kind, major, minor = key
    letters = FULL if access == _ALL else "".join(c for c in FULL if c in access)
    return "%s %s:%s %s" % (kind, "*" if major == -1 else major, "*" if minor == -1 else minor, letters)


def check_v1(rules: Iterable[Rule], numbers: Sequence[int] | None = None) -> None:
    """Unsupported if the list has a deny within a wildcard allow, which v1 would silently ignore. numbers: the index of each rule in the
    config, -1 for a built-in one; without it, the list is the config's."""
    rules = list(rules)
    if len({rule[0] for rule in rules if rule[1:] != ["a", -1, -1, FULL]}) < 2:
        return  # only a rule that denies cuts a hole into what others allow
    punched = Rules(rules).punched
    if punched:
        number, what = punched[0]
        index = number if numbers is None else numbers[number]
        raise Unsupported(
            "punched-wildcard", "requested rule not supported by devices cgroupv1 (cannot punch hole in existing wildcard rule): %s" % what,
            POINTER if index < 0 else "%s/%d" % (POINTER, index),
            "cgroup v2", "deny before the wildcard, or allow the devices one by one",
        )  # fmt: skip


def apply_v1(path: str, rules: Iterable[Rule]) -> None:
    """Sets all rules of a devices cgroup. StepFailure with the line that was refused, or if the kernel's list is then not as expected."""
    wanted = Rules(rules)
    group = Group(path, "devices")
    try:
        if wanted.default:
            group.write("devices.allow", "a", POINTER)
            _put(group, "devices.deny", wanted.lines())
            return
        group.write("devices.deny", "a", POINTER)
        lines = wanted.lines()
        _put(group, "devices.allow", lines)
        _verify(group, wanted, lines)
    finally:
        group.close()


def change_v1(path: str, old: Iterable[Rule], new: Sequence[Rule]) -> int:
    """Changes one list to another on a live cgroup, writing only the differences: a device that remains allowed is never denied in between.
    Returns the number of writes."""
    before, after = Rules(old), Rules(new)
    if before.default != after.default:
        apply_v1(path, new)
        return -1
    away, there = ("devices.allow", "devices.deny") if after.default else ("devices.deny", "devices.allow")
    group = Group(path, "devices")
    count = 0
    try:
        for file, these, others in ((away, before.exceptions, after.exceptions), (there, after.exceptions, before.exceptions)):
            for key, access in sorted(these.items()):
                rest = access - others.get(key, set())
                if rest:
                    _put(group, file, [text(key, rest)])
                    count += 1
        if not after.default:
            _verify(group, after, after.lines())
    finally:
        group.close()
    return count


def _put(group: Group, file: str, lines: Sequence[str]) -> None:
    try:
        group.put_each(file, lines)
    except OSError as e:
        failure = group.failure(e, file, CallError.of(e).value or "", POINTER)
        if e.errno == errno.EPERM and file == "devices.allow":
            failure.hint = "a parent cgroup denies this device; it must allow it first"
        raise failure from None


def _verify(group: Group, wanted: Rules, lines: Sequence[str]) -> None:
    """Reads devices.list back: a cgroup that still allows everything, or differs from the rules, must not be used. lines: wanted.lines(),
    which the kernel nearly always shows unchanged."""
    words = group.look("devices.list") or ""
    if {*words.split("\n")} == {*lines, ""}:
        return
    everything, seen = listed(words)
    if everything:
        raise StepFailure(
            "device-rules",
            "device rules are not in force: %s/devices.list allows all devices" % group.path,
            pointer=POINTER,
            path=group.path,
        )
    if seen != wanted.exceptions:
        odd = sorted(text(k, a) for k, a in seen.items() if wanted.exceptions.get(k) != a) or sorted(
            text(k, a) for k, a in wanted.exceptions.items() if seen.get(k) != a
        )
        raise StepFailure(
            "device-rules",
            "device rules are not in force: %s/devices.list differs at %s" % (group.path, odd[0]),
            pointer=POINTER,
            path=group.path,
        )


def listed(words: str) -> tuple[bool, dict[Key, set[str]]]:
    """The text of devices.list -> (whether all devices are allowed, exceptions as in Rules). The kernel does not show the exceptions of a
    cgroup that allows everything."""
    everything = False
    seen: dict[Key, set[str]] = {}
    for line in words.split("\n"):
        fields = line.split()
        if len(fields) != 3:
            continue
        if fields[0] == "a":
            everything = True
            continue
        major, _, minor = fields[1].partition(":")
        key = (fields[0], -1 if major == "*" else int(major), -1 if minor == "*" else int(minor))
        seen.setdefault(key, set()).update(fields[2])
    return everything, seen
