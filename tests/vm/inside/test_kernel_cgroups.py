"""The tests of tests/kernel for cgroup v2, on a host with version 2 only."""

from test_cgroups_v2 import *  # noqa: F403  the tests are this module's then
