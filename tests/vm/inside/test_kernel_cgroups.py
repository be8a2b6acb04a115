"""The tests for cgroup v2 in tests/kernel, on a host with only version 2."""

from test_cgroups_v2 import *  # noqa: F403  the tests are this module's then
