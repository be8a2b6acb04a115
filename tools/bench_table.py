#!/usr/bin/python3
"""Writes the figures of the bench into README.md, ARCHITECTURE.md and docs/speed.md, and draws docs/bench.html, from docs/bench.json:

    make bench ARGS='--part all --json docs/bench.json'
    tools/bench_table.py             writes the places between the marks, and the page with plots
    tools/bench_table.py --check     lists those that differ from docs/bench.json; then the exit status is 1

A place begins with `<!-- bench NAME: … -->` and ends with `<!-- /bench -->`. Rule: figures in these places are never written by hand."""

from __future__ import annotations

import json
import pathlib
import re
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from shapes import Json

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs/bench.json"
FILES = ("README.md", "ARCHITECTURE.md", "docs/speed.md")
PLOTS = "docs/bench.html"
PLACE = re.compile(r"(<!-- bench (\w+): tools/bench_table.py writes this -->)(.*?)(<!-- /bench -->)", re.S)
BUNDLE = "hello"
WIDTH = 140
ENGINES = ("podman", "docker", "ctr")
STEPS = ("create", "start", "state", "exec", "kill", "delete", "run", "cycle")


def names(found: Json) -> list[str]:
    return list(found["runtimes"])


def version(found: Json, name: str) -> str:
    """ "runc 1.1.15": without the suffix of a distribution."""
    words = found["runtimes"][name]["version"].split()
    return "%s %s" % (name, words[-1].partition("+")[0])


def median(found: Json, step: str, name: str) -> float:
    value: float = found["bundles"][BUNDLE]["steps"][step][name]["median"]
    return value


def ratio(found: Json, step: str, other: str) -> float:
    """The time of the first runtime, as a ratio to another one's."""
    return median(found, step, names(found)[0]) / median(found, step, other)


def wrapped(text: str, first: str = "", rest: str = "") -> str:
    return "\n".join(textwrap.wrap(" ".join(text.split()), WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False))


def readme(found: Json) -> str:
    """The paragraph of README.md."""
    runc, crun = names(found)[1:3]
    ours = found["bundles"][BUNDLE]["memory"][names(found)[0]]["Private_Dirty"]
    return wrapped(
        "With the compiled launcher, which `make build` makes, a life (create, start, state, exec, kill, delete) takes %.2f of %s's time and"
        " %.2f of %s's; `run` of `true` takes %.2f of %s's time and %.2f of %s's (medians of %d rounds, %s). A container that waits for start"
        " keeps %d KiB of memory to itself. The plain launcher, which interprets the sources, is several times slower."
        % (
            *(ratio(found, "cycle", runc), version(found, runc), ratio(found, "cycle", crun), version(found, crun)),
            *(ratio(found, "run", runc), runc, ratio(found, "run", crun), crun),
            *(found["rounds"], found["machine"]["when"][:10], ours),
        )
    )


def limits(found: Json) -> str:
    """The item of ARCHITECTURE.md's list of limits."""
    crun = names(found)[2]
    return wrapped(
        "`run` of a short program takes %.2f times as long as with %s, which does not start an interpreter; the plain launcher takes longer"
        " than runc, because it starts Python twice, once unsealed and once sealed." % (ratio(found, "run", crun), version(found, crun)),
        "- ",
        "  ",
    )


