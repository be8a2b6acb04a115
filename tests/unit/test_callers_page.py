"""docs/callers.md: each row names existing tests, or says why there is nothing to test. docs/peers.md: the same for each feature of pyrunc."""

import ast
import re

import pytest

import harness

PAGE = harness.ROOT / "docs/callers.md"
LINES = [
    line.strip("|").split(" | ", 1) for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| ---")
]
ROWS = [(habit.strip(), held.strip()) for habit, held in LINES if habit.strip() != "behaviour"]


def functions(path):
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_the_page_has_its_rows():
    assert len(ROWS) >= 92 and len({habit for habit, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("habit", "held"), ROWS, ids=[habit[:50] for habit, _ in ROWS])
def test_named_tests_exist(habit, held):
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", held)
    if held.startswith("does not apply: "):
        assert not named and len(held) > len("does not apply: ") + 20
        return
    assert named, "no test is named"
    missing = [f"{file}::{name}" for file, name in named if not (harness.ROOT / "tests" / file).exists()]
    assert missing == []
    assert [f"{file}::{name}" for file, name in named if name and name not in functions(harness.ROOT / "tests" / file)] == []


PEERS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (harness.ROOT / "docs/peers.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| feature")
]


def test_features_of_peers_name_their_tests():
    """Each row has five cells. A "yes" names an existing test; anything else gives a reason, or names a test."""
    wrong = []
    for cells in PEERS:
        named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", cells[-1])
        if len(cells) != 5 or (cells[-1].startswith("yes") and not named) or len(cells[-1]) < 15:
            wrong.append(cells)
        for file, name in named:
            path = harness.ROOT / "tests" / file
            if not path.exists() or (name and name not in functions(path)):
                wrong.append((file, name))
    assert len(PEERS) > 50 and not wrong, wrong
