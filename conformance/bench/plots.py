"""Plots as inline SVG: bars with their quartiles, and lines over a logarithmic axis.

Rule: no external script, font or style; the data of a plot is also in a table next to it. Colours are classes, which the page's
STYLE fills in for light and dark schemes.
"""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from conformance.bench.shapes import Value


LIGHT = ("#3465a4", "#d06400", "#4e9a06", "#a40000", "#75507b", "#555753")
DARK = ("#7ba7e6", "#f5a04a", "#8ad05a", "#ef7f7f", "#c49ccb", "#b5b5ad")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 760, 320, 70, 40, 50
STYLE = (
    "svg{display:block}svg text{font:13px sans-serif;fill:var(--text)}svg .axis{stroke:var(--line)}svg .whisker{stroke:var(--text)}"
    ""
    + "".join("svg .c%d{fill:var(--c%d);stroke:var(--c%d)}" % (number, number, number) for number in range(len(LIGHT)))
    + "svg polyline[class]{fill:none;stroke-width:2}"
)


def variables(colours: Sequence[str]) -> str:
    """The colours of the runtimes, as custom properties."""
    return "".join("--c%d:%s;" % pair for pair in enumerate(colours))


def round_step(top: float, least: int = 4) -> float:
    """The largest of 1, 2 and 5 times a power of ten that divides an axis up to `top` into at least `least` parts."""
    power = 10.0 ** math.floor(math.log10(top / least))
    return power * max(factor for factor in (1, 2, 5) if factor * power * least <= top)


def bars(title: str, unit: str, groups: Sequence[tuple[str, Mapping[str, Value]]], labels: Sequence[str]) -> str:
    """groups: [(name, {label: figures or number})]; one bar per label, with a whisker from the first to the third quartile."""
    top = max([_high(v) for _, by_label in groups for v in by_label.values()] or [0])
    if top <= 0:
        return ""
    top, parts = _frame(title, unit, top, labels)
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
                '<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="%s"><title>%s</title></rect>'
                % (x, y, wide - 2, HEIGHT - BOTTOM - y, colour(place), html.escape(words))
            )
            if isinstance(value, dict):
                centre = x + wide / 2 - 1
                parts.append(_line(centre, _y(value["q1"], top), centre, _y(value["q3"], top), "whisker"))
    return _svg(title, parts)


def lines(title: str, unit: str, series: Mapping[str, Sequence[tuple[int, Value]]], labels: Sequence[str]) -> str:
    """series: {label: [(x, figures or number)]}; the axis of x is logarithmic, of x + 1, so that it begins with 0."""
    points = [point for found in series.values() for point in found]
    top = max([_high(v) for _, v in points] or [0])
    if top <= 0:
        return ""
    first = math.log10(1 + min(x for x, _ in points))
    width = math.log10(1 + max(x for x, _ in points)) - first or 1
    top, parts = _frame(title, unit, top, labels)

    def place(x: float) -> float:
        return LEFT + 20 + (WIDTH - LEFT - 50) * (math.log10(1 + x) - first) / width

    free = 0.0  # right of the last number, so that none is written over another
    for x in sorted({x for x, _ in points}):
        words = "{:,}".format(x)
        if place(x) - 4 * len(words) >= free:
            parts.append(_text(place(x), HEIGHT - BOTTOM + 16, words, "middle"))
            free = place(x) + 4 * len(words) + 8
    for number, label in enumerate(labels):
        found = series.get(label) or []
        path = " ".join("%.1f,%.1f" % (place(x), _y(_middle(v), top)) for x, v in found)
        parts.append('<polyline points="%s" class="%s"/>' % (path, colour(number)))
        for x, v in found:
            words = "%s, %s: %s %s" % (label, x, _shown(_middle(v)), unit)
            parts.append(
                '<circle cx="%.1f" cy="%.1f" r="3" class="%s"><title>%s</title></circle>'
                % (place(x), _y(_middle(v), top), colour(number), html.escape(words))
            )
            if isinstance(v, dict):
                parts.append(_line(place(x), _y(v["q1"], top), place(x), _y(v["q3"], top), colour(number)))
    return _svg(title, parts)


def colour(number: int) -> str:
    """The class of the runtime with this number."""
    return "c%d" % (number % len(LIGHT))


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


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>' % (x1, y1, x2, y2, kind)


def _frame(title: str, unit: str, highest: float, labels: Sequence[str]) -> tuple[float, list[str]]:
    """(the end of the vertical axis, [title, axis and legend])"""
    parts = [_text(LEFT, 14, "%s (%s)" % (title, unit))]
    step = round_step(highest)
    ticks = math.ceil(highest / step - 1e-9)
    for number in range(ticks + 1):
        y = _y(number, ticks)
        parts += [_line(LEFT, y, WIDTH, y, "axis"), _text(LEFT - 6, y + 4, "{:,.10g}".format(number * step), "end")]
    for number, label in enumerate(labels):
        x = LEFT + 95 * number  # on the left: a phone shows it without scrolling
        parts.append('<rect x="%d" y="24" width="10" height="10" class="%s"/>' % (x, colour(number)))
        parts.append(_text(x + 14, 34, label))
    return ticks * step, parts


def _svg(title: str, parts: list[str]) -> str:
    name = html.escape(title, quote=True)
    return '<svg viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">%s</svg>' % (
        WIDTH, HEIGHT, WIDTH, HEIGHT, name, "".join(parts)
    )  # fmt: skip
