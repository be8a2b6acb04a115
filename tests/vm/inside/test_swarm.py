"""A Docker swarm in the guest, whose kernel has IPVS: virtual addresses and the routing mesh; the demonstration checks each step."""

import json
import subprocess
import sys

import harness

PATIENCE = 400  # seconds for a step, in an emulated machine
LIMIT = 2400  # only a watchdog


def test_a_service_behind_its_virtual_address_and_the_mesh(pyrunc):
    argv = [sys.executable, harness.ROOT / "tools/demo_swarm.py", "--runtime", pyrunc.path, "--replicas", "2", "4"]
    argv += ["--patience", str(PATIENCE)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["ok"]
    for words in (
        "has VXLAN and IPVS",
        "asked at its virtual address 10.",
        "all 4 replicas answer on port 8080 of node1, node2, node3",
        "its tasks are back: ",
        "all 4 replicas answer on port 8080 of node1, node2\n",
        "everything is gone",
    ):
        assert words in done.stdout, done.stdout
