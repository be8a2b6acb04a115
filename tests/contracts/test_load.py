"""Many containers: there is no failure and no leak, and the last one uses no more memory than the first. (Times are measured but not asserted:
the figures of `make load` are for reports.)"""

import json
import os
import subprocess
import sys

import pytest

from sandbox import SYSTEM_PATH

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
pytestmark = pytest.mark.long


def measured(tmp_path, runtime, *words):
    """The report of tools/load.py, which checks itself that nothing failed and nothing is left."""
    file = tmp_path / "load.json"
    argv = [sys.executable, f"{PROJECT}/tools/load.py", "--runtime", runtime, "--json", str(file), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=900, env={**os.environ, "PATH": SYSTEM_PATH})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return json.loads(file.read_text())


@pytest.mark.caller("command line")
def test_thousand_lives(tmp_path, runtime):
    report = measured(tmp_path, runtime, "--lives=1000", "--containerd=0", "--docker=0")["lives"]
    assert len(report["samples"]) == 1000
    assert report["last"]["anonymous_kb"] <= report["first"]["anonymous_kb"] * 1.05 + 16, (report["first"], report["last"])


@pytest.mark.caller("containerd")
def test_two_hundred_in_parallel(tmp_path, runtime):
    report = measured(tmp_path, runtime, "--lives=0", "--containerd=200", "--docker=0")["containerd"]
    assert len(report["samples"]) == 200
    assert report["last"]["anonymous_kb"] <= report["first"]["anonymous_kb"] * 1.2 + 1024, (report["first"], report["last"])


@pytest.mark.caller("docker")
def test_run_beside_runc(tmp_path, runtime):
    report = measured(tmp_path, runtime, "--lives=0", "--containerd=0", "--docker=10")["docker"]
    assert len(report["samples"]["ours"]) == len(report["samples"]["runc"]) == 10 and report["ratio"] > 0
