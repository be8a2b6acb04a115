"""Many containers, measured by tools/load.py: whether the last hundred are as fast and as small as the first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from conformance.bench import measure, plots

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.bench.shapes import Document, Figures, Json, Section


HUNDRED = 100
WORDS = {"lives": "lives by the command line", "containerd": "containers of containerd's, all alive"}


def read(path: str) -> Document:
    """The file from `make load` -> {"lives" and "containerd": [{"from", "to", "ms", "anonymous_kb": figures}], "docker": {name:
    figures}}."""
    with open(path) as file:
        given = json.load(file)
    found: Document = {}
    for kind in WORDS:
        if kind in given:
            found[kind] = [_row(given[kind]["samples"], start) for start in range(0, len(given[kind]["samples"]), HUNDRED)]
    if "docker" in given:
        found["docker"] = {name: measure.figures(values) for name, values in given["docker"]["samples"].items()}
    return found


def _row(samples: Json, start: int) -> Document:
    part = samples[start : start + HUNDRED]
    values = {key: measure.figures([sample[key] for sample in part]) for key in ("ms", "anonymous_kb")}
    return {"from": start + 1, "to": start + len(part), **values}


def sections(found: Document, cell: Callable[[Figures | None], str]) -> list[Section]:
    """The result of read() in the form of report.sections(); cell: figures -> text."""
    made: list[Section] = []
    for kind in (kind for kind in WORDS if kind in found):
        rows = [["containers", "ms", "private memory, KiB"]]
        rows += [["%d–%d" % (r["from"], r["to"]), cell(r["ms"]), cell(r["anonymous_kb"])] for r in found[kind]]
        for key, unit in (("ms", "ms"), ("anonymous_kb", "KiB")):
            groups = [("%d–%d" % (r["from"], r["to"]), {kind: r[key]}) for r in found[kind]]
            title = "%s: %s" % (WORDS[kind], {"ms": "time of each", "anonymous_kb": "private memory of each"}[key])
            made.append((title, rows if key == "ms" else [], [], plots.bars(title, unit, groups, [kind])))
    if "docker" in found:
        rows = [["docker run true", "ms, median (quartiles)"], *[[name, cell(figures)] for name, figures in found["docker"].items()]]
        made.append(("docker run, from start to exit", rows, [], ""))
    return made
