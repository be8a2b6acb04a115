"""`make demo`, without make: every step is printed with its time, and nothing is left behind."""

import re
import subprocess

import pytest

import harness

pytestmark = pytest.mark.kernel


def test_demo(runtime, no_leaks):
    argv = ["/usr/bin/python3", harness.ROOT / "tools/demo.py", "--runtime", runtime.path]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=harness.WATCHDOG)
    assert done.returncode == 0, done
    steps = re.findall(r"^ *\d+  (.+?) +[\d.]+ ms$", done.stdout, re.M)
    life = ["create", "state", "start", "state", "kill TERM", "state", "delete"]
    assert steps == ["make bundle hello", *(["validate", "plan (touches nothing)"] if runtime.is_pyrunc else []), *life]
    assert "status created" in done.stdout and "status running" in done.stdout and "status stopped" in done.stdout
    assert "it says: hello from hello, I am pid 1 of user 0" in done.stdout
    assert "left behind: 0 state directories, 0 mounts, 0 cgroups" in done.stdout
