"""What tests/kernel has for cgroup v2, where there is nothing else."""

import sys

import harness

sys.path.insert(0, str(harness.ROOT / "tests/kernel"))
from test_cgroups_v2 import *  # noqa: E402, F403  the tests are this module's then
