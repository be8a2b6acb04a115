"""The suite as a distribution of its own: built from a copy, installed elsewhere, run from there."""

import shutil
import subprocess
import sys

import pytest
from suite_tools import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_installed(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "conformance", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", tmp_path / "there", source]
    done = subprocess.run(list(map(str, pip)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    script = next((tmp_path / "there" / "bin").glob("oci-conformance"))
    done = subprocess.run(
        [sys.executable, script, "--list", "--level", "core"],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PYTHONPATH": str(tmp_path / "there"), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0 and "state.stages" in done.stdout, done.stderr
    for name in ("requirements.toml", "probe/probe.c", "probe/probe.sh"):
        assert (tmp_path / "there" / "oci_conformance" / name).exists()
