"""The fast validator: checks a document against the table in schema_table. The extension first checks whether all of it conforms
(csrc/schema.c); only if it does not is it walked here, to find the pointers and words.

jsonschema is the reference (oci/explain.py); test_validators_agree makes sure that both give the same errors and pointers. Invariant: it
checks types, ranges, enumerations and required keys, as the schemas do, and nothing else; unknown keys are ignored. Requirements in the
text of the spec are checked by the parts.
"""

from __future__ import annotations

from pyrunc import errors
from pyrunc.linux._syscalls import conforms
from pyrunc.oci import schema_table
from pyrunc.oci.problem_words import pointer, sentence, shown, subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from pyrunc.jsonio import Json
    from pyrunc.oci.problem_words import Path
    from pyrunc.oci.schema_table import List, Object, Rule, Unit

    Problem: TypeAlias = tuple[str, str, Json, str]  # (pointer, words, value, reason)

_STRINGS = frozenset((str,))
MOST = 1000  # the maximum number of problems in a list


def check(document: Json, what: str = "config", all: bool = False) -> list[Problem]:
    """-> [(pointer, words, value, reason)], empty if the document is valid. what: config, process, resources, state, features.

    Stops at the first problem unless `all`. The words begin with the name of the property and form a sentence."""
    rule = schema_table.ROOTS[what]
    found: list[Problem] = []
    if type(document) is not dict:
        return [("/", "the document must be an object, found %s" % shown(document), document, "wrong-type")]
    if conforms(document, rule):
        return []
    _object(document, rule, None, found, MOST if all else 1)
    return found


def _object(node: dict[str, Json], rule: Object, path: Path | None, found: list[Problem], most: int) -> None:
    _, required, props, rest = rule
    for key in required:
        if key not in node:
            found.append((pointer((path, key)), "%s is missing" % errors.quote(key), None, "missing"))
    for key, value in node.items():
        below = props.get(key) or rest
        if below is None:
            continue
        kind = below[0]  # only once: repeating below[0] would help mypy, but cost another look-up per property
        if kind == "s":
            if type(value) is str:
                continue
        elif kind == "o":
            if type(value) is dict:
                _object(value, below, (path, key), found, most)  # type: ignore[arg-type]  # by its kind
                if len(found) < most:
                    continue
                return
        elif kind == "a":
            if type(value) is list:
                _list(value, below, (path, key), found, most)  # type: ignore[arg-type]
                if len(found) < most:
                    continue
                return
        elif _fits(value, below):
            continue
        found.append(_problem(path, key, below, value))
        if len(found) >= most:
            return


def _list(node: list[Json], rule: List, path: Path, found: list[Problem], most: int) -> None:
    below = rule[1]
    kind = below[0]
    if len(node) < rule[2]:
        found.append((pointer(path), "%s must hold at least %d" % (subject(path), rule[2]), node, "too-few"))
    if kind == "s" and _STRINGS.issuperset(map(type, node)):
        return
    for index, value in enumerate(node):
        if kind == "s":
            if type(value) is str:
                continue
        elif kind == "o":
            if type(value) is dict:
                _object(value, below, (path, index), found, most)  # type: ignore[arg-type]
                if len(found) < most:
                    continue
                return
        elif kind == "a":
            if type(value) is list:
                _list(value, below, (path, index), found, most)  # type: ignore[arg-type]
                if len(found) < most:
                    continue
                return
        elif _fits(value, below):
            continue
        found.append(_problem(path, index, below, value))
        if len(found) >= most:
            return


def _fits(value: Json, rule: Rule) -> bool:
    """Whether a scalar satisfies a rule. In Python bool is an int, so types are compared exactly."""
    if rule[0] == "i":
        return type(value) is int and rule[1] <= value <= rule[2]
    if rule[0] == "b":
        return type(value) is bool
    if rule[0] == "e":
        return type(value) is str and value in rule[1]
    if rule[0] == "n":
        return type(value) is int and (rule[1] is None or value >= rule[1])
    if rule[0] == "p":
        return type(value) is str and matches(value, rule[2])
    return rule[0] == "x" or (rule[0] == "s" and type(value) is str)


def matches(text: str, units: Iterable[Unit]) -> bool:
    """Whether all of `text` matches the units, each matching greedily (specs/derive.py makes sure that this is sufficient)."""
    at, end = 0, len(text)
    for chars, least, most, excluded in units:
        stop = end if most is None else min(end, at + most)
        start = at
        while at < stop and (text[at] in chars) is not excluded:
            at += 1
        if at - start < least:
            return False
    return at == end


def _problem(path: Path | None, key: str | int, rule: Rule, value: Json) -> Problem:
    path = (path, key)
    return pointer(path), sentence(path, rule, value), value, "wrong-type"
