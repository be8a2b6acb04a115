"""Whole engines, measured by tools/bench_engines.py: `podman run`, `docker run` and `ctr run` of `true`, and the runtime's share of each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from conformance.bench import measure

if TYPE_CHECKING:
    from conformance.bench.shapes import Document, Figures, Section


def read(path: str) -> Document:
    """The file from `make bench-engines` -> {engine: {label: {"all", "runtime": figures of milliseconds}}}. runtime: what all calls of the
    runtime take together, of the same number of other containers."""
    with open(path) as file:
        given = json.load(file)
    return {
        engine: {label: {key: measure.figures(values) for key, values in took.items()} for label, took in by_label.items()}
        for engine, by_label in given["engines"].items()
    }


def section(found: Document) -> Section:
    """The result of read() in the form of report.sections()."""
    rows = [["", "runtime", "ms, median (quartiles)", "calls of the runtime, ms", "share of the engine, %"]]
    for engine, by_label in found.items():
        for label, took in by_label.items():
            share = 100 - 100 * took["runtime"]["median"] / took["all"]["median"]
            rows.append(["`%s run`" % engine, label, _cell(took["all"]), _cell(took["runtime"]), "%.0f" % share])
    notes = [
        "From start to exit, without a network. The calls of the runtime are measured with other containers, through a program that times them."
    ]
    return "engines with each runtime", rows, notes, ""


def _cell(figures: Figures) -> str:
    return "%.1f (%.1f–%.1f)" % (figures["median"], figures["q1"], figures["q3"])
