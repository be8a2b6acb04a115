"""Helper `regex`: the names in which a regular expression matches. Payload: {"pattern", "names"}; answer: list of names."""

from __future__ import annotations

import re
from typing import Any

from pyrunc import errors


def run(payload: dict[str, Any]) -> list[str]:
    try:
        expression = re.compile(payload["pattern"])
    except (re.error, RecursionError, OverflowError) as e:
        raise errors.Refusal("bad-regex", "invalid regular expression %s: %s" % (errors.quote(payload["pattern"]), e), None) from None
    return [name for name in payload["names"] if expression.search(name)]
