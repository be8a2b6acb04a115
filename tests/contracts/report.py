"""The table of callers and features: what passed, failed or was skipped, and why.

Owns its formats: text, Markdown, and a file for comparison with another run (`--save`, `--against`). The name of a test is the feature.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from harness import Json


CALLERS = {
    "podman": "podman",
    "rootless": "podman rootless",
    "containerd": "containerd",
    "cri": "kubernetes",
    "docker": "docker",
    "remapped": "docker remapped",
    "buildah": "buildah",
}
TABLE = pytest.StashKey["Table"]()
FEATURE, CALLER = "feature", "caller"  # properties of a report
WORDS = {"passed": "passed", "failed": "FAILED", "skipped": "skipped"}


class Table:
    """Cells by (feature, caller); if the setup or teardown of a test fails, the test counts as failed."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self.cells: dict[tuple[str, str], str] = {}
        self.reasons: dict[str, list[str]] = {}

    def note(self, answer: pytest.TestReport) -> None:
        """Adds a report with the properties that mark() has set, possibly in another process."""
        properties = dict(answer.user_properties)
        feature, caller = str(properties[FEATURE]), str(properties[CALLER])
        key = (feature, caller)
        if answer.skipped:
            reason = answer.longrepr[2] if isinstance(answer.longrepr, (tuple, list)) else str(answer.longrepr)
            self.reasons.setdefault(reason.removeprefix("Skipped: "), []).append(f"{caller}: {feature}")
        if answer.failed or key not in self.cells:
            self.cells[key] = answer.outcome
        elif answer.when == "call" and self.cells[key] == "passed":
            self.cells[key] = answer.outcome

    @classmethod
    def mark(cls, item: Json, answer: pytest.TestReport) -> None:
        name, words = item.name.partition("[")[0], item.name.partition("[")[2].rstrip("]")
        if "engine" in item._fixtureinfo.argnames:
            words = words.partition("-")[2]  # the engine has its own column
        feature = name.removeprefix("test_").replace("_", " ") + (words and ": " + words)
        answer.user_properties += [(FEATURE, feature), (CALLER, cls.caller(item))]

    @staticmethod
    def caller(item: Json) -> str:
        """The caller that uses the runtime in a test: that of the marker `caller`, or else the first fixture of a caller that the test requests."""
        named = [mark.args[0] for mark in item.iter_markers("caller") if mark.args]
        named += [CALLERS[item.callspec.params["engine"]]] if "engine" in item._fixtureinfo.argnames else []
        named += [CALLERS[name] for name in item._fixtureinfo.argnames if name in CALLERS]
        return named[0] if named else item.module.__name__.rpartition("test_")[2]

    def rows(self) -> Iterator[list[str]]:
        """The header and one row per feature, in the order of the tests."""
        columns = list(dict.fromkeys(caller for _, caller in self.cells))
        yield ["feature", *columns]
        for feature in dict.fromkeys(feature for feature, _ in self.cells):
            yield [feature, *(WORDS.get(self.cells.get((feature, column), ""), "") for column in columns)]

    def save(self, path: str | os.PathLike[str]) -> None:
        with open(path, "w") as file:
            json.dump([[feature, caller, outcome] for (feature, caller), outcome in self.cells.items()], file)

    def worse_than(self, path: str | os.PathLike[str]) -> list[str]:
        """Lines with the tests that passed in the saved run but not in this one. Tests that were not run here don't count."""
        with open(path) as file:
            theirs = {(feature, caller): outcome for feature, caller, outcome in json.load(file)}
        rows = [
            (key, self.cells[key]) for key, outcome in theirs.items() if outcome == "passed" and self.cells.get(key, "passed") != "passed"
        ]
        return [f"{caller}: {feature}: {outcome}, and passed there" for (feature, caller), outcome in rows]

    def counts(self) -> str:
        outcomes = list(self.cells.values())
        return ", ".join(f"{outcomes.count(name)} {name}" for name in WORDS)

    def skips(self) -> list[str]:
        return [f"skipped {len(names)}: {reason}" for reason, names in self.reasons.items()]

    def text(self) -> str:
        rows = list(self.rows())
        widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, self.counts(), *self.skips()])

    def markdown(self) -> str:
        rows = list(self.rows())
        lines = [f"# Callers of {self.runtime}", "", self.counts(), ""]
        for number, row in enumerate(rows):
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
            if number == 0:
                lines.append("|" + " --- |" * len(row))
        return "\n".join([*lines, "", *(f"- {line}" for line in self.skips())]) + "\n"