def machine(found: Json) -> str:
    """What was measured, and on what."""
    about = found["machine"]
    return wrapped(
        "Measured on a machine with %d processors (%s), Linux %s, cgroups %s; %s; %s."
        % (
            about["processors"],
            about["processor"],
            about["kernel"].partition("-")[0],
            about["cgroups"],
            ", ".join(version(found, name) for name in names(found)),
            about["when"][:10],
        )
    ) + "\n\nBundle `%s`, milliseconds, median (quartiles) of %d rounds; `cycle` is create, start, state, exec, kill and delete:" % (
        BUNDLE,
        found["rounds"],
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| %s |" % " | ".join(head), "|%s" % ("---|" * len(head))]
    return "\n".join([*lines, *("| %s |" % " | ".join(row) for row in rows)])


def steps(found: Json) -> str:
    """The table of steps, and the kernel's share."""
    first, *others = names(found)
    rows = []
    for step in STEPS:
        figures = [found["bundles"][BUNDLE]["steps"][step].get(name) for name in (first, *others)]
        cells = ["%.2f (%.2f–%.2f)" % (f["median"], f["q1"], f["q3"]) if f else "–" for f in figures]
        rows.append([step, *cells, *("%.2f" % ratio(found, step, other) for other in others)])
    text = table(["", first, *others, *("%s/%s" % (first, other) for other in others)], rows)
    floor = {step: found["floor"]["kernel, " + step]["median"] for step in ("create", "run")}
    times = ["%s is %.1f times that in create, %.1f in run" % (
        name, median(found, "create", name) / floor["create"], median(found, "run", name) / floor["run"]) for name in (first, *others)]  # fmt: skip
    share = "The kernel's share, measured with a C program that makes the necessary system calls and nothing else (see below): create %.2f ms, run %.2f ms. %s."
    return text + "\n\n" + wrapped(share % (floor["create"], floor["run"], "; ".join(times)))


def rest(found: Json) -> str:
    """The second table of docs/speed.md: the parts that docs/bench.json contains."""
    rows: list[list[str]] = []
    every = names(found)

    def row(title: str, cell: Callable[[str], str]) -> None:
        cells = []
        for name in every:
            try:
                cells.append(cell(name))
            except (KeyError, TypeError):  # not measured for this one
                cells.append("–")
        if any(text != "–" for text in cells):
            rows.append([title, *cells])

    row("private memory of a waiting container, KiB", lambda n: "%d" % found["bundles"][BUNDLE]["memory"][n]["Private_Dirty"])
    row("smallest memory limit with which `true` runs, KiB", lambda n: "%d" % found["smallest"][n])
    for step in STEPS[:6]:
        row("system calls of %s" % step, lambda n, step=step: "%d" % found["profile"]["calls"][n][step]["total"])  # type: ignore[misc]
    for step in STEPS[:6]:
        row("millions of instructions of %s" % step, lambda n, step=step: "%.2f" % (found["steps"]["counts"][n][step] / 1e6))  # type: ignore[misc]
    row("what memory, cpu and pids limits add to create, ms", lambda n: "%.1f" % found["resources"][n]["difference"])
    row("statistics of 200 running containers, ms", lambda n: "%.0f" % found["stats"][n]["figures"]["median"])
    for size in ("100 mounts", "2000 mounts", "1 MiB of annotations"):
        row("create with %s, ms" % size, lambda n, size=size: "%.0f" % found["configs"][size][n]["create"]["median"])  # type: ignore[misc]
    for count in ("100", "1000"):
        row("create with %s containers there, ms" % count, lambda n, count=count: "%.0f" % found["scale"][n]["create"][count]["median"])  # type: ignore[misc]
    for width in ("2", "4", "8"):
        row("`run`, %s at once, per second" % width, lambda n, width=width: "%.0f" % found["parallel"][width][n]["median"])  # type: ignore[misc]
    for engine in ENGINES:
        row("%s run, ms" % engine, lambda n, engine=engine: "%.0f" % found["engines"][engine][n]["all"]["median"])  # type: ignore[misc]
        row("of which the runtime", lambda n, engine=engine: "%.0f" % found["engines"][engine][n]["runtime"]["median"])  # type: ignore[misc]
    row("list of 1000 containers, ms", lambda n: "%.0f" % found["scale"][n]["list"]["1000"]["median"])
    return table(["", *every], rows)


PLACES = {"readme": readme, "limits": limits, "machine": machine, "steps": steps, "rest": rest}


def page(text: str, found: Json) -> str:
    """The text of a page with the figures filled in."""
    return PLACE.sub(lambda match: "%s\n%s\n%s" % (match[1], PLACES[match[2]](found), match[4]), text)


def old(found: Json) -> list[str]:
    """The pages whose figures differ, or that have no place for them."""
    texts = {name: (ROOT / name).read_text() for name in FILES}
    stale = [name for name, text in texts.items() if not PLACE.search(text) or page(text, found) != text]
    return stale + [PLOTS] * ((ROOT / PLOTS).read_text() != plots(found))


def plots(found: Json) -> str:
    """The page with plots."""
    sys.path.insert(0, str(ROOT))
    from conformance.bench import report

    return report.html(found)


def main(argv: list[str]) -> int:
    found = json.loads(FIGURES.read_text())
    if argv == ["--check"]:
        stale = old(found)
        for name in stale:
            print("%s: its figures are not those of %s: tools/bench_table.py writes them" % (name, FIGURES.relative_to(ROOT)))
        return 1 if stale else 0
    if argv:
        raise SystemExit(__doc__)
    for name in FILES:
        text = (ROOT / name).read_text()
        if not PLACE.search(text):
            raise SystemExit("%s has no place for the figures" % name)
        (ROOT / name).write_text(page(text, found))
    (ROOT / PLOTS).write_text(plots(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
