"""finish(): operations that a filter denies, and what the record says about them (docs/testing.md)."""

import errno

import pytest

import tail as tools

pytestmark = pytest.mark.kernel


def test_descriptors_that_cannot_be_closed_before_the_wait():
    """A created container must not wait with descriptors that it should have closed."""
    deny = ("FILTER", tools.program(["close_range"], tools.ERRNO | errno.EPERM), 0)
    tail = tools.Tail((("NNP",), deny, ("PRUNE",), ("FIND", "/bin/true", None), ("READY",), ("WAIT",)), gate=True)
    record = tail.record()
    assert record.kind != "R", "it is not ready"
    assert (record.op, record.errno, record.call) == ("PRUNE", errno.EPERM, "close_range")
    assert tail.status() == 1
