"""docs/reading.md: the names in it exist in the files that the same section links to."""

from __future__ import annotations

import ast
import re

import pytest

import harness
from pyrunc import commands as command_table
from pyrunc.engine import order

PAGE = (harness.ROOT / "docs/reading.md").read_text()
SECTIONS = dict(zip(*[iter(re.split(r"^## (.*)$", PAGE, flags=re.M)[1:])] * 2, strict=True))
PHASES = {row[0] for row in order.CREATE}
ROWS = {"%s.%s" % row[1:3] for row in order.CREATE}
# Of the kernel and the specification; `create` and `start` are commands.
KNOWN = {"SIGKILL", "clone3", "execve", "created", "read(2)", "(phase, part, verb, why)"}
PREFIXES = {"host_…", "init_…", "op_…", "undo_…"}


def defined(path: str) -> set[str]:
    """The names at the top of a module, or the functions of a C file; and each name with the module's name in front of it."""
    file = harness.ROOT / "docs" / path
    if file.suffix == ".c":
        return set(re.findall(r"^(?:static )?[a-zA-Z_][\w *]*?\b(\w+)\(", file.read_text(), re.M)) | {file.stem}
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names | {"%s.%s" % (file.stem, name) for name in names}


def unknown(text: str) -> list[str]:
    """The words in backticks that name nothing."""
    links = re.findall(r"\]\((\.\./runtime/[^)#]+)\)", text)
    names = {name for link in links for name in defined(link)} | KNOWN | PREFIXES | PHASES | ROWS | set(command_table.COMMANDS)
    words = re.findall(r"`([^`\n]+)`", text)
    return [word for word in words if word not in names and re.sub(r"\(.*\)$", "", word) not in names and not is_command(word)]


def is_command(word: str) -> bool:
    """`pyrunc create --bundle B ID`: a command of ours."""
    return word.startswith("pyrunc ") and word.split()[1] in command_table.COMMANDS


@pytest.mark.parametrize("title", [title for title in SECTIONS if title[0].isdigit()])
def test_names_exist(title: str) -> None:
    assert unknown(SECTIONS[title]) == []


def test_a_wrong_name_is_noticed() -> None:
    text = "[gate](../runtime/pyrunc/engine/gate.py) has `Gone`, `gate.gone()`, `oom.host_gone`, `pyrunc gone` and `gone`."
    assert unknown(text) == ["Gone", "gate.gone()", "oom.host_gone", "pyrunc gone", "gone"]


def test_there_is_something_to_check() -> None:
    assert sum(title[0].isdigit() for title in SECTIONS) == 6
