"""What tests/kernel has for cgroup v2, where there is nothing else."""

from test_cgroups_v2 import *  # noqa: F403  the tests are this module's then
