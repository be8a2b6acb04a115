"""Cases of the conformance suite that can only be tested here: pure version 2 cgroups and AppArmor."""

import json
import subprocess
import sys

import pytest

import harness

pytestmark = pytest.mark.long
FILTERS = ("cgroups.", "unified.", "resources.", "apparmor", "deletion.removes")
NEEDED = {"cgroups.owner", "cgroups.owner_kept", "unified.written", "unified.not_convertible", "privileges.apparmor"}


def test_version_2_and_apparmor(runtime_path, tmp_path):
    """There is no compiler here, so the probe is the shell script, which is enough for the cases with these names."""
    options = [word for text in FILTERS for word in ("--filter", text)]
    argv = [sys.executable, "-m", "oci_conformance", "--runtime", runtime_path, "--level", "full", "--shell-probe", "--timeout", "60"]
    argv += [*options, "--json", tmp_path / "report"]
    done = subprocess.run(list(map(str, argv)), cwd=harness.ROOT / "conformance", capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-1000:])
    found = json.loads((tmp_path / "report").read_text())
    verdicts = {entry["case"]: entry["verdict"] for entry in found["results"]}
    assert {verdicts.get(name) for name in NEEDED} == {"pass"}, {name: verdicts.get(name) for name in NEEDED}
    assert set(verdicts.values()) <= {"pass", "known", "skip"} and not found["left"]
