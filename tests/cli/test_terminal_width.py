"""Output on a terminal fits its width, with 80 and with 200 columns. Output to a pipe or file is neither wrapped nor cut."""

from __future__ import annotations

import pytest

import harness

pytestmark = pytest.mark.kernel


def lines_at_a_terminal(runtime: harness.Runtime, columns: int, *words: object) -> list[str]:
    """The lines that a terminal of this width gets."""
    code, text = harness.at_a_terminal(runtime.argv(*words), columns, env={**runtime.env, "TERM": "dumb"})
    assert code in (0, 1)
    return text.splitlines()


@pytest.mark.parametrize("columns", [80, 200])
def test_it_fits(pyrunc, waiting, make_bundle, columns):
    id = pyrunc.create(waiting)
    config = waiting.path / "config.json"
    other = make_bundle({"/process/env": ["LONG=" + "x" * 300], "/process/cwd": "/some/where" * 30, "/linux/resources/pids": {"limit": 7}})
    waiting.patch({"/process/args": ["/bin/echo", "some words " * 30]})  # causes a difference from the saved config
    commands = (
        ["help"], ["help", "update"], ["help", "commands"], ["errors"], ["explain", "memory.limit"], ["explain", "PYR-4001"], ["doctor"],
        ["explain", "/mounts", waiting], ["plan", "--bundle", waiting], ["list"], ["stats"], ["trace", id], ["mounts", "list", id],
        ["features", "--deviations"], ["features", "--format", "text"], ["spec", "--explain", "--profile", "docker"], ["validate", config], ["diff", id],
        ["plan", "--full", "--bundle", waiting], ["plan", "--bundle", waiting, "--diff", other], ["state", "nobody"], ["rnu"], ["gc"],
        ["list", "--fromat"], ["logs", id], ["run", "--bundle", other.path / "none", "x"], ["explain", "memroy"], ["list", "--engine", "all"],
    )  # fmt: skip
    for words in commands:
        lines = lines_at_a_terminal(pyrunc, columns, *words)
        assert lines and max(map(len, lines)) <= columns, (words, max(lines, key=len))


def test_a_wide_terminal_is_used(pyrunc, waiting):
    id = pyrunc.create(waiting)
    for words in (["trace", id], ["errors"], ["plan", "--bundle", waiting]):
        longest = [max(map(len, lines_at_a_terminal(pyrunc, columns, *words))) for columns in (80, 200)]
        assert longest[0] <= 80 < longest[1], words


def test_nothing_is_cut_without_a_terminal(pyrunc, waiting):
    id = pyrunc.create(waiting)
    (line,) = [line for line in pyrunc.ok("list").out.splitlines() if line.startswith(id)]
    assert str(waiting.path) in line and "…" not in line


@pytest.mark.parametrize("words", [["hooks"], ["diff"]])
def test_success_prints_nothing_on_a_terminal(pyrunc, waiting, words):
    id = pyrunc.create(waiting)
    assert len(lines_at_a_terminal(pyrunc, 80, *words, id)) == 1 and pyrunc.ok(*words, id).out == ""
