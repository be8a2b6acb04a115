"""Warnings that a part of the config is ignored: they are shown without --debug, but only where no program parses the output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import harness

pytestmark = pytest.mark.kernel

if TYPE_CHECKING:
    import pathlib

    from harness import Runtime
    from workshop import MakeBundle

AMBIENT = "can't raise ambient capability CAP_KILL: operation not permitted"
UNKNOWN = "ignoring unknown or unavailable capabilities: [CAP_OF_TOMORROW]"
SETS = {"bounding": ["CAP_KILL", "CAP_OF_TOMORROW"], "ambient": ["CAP_KILL"]}


@pytest.fixture
def lacking(make_bundle: MakeBundle) -> harness.Bundle:
    """A bundle with an unknown capability, and an ambient one that can't be raised."""
    return make_bundle({"/process/capabilities": SETS}, args=harness.WAIT_FOR_TERM)


def warnings(path: pathlib.Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if "level=warning" in line]


@pytest.mark.parametrize("level", [[], ["--log-level", "warning"], ["--debug"]])
def test_in_a_text_log(pyrunc: Runtime, lacking: harness.Bundle, tmp_path: pathlib.Path, level: list[str]) -> None:
    log = tmp_path / "log"
    result = pyrunc.call("create", "--bundle", lacking, pyrunc.new_id(), globals=["--log", log, *level])
    assert (result.code, result.out) == (0, ""), result
    found = "\n".join(warnings(log))
    assert AMBIENT in found and UNKNOWN in found, found


def test_of_exec(pyrunc: Runtime, lacking: harness.Bundle, tmp_path: pathlib.Path) -> None:
    log, id = tmp_path / "log", pyrunc.started(lacking)
    assert pyrunc.call("exec", id, "/bin/true", globals=["--log", log]).code == 0
    assert AMBIENT in "\n".join(warnings(log))


def test_not_with_log_level_error(pyrunc: Runtime, lacking: harness.Bundle, tmp_path: pathlib.Path) -> None:
    log = tmp_path / "log"
    pyrunc.ok("create", "--bundle", lacking, pyrunc.new_id(), globals=["--log", log, "--log-level", "error"])
    assert log.read_text() == ""


def test_never_where_a_caller_parses_the_output(pyrunc: Runtime, lacking: harness.Bundle, tmp_path: pathlib.Path) -> None:
    """podman reads a JSON log as one object; other engines read standard error."""
    log = tmp_path / "log"
    for words in (["--log", log, "--log-format", "json"], []):
        id = pyrunc.new_id()
        result = pyrunc.ok("create", "--bundle", lacking, id, globals=words)
        assert (result.out, result.err) == ("", "")
        pyrunc.delete(id, "--force")
    assert log.read_text() == ""


@pytest.mark.parametrize("sets", [SETS, {"bounding": ["CAP_KILL"]}])
def test_at_a_terminal(pyrunc: Runtime, make_bundle: MakeBundle, sets: dict[str, list[str]]) -> None:
    bundle = make_bundle({"/process/capabilities": sets})
    code, said = harness.at_a_terminal(pyrunc.argv("run", "--bundle", bundle, pyrunc.new_id()), env=pyrunc.env)
    assert code == 0
    if sets is not SETS:
        assert said == ""
        return
    expected = ["warning: /process/capabilities/ambient: " + AMBIENT, "warning: /process/capabilities: " + UNKNOWN]
    assert sorted(said.splitlines()) == sorted(expected), "and nothing on standard output"
