"""cmdline.pyi declares what cli.py parses."""

from __future__ import annotations

import ast
from pathlib import Path

from pyrunc import cli
from pyrunc import commands as command_table

STUB = Path(cli.__file__).parent / "cmdline.pyi"
TYPES = {command_table.B: "bool", command_table.V: "str", command_table.R: "list[str]"}


def declared(name: str) -> dict[str, str]:
    tree = ast.parse(STUB.read_text())
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return {ast.unparse(node.target): ast.unparse(node.annotation) for node in found.body if isinstance(node, ast.AnnAssign)}


def test_global_options() -> None:
    assert declared("Globals") == {name.replace("-", "_"): TYPES[kind] for name, kind in command_table.GLOBAL.items()}


def test_options_of_commands() -> None:
    wanted = {"globals": "Globals", "help": "bool"}
    for row in command_table.COMMANDS.values():
        wanted.update((name.replace("-", "_"), TYPES[kind]) for name, kind in row.options.items())
    del wanted["as"]  # declared in another form, because `as` is a keyword
    assert declared("Options") == wanted
