"""Does the suite find defects? Mutants of a runtime, each broken in one way."""

import pytest
from suite_tools import PYRUNC, report_of, suite

from oci_conformance import mutants
from oci_conformance.mutants.wrapper import script

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.long]


def judge(ended, least):
    """Checks that all mutants are caught, none is faulty, and no wrapper breaks something by itself."""
    closing = ended.out.splitlines()[-1]
    number = int(closing.split()[0])
    assert ended.code == 0 and " 0 survived" in closing, ended
    assert "FAULTY" not in ended.out and "WRAPPER" not in ended.out, ended
    assert number >= least, closing


@pytest.mark.parametrize("some, least", [("rlimits", 3), ("failed-", 3), ("state-", 12)])
def test_some(some, least):
    judge(suite("--mutants", PYRUNC, "--filter", some), least)


def test_all():
    judge(suite("--mutants", PYRUNC, timeout=1500), 150)


@pytest.mark.parametrize("way", mutants.controls())
def test_a_wrapper_that_changes_nothing_passes(way, tmp_path):
    """Behind the wrapper, the runtime conforms as it does without; what is lost by reading and rewriting config.json is named."""
    lost = {"config": {"json.duplicates", "json.utf8"}}.get(way, set())
    path = tmp_path / ("unchanged-" + way)
    script(str(path), path.name, PYRUNC)
    ended, found = report_of("--runtime", path, "--level", "core", path=tmp_path / "report", timeout=300)
    bad = {entry["id"] for entry in found["requirements"] if entry["verdicts"].get(path.name) in ("fail", "broken")}
    assert found["results"] and bad <= lost, (bad, ended)


def test_a_path_that_is_not_a_runtime(tmp_path):
    ended = suite("--mutants", tmp_path / "nosuch")
    assert ended.code == 2 and "no such file" in ended.err, ended


def test_a_filter_that_matches_no_mutant():
    ended = suite("--mutants", PYRUNC, "--filter", "no mutant has this")
    assert ended.code == 2 and len(ended.err.splitlines()) == 1, ended
