"""What is wrong with a value, in words. Both validators (validate.py, explain.py) have theirs from here; pure, so that the helper process needs
no extension for them."""

from __future__ import annotations

from pyrunc import errors
from pyrunc.oci.pointers import join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from pyrunc.jsonio import Json
    from pyrunc.oci.schema_table import Rule

    Path: TypeAlias = tuple["Path | None", str | int]  # (path of the parent, key or index)

FORMS = {  # descriptions of the patterns in the schemas
    "^RLIMIT_[A-Z]+$": "the name of a limit, like RLIMIT_NOFILE",
    "^[0-9, -]*$": "a list of CPUs, like 0-3,8",
    "^[cbup]$": "c, b, u or p",
    "^[1-9][0-9]*[KMG]B$": "a page size, like 2MB or 1GB",
    "^MB:[^\\n]*$": "one line that begins with MB:",
    "^CAP_[A-Z_]+$": "the name of a capability, like CAP_CHOWN",
}


def expected(rule: Rule) -> str:
    """A rule in words, to be put after `X `."""
    if rule[0] == "i":
        return "must be a whole number from %d to %d" % (rule[1], rule[2])
    if rule[0] == "n":
        return "must be a whole number" + ("" if rule[1] is None else " of at least %d" % rule[1])
    if rule[0] == "e":
        return "must be one of " + ", ".join(rule[1])
    if rule[0] == "p":
        return "must be " + FORMS.get(rule[1], "text of the form " + rule[1])
    return "must be " + {"s": "a string", "b": "true or false", "o": "an object", "a": "a list", "x": "anything"}[rule[0]]


def shown(value: Json) -> str:
    """A value of the config, for a message."""
    if type(value) is str:
        return '"%s"' % errors.quote(value)
    if type(value) is dict:
        return "an object"
    if type(value) is list:
        return "a list"
    return {None: "null", True: "true", False: "false"}[value] if value is None or type(value) is bool else errors.quote(value)


def sentence(path: Path | None, rule: Rule, value: Json) -> str:
    return "%s %s, found %s" % (subject(path), expected(rule), shown(value))


def _steps(path: Path | None) -> list[str | int]:
    steps: list[str | int] = []
    while path is not None:
        path, key = path
        steps.append(key)
    return steps[::-1]


def pointer(path: Path | None) -> str:
    return join(*_steps(path))


def subject(path: Path | None) -> str:
    """'uid', 'args[0]', 'weightDevice[2].major'"""
    out = ""
    for step in _steps(path)[-3:]:
        if isinstance(step, int):
            out += "[%d]" % step
        else:
            out = out + "." + errors.quote(step) if out.endswith("]") else errors.quote(step)
    return out
