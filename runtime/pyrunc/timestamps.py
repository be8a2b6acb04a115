"""Time stamps in RFC 3339, without the C library, which would read the time zone's file."""

from __future__ import annotations


def rfc3339(ns: int) -> str:
    """Nanoseconds since 1970 -> '2026-11-24T14:13:36.123456789Z', always with nine decimals. gmtime(3) would read the time zone's file, so this
    counts itself: in eras of 400 years that begin in March, so that the leap day is the last day of a year."""
    seconds, rest = divmod(ns, 1000000000)
    days, seconds = divmod(seconds, 86400)
    era, day = divmod(days + 719468, 146097)  # since the 1st of March of the year 0
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    date = (400 * era + year + (month > 9), month + 3 if month < 10 else month - 9, day - (153 * month + 2) // 5 + 1)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ" % (*date, seconds // 3600, seconds // 60 % 60, seconds % 60, rest)
