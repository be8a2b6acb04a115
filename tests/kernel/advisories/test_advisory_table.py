"""The table and the tests name the same advisories."""

import ast
import pathlib

from advisory_table import ADVISORIES, numbers_in

HERE = pathlib.Path(__file__).parent


def named():
    for path in HERE.glob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and path.name != "test_advisory_table.py":
                yield node.name


def test_each_advisory_has_a_test_and_each_test_an_advisory():
    covered = {number for name in named() for number in numbers_in(name)}
    assert all(numbers_in(name) for name in named())
    assert [row[0] for row in ADVISORIES if not covered & set(row[0])] == []
    known = [number for row in ADVISORIES for number in row[0]]
    assert covered <= set(known) and len(known) == len(set(known))


def test_only_the_command_line_is_used():
    for path in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not [name for name in names if name.split(".")[0] == "pyrunc"], path
