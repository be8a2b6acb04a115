"""Durations on the command line."""

from __future__ import annotations

from pyrunc.errors import UsageError, quote

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST = 500 * 3600.0  # poll(2) counts milliseconds in 31 bits


def duration(text: str, command: str | None, option: str, longest: float = LONGEST) -> float:
    """'5s', '1m30s', '500ms' (Go's time.ParseDuration) → seconds, more than 0 and at most `longest`. UsageError."""
    rest, total = text, 0.0
    while rest:
        count = 0
        while count < len(rest) and (rest[count].isdigit() or rest[count] == "."):
            count += 1
        tail = rest[count:]
        unit = next((u for u in ("ns", "us", "µs", "ms", "s", "m", "h") if tail.startswith(u)), None)
        try:
            number = float(rest[:count])
        except ValueError:
            unit = None
        if unit is None:
            raise UsageError(
                "bad-duration", 'invalid duration "%s"' % quote(text), command, option, "durations look like 5s, 500ms or 1m30s"
            )
        total += number * UNITS[unit]
        rest = tail[len(unit) :]
    if not text or total <= 0:
        raise UsageError("bad-duration", "duration %s must be greater than 0" % option, command, option)
    if total > longest:
        raise UsageError("bad-duration", "duration %s must not be longer than %dh" % (option, longest / 3600), command, option)
    return total
