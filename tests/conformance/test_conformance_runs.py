"""The suite on real runtimes. pyrunc deviates where deviations.py says so, and nowhere else; runc and crun keep the suite honest."""

import shutil

import pytest
from suite_tools import PYRUNC, report_of

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def runtimes():
    """--runtime options for those that are here; pyrunc must be."""
    found = ["--runtime", PYRUNC]
    for name in ("runc", "crun"):
        path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        found += ["--runtime", path] if path else []
    return found


def judge(ended, found, levels):
    assert [entry["label"] for entry in found["runtimes"]][:1] == ["pyrunc"], ended
    bad = [(entry["runtime"], entry["case"]) for entry in found["results"] if entry["verdict"] in ("fail", "broken")]
    assert not bad and ended.code == 0, ended
    for level, share in levels.items():
        entry = found["coverage"][level]
        assert 100 * entry["covered"] >= share * entry["observable"], (level, entry)
    verdicts = [entry["verdicts"]["pyrunc"] for entry in found["requirements"] if entry["level"] == "MUST"]
    assert verdicts.count("known") <= 2, "pyrunc has no more deviations than before"


def test_core(tmp_path):
    ended, found = report_of(*runtimes(), "--level", "core", path=tmp_path / "report")
    judge(ended, found, {"MUST": 50})
    if found["unusable"]:
        pytest.skip("this machine does not suit %s" % "; ".join(entry["why"] for entry in found["unusable"]))


@pytest.mark.long
def test_full(tmp_path):
    ended, found = report_of(*runtimes(), "--level", "full", path=tmp_path / "report", timeout=1200)
    judge(ended, found, {"MUST": 100, "SHOULD": 90})


@pytest.mark.long
def test_core_with_the_shell_probe(tmp_path):
    ended, found = report_of("--runtime", PYRUNC, "--level", "core", "--shell-probe", path=tmp_path / "report")
    judge(ended, found, {"MUST": 50})
