"""Output at a terminal fits it: 80 columns and 200. What a program reads is neither wrapped nor cut."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios

import pytest

import harness


def at_a_terminal(runtime: harness.Runtime, columns: int, *words: object) -> list[str]:
    """The lines that a terminal of that width gets."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    argv = runtime.argv(*words)
    env = {**runtime.env, "TERM": "dumb"}
    done = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    text = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # EIO: the other end is closed
            break
        text += piece
    os.close(master)
    assert done.wait(harness.WATCHDOG) in (0, 1)
    return text.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("columns", [80, 200])
def test_it_fits(pyrunc, waiting, columns):
    id = pyrunc.create(waiting)
    config = waiting.path / "config.json"
    commands = (
        ["help"], ["help", "update"], ["help", "commands"], ["errors"], ["explain", "memory.limit"], ["explain", "PYR-4001"], ["doctor"],
        ["explain", "/mounts", waiting], ["plan", "--bundle", waiting], ["list"], ["stats"], ["trace", id], ["mounts", "list", id],
        ["features", "--deviations"], ["features", "--format", "text"], ["spec", "--explain", "--profile", "docker"], ["validate", config],
    )  # fmt: skip
    for words in commands:
        lines = at_a_terminal(pyrunc, columns, *words)
        assert lines and max(map(len, lines)) <= columns, (words, max(lines, key=len))


def test_a_wide_terminal_is_used(pyrunc, waiting):
    id = pyrunc.create(waiting)
    for words in (["trace", id], ["errors"], ["plan", "--bundle", waiting]):
        longest = [max(map(len, at_a_terminal(pyrunc, columns, *words))) for columns in (80, 200)]
        assert longest[0] <= 80 < longest[1], words


def test_nothing_is_cut_for_programs(pyrunc, waiting):
    id = pyrunc.create(waiting)
    (line,) = [line for line in pyrunc.ok("list").out.splitlines() if line.startswith(id)]
    assert str(waiting.path) in line and "…" not in line


@pytest.mark.parametrize("words", [["hooks"], ["diff"]])
def test_nothing_is_said_at_a_terminal(pyrunc, waiting, words):
    id = pyrunc.create(waiting)
    assert len(at_a_terminal(pyrunc, 80, *words, id)) == 1 and pyrunc.ok(*words, id).out == ""
