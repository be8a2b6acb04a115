#!/usr/bin/python3
"""`make docs`: generates pages of docs/ from the code, and checks the links of all pages.

    docs.py rewrites docs/*.md
    docs.py --check writes nothing; status 1 and a line for each outdated page and each broken link

Uses only the standard library and the package itself. A test runs the check, so a change of options, steps or owners includes its page.
"""

from __future__ import annotations

import ast
import importlib
import pathlib
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "runtime"))
sys.path.insert(0, str(ROOT / "bundles"))
import make_rootfs  # noqa: E402
from pyrunc import codes  # noqa: E402
from pyrunc import commands as command_table  # noqa: E402
from pyrunc.commands import help as _help  # noqa: E402
from pyrunc.engine import order  # noqa: E402
from pyrunc.oci import deviations  # noqa: E402
from pyrunc.parts.table import PARTS  # noqa: E402

NOTE = "<!-- Made by `make docs`. Change the code, not this page. -->\n"


def cell(text: str) -> str:
    """A text as a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| %s |" % " | ".join(head), "|%s" % ("---|" * len(head))]
    return "\n".join(lines + ["| %s |" % " | ".join(cell(value) for value in row) for row in rows]) + "\n"


def commands() -> str:
    parts = [NOTE, "# Commands\n", "As `pyrunc --help` and `pyrunc COMMAND --help` print them.\n", "```\n%s```\n" % _help.top()]
    for name in command_table.COMMANDS:
        parts.append("## %s\n\n```\n%s```\n" % (name, _help.of(name)))
    return "\n".join(parts)


def timetable() -> str:
    parts = [NOTE, "# The timetable\n", "%s\n" % ast.get_docstring(ast.parse((ROOT / "runtime/pyrunc/engine/order.py").read_text()))]
    for name in ("CREATE", "START", "EXEC", "DELETE", "UPDATE", "RESTORE", "CHECKPOINT"):
        rows = getattr(order, name, None)
        if rows:
            head = ("phase", "step", "why there")
            parts.append(
                "## %s\n\n%s" % (name.lower(), table(head, [(phase, "%s.%s" % (part, verb), why) for phase, part, verb, why in rows]))
            )
    return "\n".join(parts)


def properties() -> str:
    """Who owns which part of config.json, in the owner's own words."""
    rows = []
    for part, _always, keys, needs in PARTS:
        module = importlib.import_module("pyrunc.parts." + part)
        first = (module.__doc__ or "").strip().partition("\n\n")[0]
        path = pathlib.Path(module.__file__ or "")
        name = str(path.parent if path.name == "__init__.py" else path)
        where = "../" + str(pathlib.Path(name).relative_to(ROOT))
        rows.append(("[%s](%s)" % (part, where), "<br>".join("`%s`" % key for key in keys) or "–", first, ", ".join(needs) or "–"))
    intro = "Each leaf of the schema belongs to the part with the longest pointer above it. The order is the planning order.\n"
    return "\n".join(
        [NOTE, "# Properties and their owners\n", intro, table(("part", "owns", "in its own words", "reads the plans of"), rows)]
    )


def differences() -> str:
    parts = [NOTE, "# Deviations from runc\n", "As `pyrunc features --deviations` prints them.\n"]
    titles = {
        "STRICTER": "Refused here, accepted or found late by runc",
        "OTHER": "Same input, another result",
        "KEPT": "runc's way is kept",
        "ELSEWHERE": "As the specification says, and not by other runtimes",
    }
    for name, title in titles.items():
        rows = [("`%s`" % row[0], row[1], row[2] or "–", (row[3:] or ("",))[0] or "–") for row in getattr(deviations, name)]
        parts.append("## %s\n\n%s" % (title, table(("where", "pyrunc", "runc", "crun"), rows)))
    return "\n".join(parts)


def errors() -> str:
    rows = [("`%s`" % r["code"], r["name"], r["kind"], r["meaning"], r["remedy"], r["exit_status"]) for r in codes.rows()]
    intro = "As `pyrunc errors` prints them; [explain.md](explain.md) says how they are made up. A code keeps its meaning for ever.\n"
    return "\n".join([NOTE, "# Codes of errors\n", intro, table(("code", "name", "kind", "means", "what to do", "exit status"), rows)])


def examples() -> str:
    parts = [
        NOTE,
        "# Example bundles\n",
        "`bundles/make_rootfs.py --bundle NAME DIRECTORY` makes one ready to run, with a root of busybox.\n",
    ]
    for name in make_rootfs.bundles():
        parts.append("## [%s](../bundles/%s/config.json)\n\n%s" % (name, name, (ROOT / "bundles" / name / "about.txt").read_text()))
    return "\n".join(parts)


PAGES = {
    "commands.md": commands,
    "timetable.md": timetable,
    "properties.md": properties,
    "deviations.md": differences,
    "errors.md": errors,
    "bundles.md": examples,
}


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as in common renderers."""
    found = set()
    for line in re.findall(r"^#+ (.*)$", text, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line)
        found.add(re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-"))
    return found


def dead_links() -> list[str]:
    """The broken relative links of all pages."""
    found = []
    for page in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = (page.parent / name) if name else page
            if not path.exists():
                found.append("%s: %s is not there" % (page.relative_to(ROOT), target))
            elif anchor and path.suffix == ".md" and anchor not in anchors(path.read_text()):
                found.append("%s: no heading for %s" % (page.relative_to(ROOT), target))
    return found


def main(argv: list[str]) -> int:
    check = "--check" in argv
    problems = []
    for name, make in PAGES.items():
        path = ROOT / "docs" / name
        text = make()
        if not path.exists() or path.read_text() != text:
            if check:
                problems.append("docs/%s is behind the code: make docs" % name)
            else:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
                print("docs/%s" % name)
    problems += dead_links()
    print("\n".join(problems), end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
