#!/usr/bin/python3
"""Writes the results of a run of the conformance suite to the tables in README.md and conformance/README.md:

    python3 -m conformance --runtime .venv/bin/pyrunc --runtime runc --runtime crun --level full --json build/conformance.json
    tools/conformance_table.py build/conformance.json [MORE.json …]

Additional reports, of runs on other machines, become separate rows, for example of

    tools/vmlab/run.py --share . -- sh -c 'cd conformance && python3 -m oci_conformance … --json -' >guest.json

Rule: the numbers come from the report of a complete run (level full, no filter) and are never written by hand."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapes import Json


ROOT = pathlib.Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- conformance: tools/conformance_table.py writes this -->", "<!-- /conformance -->"
FILES = ("README.md", "conformance/README.md")
HOLDS, DEVIATES = ("pass",), ("known", "fail", "broken")


def counts(found: Json, label: str, level: str) -> tuple[int, int, int]:
    """(holds, deviates, not seen here) of the observable requirements of a level."""
    verdicts = [entry["verdicts"][label] for entry in found["requirements"] if entry["level"] == level and entry["observable"]]
    holds, deviates = (sum(verdict in kinds for verdict in verdicts) for kinds in (HOLDS, DEVIATES))
    return holds, deviates, len(verdicts) - holds - deviates


def rows(found: Json, with_cases: bool, where: str) -> list[str]:
    """[line] for each runtime of a report. `where`: added after its name."""
    lines = []
    for runtime in found["runtimes"]:
        label = runtime["label"]
        row = [runtime["declares"]]
        if with_cases:
            verdicts = [entry["verdict"] for entry in found["results"] if entry["runtime"] == label]
            row += [sum(verdict in kinds for verdict in verdicts) for kinds in (HOLDS, DEVIATES, ("skip",))]
        for level in ("MUST", "SHOULD"):
            row += counts(found, label, level)
        lines.append("| %s %s%s | %s |" % (runtime["name"], runtime["version"].partition("+")[0], where, " | ".join(map(str, row))))
    return lines


def machine(found: Json) -> str:
    return "Linux %s, cgroups %s" % (".".join(found["machine"]["kernel"].split(".")[:2]), found["machine"]["cgroups"])


def table(found: Json, others: Sequence[Json], with_cases: bool) -> list[str]:
    """The lines between the marks. `with_cases`: including columns for the cases."""
    must, should = (found["coverage"][level]["observable"] for level in ("MUST", "SHOULD"))
    cases = len({entry["case"] for entry in found["results"]})
    groups = ["declares", *(["cases ok", "deviate", "skipped"] if with_cases else [])]
    groups += [level + word for level in ("MUST", "SHOULD") for word in (" kept", " not kept", " not seen here")]
    lines = [
        "%d cases about all %d observable MUST and %d observable SHOULD of runtime-spec %s; %s, %s:"
        % (cases, must, should, found["specification"], machine(found), found["when"][:10]),
        "",
        "| | " + " | ".join(groups) + " |",
        "|---" * (len(groups) + 1) + "|",
    ]
    lines += rows(found, with_cases, "")
    for other in others:
        lines += rows(other, with_cases, "; " + machine(other))
    return lines


def whole(path: str) -> Json:
    """The report of a complete run; SystemExit if it is not one."""
    found = json.loads(pathlib.Path(path).read_text())
    if found["level"] != "full" or found["filter"] or found["unusable"]:
        words = "%s: not a complete run: level %s, filter %r, unusable %s"
        raise SystemExit(words % (path, found["level"], found["filter"], found["unusable"]))
    return found


def main(paths: Sequence[str]) -> None:
    found, *others = map(whole, paths)
    for name in FILES:
        text = (ROOT / name).read_text()
        before, mark, rest = text.partition(BEGIN)
        if not mark or END not in rest:
            raise SystemExit("%s has no place for the table" % name)
        lines = table(found, others, with_cases=name.startswith("conformance"))
        (ROOT / name).write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.partition(END)[2])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(sys.argv[1:])
