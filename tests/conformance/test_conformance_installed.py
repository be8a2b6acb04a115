"""The suite as a separate distribution: built from a copy, installed elsewhere, and run from there."""

import json
import shutil
import subprocess
import sys

import pytest
from suite_tools import PYRUNC, ROOT

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.long]


def done_well(*argv, **kw):
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, **kw)
    assert done.returncode == 0, (argv, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def test_installed_in_a_fresh_environment(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "conformance", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    done_well(sys.executable, "-m", "venv", tmp_path / "venv")
    pip = [tmp_path / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", source]
    done = subprocess.run([str(word) for word in pip], capture_output=True, text=True, timeout=300)
    if done.returncode and "setuptools" in done.stderr:
        pytest.skip("pip has no package index to get setuptools from: %s" % done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)  # nothing may be loaded from there
    program = tmp_path / "venv/bin/oci-conformance"
    clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    assert "state.stages" in done_well(program, "--list", "--level", "core", cwd="/", env=clean)
    report = tmp_path / "report.json"
    done_well(program, "--runtime", PYRUNC, "--level", "core", "--filter", "state.", "--json", report, cwd="/", env=clean)
    found = json.loads(report.read_text())
    assert len(found["results"]) > 5 and {entry["verdict"] for entry in found["results"]} == {"pass"}
    bench = subprocess.run([str(program), "bench", "--list"], capture_output=True, text=True, cwd="/", env=clean)
    assert bench.returncode == 2 and "source tree" in bench.stderr


def test_from_the_top_of_the_tree():
    assert "state.stages" in done_well(sys.executable, "-m", "conformance", "--list", cwd=ROOT)
    assert "create" in done_well(sys.executable, "-m", "conformance", "bench", "--list", cwd=ROOT)
