"""Helper `regex`: the names in which a regular expression matches. Payload: {"pattern", "names"}; answer: list of names."""

from __future__ import annotations

import re

from pyrunc import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.helper.shapes import Payload


def run(payload: Payload) -> list[str]:
    try:
        expression = re.compile(payload["pattern"])
    except (re.error, RecursionError, OverflowError) as e:
        raise errors.Refusal("bad-regex", "invalid regular expression %s: %s" % (errors.quote(payload["pattern"]), e), None) from None
    return [name for name in payload["names"] if expression.search(name)]
