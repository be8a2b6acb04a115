"""Completion as typed: each shell runs in a tmux terminal, keys are sent to it, and the screen is read."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

import harness
from pyrunc import commands as command_table

SHELLS = ("bash", "zsh", "fish")
START = sorted(name for name in command_table.COMMANDS if name.startswith("st"))
PROMPT = "ready>"


class Terminal:
    """A shell in a terminal of 80 columns that has loaded the completion script."""

    def __init__(self, shell: str, folder: pathlib.Path, script: str, program: str) -> None:
        self.shell = shell
        self.socket = str(folder / "tmux")
        bin_ = folder / "bin"
        bin_.mkdir()
        (bin_ / "pyrunc").symlink_to(os.path.realpath(program))
        self.env = {
            "PATH": "%s:/usr/bin:/bin" % bin_,
            "HOME": str(folder),
            "TERM": "xterm",
            "LC_ALL": "C.UTF-8",
            "XDG_CONFIG_HOME": str(folder),
        }
        (folder / "_pyrunc").write_text(script)
        command = {"bash": self._bash, "zsh": self._zsh, "fish": self._fish}[shell](folder)
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "40", "-c", str(folder), *command)
        self.until(lambda screen: PROMPT in screen)

    def _bash(self, folder: pathlib.Path) -> list[str]:
        (folder / "rc").write_text(
            "source %s/_pyrunc\nPS1='%s '\nbind 'set show-all-if-ambiguous on'\nbind 'set bell-style none'\n" % (folder, PROMPT)
        )
        return ["bash", "--rcfile", str(folder / "rc"), "-i"]

    def _zsh(self, folder: pathlib.Path) -> list[str]:
        (folder / ".zshrc").write_text(
            "fpath=(%s $fpath); autoload -Uz compinit; compinit -u -D\nPS1='%s '\nsetopt no_beep\n" % (folder, PROMPT)
        )
        return ["zsh", "-i"]

    def _fish(self, folder: pathlib.Path) -> list[str]:
        return ["fish", "--no-config", "-C", "function fish_prompt; echo '%s '; end; source %s/_pyrunc" % (PROMPT, folder)]

    def tmux(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-S", self.socket, *words], env=self.env, capture_output=True, text=True, timeout=harness.WATCHDOG)
        assert done.returncode == 0, done
        return done.stdout

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p", "-J")

    def until(self, good: Callable[[str], bool]) -> str:
        end = time.monotonic() + harness.WATCHDOG
        while not good(screen := self.screen()):
            assert time.monotonic() < end, screen
            time.sleep(0.05)
        return screen

    def typed(self, line: str, wanted: Callable[[str], bool]) -> str:
        """Types a line and Tab on an empty screen, and returns the screen once it shows the expected text."""
        self.tmux("send-keys", "C-u")
        self.tmux("send-keys", "C-l")
        self.until(lambda screen: screen.strip().startswith(PROMPT) and screen.count("\n") >= 1 and len(screen.split()) == 1)
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", "Tab")
        if self.shell == "zsh":
            self.tmux("send-keys", "Tab")
        return self.until(wanted)

    def close(self) -> None:
        self.tmux("kill-server")


@pytest.fixture(params=SHELLS)
def terminal(request: pytest.FixtureRequest, pyrunc: harness.Runtime, tmp_path: pathlib.Path) -> Iterator[Terminal]:
    for name in ("tmux", request.param):
        if not shutil.which(name, path="/usr/bin:/bin"):
            pytest.skip("no %s on this machine" % name)
    opened = Terminal(request.param, tmp_path, pyrunc.ok("completion", request.param).out, pyrunc.path)
    yield opened
    opened.close()


def line_of(screen: str) -> str:
    """The text on the command line, at the last prompt."""
    return " ".join(screen.rpartition(PROMPT)[2].split("\n", 1)[0].split())


def shows(*words: str) -> Callable[[str], bool]:
    return lambda screen: all(word in screen.partition(PROMPT)[2] for word in words)


def test_several_commands_are_offered_and_none_is_inserted(terminal: Terminal) -> None:
    screen = terminal.typed("pyrunc st", shows(*START))
    assert line_of(screen) in ("pyrunc sta", "pyrunc start"), screen  # the common prefix; a second Tab in zsh inserts the first candidate


def test_one_candidate_is_inserted(terminal: Terminal) -> None:
    terminal.typed("pyrunc che", lambda screen: line_of(screen) == "pyrunc checkpoint")


def test_options_with_values(terminal: Terminal) -> None:
    terminal.typed("pyrunc stats --format ", shows("table", "json", "prometheus"))
    terminal.typed("pyrunc stats --format=", shows("table", "json", "prometheus"))
    terminal.typed("pyrunc stats --format=prom", lambda screen: line_of(screen) == "pyrunc stats --format=prometheus")


@pytest.mark.kernel
def test_several_ids(terminal: Terminal, pyrunc: harness.Runtime, waiting: harness.Bundle) -> None:
    ids = [pyrunc.create(waiting), pyrunc.create(waiting.patch({"/linux/cgroupsPath": harness.ABSENT}))]
    for head in ("--root %s" % pyrunc.root, "--root=%s" % pyrunc.root):
        terminal.typed("pyrunc %s kill " % head, shows(*(id[-6:] for id in ids)))  # fish shortens a common prefix


def test_files_with_blanks(terminal: Terminal, tmp_path: pathlib.Path) -> None:
    for name in ("bundle one", "bundle two"):
        (tmp_path / name).mkdir()
    terminal.typed("pyrunc create --bundle bundle", shows("one", "two"))
    (tmp_path / "bundle two").rmdir()
    terminal.typed("pyrunc create --bundle bundle", lambda screen: "one" in line_of(screen))
