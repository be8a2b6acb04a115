"""Limits: device rules as the kernel writes them."""

from __future__ import annotations

from pyrunc.cgroup import devices_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cgroup.devices_rules import Rule
    from pyrunc.parts.resources import Entry
    from pyrunc.parts.sides import Json


def brief(entry: Entry) -> Json:
    return {**entry, "devices": [_rule(rule) for rule in entry.get("devices", ())]}


def _rule(rule: Rule) -> str:
    allow, kind, major, minor, access = rule
    return "%s %s" % ("allow" if allow else "deny", devices_rules.text((kind, major, minor), access))
