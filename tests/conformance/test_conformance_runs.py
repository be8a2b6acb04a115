"""The suite with real runtimes. pyrunc only deviates where deviations.py says so; runc and crun show that the suite is fair."""

import os
import shutil

import pytest
from suite_tools import PYRUNC, report_of

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
PATHS = {"pyrunc": PYRUNC, **{name: shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in ("runc", "crun")}}


def cgroups(pid):
    """Every cgroup on the host with the mark of a run of the suite."""
    found = []
    for top, names, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(top, name) for name in names if name.startswith(("ocs%dx" % pid, "oci-conformance-%d" % pid))]
    return found


def judge(ended, found, levels):
    bad = [(entry["runtime"], entry["case"]) for entry in found["results"] if entry["verdict"] in ("fail", "broken")]
    assert not bad and not found["left"], ended
    assert ended.code == (2 if found["unusable"] else 0), ended
    for level, share in levels.items():
        entry = found["coverage"][level]
        assert 100 * entry["covered"] >= share * entry["observable"], (level, entry)
    assert cgroups(ended.pid) == []


def deviations(found, label):
    """{requirement} that deviations.py excuses for a runtime."""
    return {entry["id"] for entry in found["requirements"] if entry["verdicts"].get(label) == "known"}


@pytest.mark.parametrize("name", PATHS)
def test_core(name, tmp_path):
    if not PATHS[name]:
        pytest.skip("this machine has no %s" % name)
    ended, found = report_of("--runtime", PATHS[name], "--level", "core", path=tmp_path / "report", timeout=180)
    if name != "pyrunc" and found["unusable"]:
        pytest.skip("%s does not work on this machine: %s" % (name, found["unusable"][0]["why"]))
    judge(ended, found, {"MUST": 50})
    if name == "pyrunc":
        assert deviations(found, "pyrunc") <= {"op.delete.created", "user.umask.unset"}


@pytest.mark.long
def test_full(whole_run):
    ended, found, _ = whole_run
    judge(ended, found, {"MUST": 100, "SHOULD": 90})
    assert [entry["label"] for entry in found["runtimes"]][:1] == ["pyrunc"], ended
    assert deviations(found, "pyrunc") == {"op.delete.created", "user.umask.unset", "pids.zero"}, "exactly these, no more and no less"
    assert "its entry can go" not in ended.out, ended


@pytest.mark.long
def test_core_with_the_shell_probe(tmp_path):
    ended, found = report_of("--runtime", PYRUNC, "--level", "core", "--shell-probe", path=tmp_path / "report")
    judge(ended, found, {"MUST": 50})
