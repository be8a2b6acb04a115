"""The table of callers and features: what passed, failed or was skipped, and why.

Owns its two forms, text and Markdown. A test's module is the caller (or names it as CALLER), its name the feature.
"""

import pytest

TABLE = pytest.StashKey()
WORDS = {"passed": "passed", "failed": "FAILED", "skipped": "skipped"}


class Table:
    """Cells by (feature, caller); a failure of a test's set-up or clean-up counts as its failure."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.cells = {}
        self.reasons = {}

    def note(self, item, answer):
        caller = getattr(item.module, "CALLER", item.module.__name__.rpartition("test_")[2])
        feature = item.name.removeprefix("test_").replace("_", " ").replace("[", ": ").rstrip("]")
        key = (feature, caller)
        if answer.skipped:
            reason = answer.longrepr[2] if isinstance(answer.longrepr, tuple) else str(answer.longrepr)
            self.reasons.setdefault(reason.removeprefix("Skipped: "), []).append(f"{caller}: {feature}")
        if answer.failed or key not in self.cells:
            self.cells[key] = answer.outcome
        elif answer.when == "call" and self.cells[key] == "passed":
            self.cells[key] = answer.outcome

    def rows(self):
        """The header and one row a feature, in the order of the tests."""
        columns = list(dict.fromkeys(caller for _, caller in self.cells))
        yield ["feature", *columns]
        for feature in dict.fromkeys(feature for feature, _ in self.cells):
            yield [feature, *(WORDS.get(self.cells.get((feature, column)), "") for column in columns)]

    def counts(self):
        outcomes = list(self.cells.values())
        return ", ".join(f"{outcomes.count(name)} {name}" for name in WORDS)

    def skips(self):
        return [f"skipped {len(names)}: {reason}" for reason, names in self.reasons.items()]

    def text(self):
        rows = list(self.rows())
        widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, self.counts(), *self.skips()])

    def markdown(self):
        rows = list(self.rows())
        lines = [f"# Callers of {self.runtime}", "", self.counts(), ""]
        for number, row in enumerate(rows):
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
            if number == 0:
                lines.append("|" + " --- |" * len(row))
        return "\n".join([*lines, "", *(f"- {line}" for line in self.skips())]) + "\n"
