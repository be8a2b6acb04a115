"""The filter with the names of its actions, comparisons and flags."""

from __future__ import annotations

from pyrunc.linux import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.parts.seccomp.profile import Entry, Rule
    from pyrunc.parts.sides import Json

SIGNS = {1: "!=", 2: "<", 3: "<=", 4: "==", 5: ">=", 6: ">"}  # of filters.OPERATORS


def readable(entry: Entry) -> Json:
    rules = [{**rule, "action": filters.action_name(rule["action"]), "args": _conditions(rule)} for rule in entry["profile"]["rules"]]
    return _with_rules(entry, rules)


def brief(entry: Entry) -> Json:
    return _with_rules(entry, [_line(rule) for rule in entry["profile"]["rules"]])


def _with_rules(entry: Entry, rules: Sequence[Json]) -> Json:
    profile = {**entry["profile"], "default": filters.action_name(entry["profile"]["default"]), "rules": rules}
    flags = [name[len("SECCOMP_FILTER_FLAG_") :] for name, bit in filters.FLAGS.items() if entry["flags"] & bit]
    return {**entry, "profile": profile, "flags": flags}


def _line(rule: Rule) -> str:
    """The action, the calls, and the conditions, all of which must hold."""
    conditions = " and ".join(_conditions(rule))
    return "%s %s%s" % (filters.action_name(rule["action"]), ", ".join(rule["names"]), " if " + conditions if conditions else "")


def _conditions(rule: Rule) -> list[str]:
    found = []
    for index, operator, one, two in rule["args"]:
        masked = operator == filters.MASKED_EQ
        found.append("arg%d & %#x == %#x" % (index, one, two) if masked else "arg%d %s %d" % (index, SIGNS[operator], one))
    return found
