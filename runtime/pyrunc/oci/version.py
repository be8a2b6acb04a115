"""ociVersion: the version of the runtime-spec that a config is written for (config.md#specification-version, SemVer 2.0.0)."""

from __future__ import annotations

VERSION = "1.3.0"  # what pyrunc implements; printed by `state` and `features`, and passed to hooks
OLDEST = "1.0.0"


def parse(text: object) -> tuple[int, int, int | None, str, str] | None:
    """'1.2.0-rc.1+dev' -> (1, 2, 0, 'rc.1', 'dev'). '1.0' -> (1, 0, None, '', ''): not SemVer, but callers send it. None if it is not a
    version."""
    if not isinstance(text, str) or not text.isascii() or len(text) > 255:
        return None
    rest, plus, build = text.partition("+")
    numbers, minus, pre = rest.partition("-")
    parts = numbers.split(".")
    if len(parts) not in (2, 3) or not all(_number(p) for p in parts):
        return None
    if minus and not _words(pre, True) or plus and not _words(build, False):
        return None
    return int(parts[0]), int(parts[1]), int(parts[2]) if len(parts) == 3 else None, pre, build


def semver(text: object) -> bool:
    """Whether it is strictly valid SemVer."""
    parsed = parse(text)
    return parsed is not None and parsed[2] is not None


def _number(text: str) -> bool:
    return 0 < len(text) < 10 and text.isdecimal() and (text == "0" or text[0] != "0")


def _words(text: str, numeric: bool) -> bool:
    """Checks dot-separated identifiers; in a pre-release, numbers have no leading zeros."""
    for word in text.split("."):
        if not word or not word.replace("-", "0").isalnum():
            return False
        if numeric and word.isdecimal() and word != "0" and word[0] == "0":
            return False
    return True
