"""A kernel that is too old is reported before anything is tried."""

import pytest

from pyrunc import codes, errors, seal


def refused(release):
    """The error for a kernel; "" if it is new enough."""
    try:
        seal._need_kernel(release)
    except errors.Unsupported as e:
        assert codes.find(e)
        return e.words
    return ""


@pytest.mark.parametrize("release", ["5.10.0-30-cloud-amd64", "4.18.0-553.el8.x86_64", "5.11.22", "5.9-rc1"])
def test_too_old(release):
    assert refused(release) == "kernel too old: this is Linux %s, and pyrunc needs 5.12 or later" % release


@pytest.mark.parametrize("release", ["5.12.0", "5.14.0-503.el9", "6.1.0-13-amd64", "6.18.44", "10.0", "5.12-rc1", "unknown"])
def test_new_enough(release):
    assert refused(release) == ""
