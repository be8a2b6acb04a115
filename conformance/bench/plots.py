"""Plots as inline SVG: bars with their quartiles, and lines over a logarithmic axis.

Rule: no external script, font or style; the data of a plot is also in a table next to it.
"""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from conformance.bench.shapes import Value


COLOURS = ("#3465a4", "#f57900", "#4e9a06", "#a40000", "#75507b", "#555753")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 760, 300, 60, 40, 26


def bars(title: str, unit: str, groups: Sequence[tuple[str, Mapping[str, Value]]], labels: Sequence[str]) -> str:
    """groups: [(name, {label: figures or number})]; one bar per label, with a whisker from the first to the third quartile."""
    top = max([_high(v) for _, by_label in groups for v in by_label.values()] or [0])
    if top <= 0:
        return ""
    parts = _frame(title, unit, top, labels)
    step = (WIDTH - LEFT) / max(1, len(groups))
    wide = min(28, step * 0.8 / max(1, len(labels)))
    for number, (name, by_label) in enumerate(groups):
        middle = LEFT + step * (number + 0.5)
        parts.append(_text(middle, HEIGHT - BOTTOM + 16, name, "middle"))
        for place, label in enumerate(labels):
            value = by_label.get(label)
            if value is None:
                continue
            x = middle + (place - len(labels) / 2) * wide
            y = _y(_middle(value), top)
            words = "%s, %s: %s %s" % (name, label, _shown(_middle(value)), unit)
            parts.append(
                '<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s</title></rect>'
                % (x, y, wide - 2, HEIGHT - BOTTOM - y, colour(place), html.escape(words))
            )
            if isinstance(value, dict):
                centre = x + wide / 2 - 1
                parts.append(_line(centre, _y(value["q1"], top), centre, _y(value["q3"], top), "#000"))
    return _svg(parts)


def lines(title: str, unit: str, series: Mapping[str, Sequence[tuple[int, Value]]], labels: Sequence[str]) -> str:
    """series: {label: [(x, figures or number)]}; x is on a logarithmic axis, with 0 at its start."""
    points = [point for found in series.values() for point in found]
    top = max([_high(v) for _, v in points] or [0])
    if top <= 0:
        return ""
    last = max(math.log10(max(1, x)) for x, _ in points) or 1
    parts = _frame(title, unit, top, labels)

    def place(x: float) -> float:
        return LEFT + 20 + (WIDTH - LEFT - 50) * math.log10(max(1, x)) / last

    for x in sorted({x for x, _ in points}):
        parts.append(_text(place(x), HEIGHT - BOTTOM + 16, "{:,}".format(x), "middle"))
    for number, label in enumerate(labels):
        found = series.get(label) or []
        path = " ".join("%.1f,%.1f" % (place(x), _y(_middle(v), top)) for x, v in found)
        parts.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>' % (path, colour(number)))
        for x, v in found:
            words = "%s, %s: %s %s" % (label, x, _shown(_middle(v)), unit)
            parts.append(
                '<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s</title></circle>'
                % (place(x), _y(_middle(v), top), colour(number), html.escape(words))
            )
            if isinstance(v, dict):
                parts.append(_line(place(x), _y(v["q1"], top), place(x), _y(v["q3"], top), colour(number)))
    return _svg(parts)


def colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _middle(value: Value) -> float:
    return value["median"] if isinstance(value, dict) else value


def _high(value: Value) -> float:
    return value["q3"] if isinstance(value, dict) else value


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * min(value, top) / top


def _shown(value: float) -> str:
    return "%.2f" % value if value < 100 else "{:,.0f}".format(value)


def _text(x: float, y: float, words: object, anchor: str = "start") -> str:
    return '<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>' % (x, y, anchor, html.escape(str(words)))


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str) -> str:
    return '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>' % (x1, y1, x2, y2, stroke)


def _frame(title: str, unit: str, top: float, labels: Sequence[str]) -> list[str]:
    parts = [_text(LEFT, 14, "%s (%s)" % (title, unit))]
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = _y(top * share, top)
        parts += [_line(LEFT, y, WIDTH, y, "#ddd"), _text(LEFT - 6, y + 4, _shown(top * share), "end")]
    for number, label in enumerate(labels):
        x = WIDTH - 110 * (len(labels) - number)
        parts.append('<rect x="%d" y="4" width="10" height="10" fill="%s"/>' % (x, colour(number)))
        parts.append(_text(x + 14, 14, label))
    return parts


def _svg(parts: list[str]) -> str:
    return '<svg viewBox="0 0 %d %d" width="%d" role="img">%s</svg>' % (WIDTH, HEIGHT, WIDTH, "".join(parts))
