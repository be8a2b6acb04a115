"""Docker swarm: the demonstration is the test, because each of its steps checks its result."""

import json
import os
import subprocess
import sys

import pytest

import callers

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.mark.long
@pytest.mark.caller("docker swarm")
def test_service_survives_a_node(runtime):
    missing = callers.packages_missing(["dockerd", "docker", "containerd", "ip", "iptables", "busybox"])
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.path.basename(runtime).startswith(("runc", "crun")):
        pytest.skip("the demonstration only uses pyrunc")
    done = subprocess.run(
        [sys.executable, f"{PROJECT}/tools/demo_swarm.py", "--runtime", runtime], capture_output=True, text=True, timeout=600
    )
    if "no VXLAN" in done.stderr:
        pytest.skip("this kernel has no VXLAN, which overlay networks need")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["ok"]
    for words in ("scaled to 9: ", "node3 killed", "its tasks are back: ", "everything is gone"):
        assert words in done.stdout
