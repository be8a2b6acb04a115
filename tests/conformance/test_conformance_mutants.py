"""Does the suite notice? Mutants of a runtime, each broken in one way."""

import pytest
from suite_tools import PYRUNC, suite

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def judge(ended, least):
    closing = ended.out.splitlines()[-1]
    number = int(closing.split()[0])
    assert ended.code == 0 and " 0 survived" in closing and "FAULTY" not in ended.out, ended
    assert number >= least, closing


def test_some():
    judge(suite("--mutants", PYRUNC, "--filter", "rlimits"), 2)
    judge(suite("--mutants", PYRUNC, "--filter", "failed-create"), 3)


@pytest.mark.long
def test_all():
    judge(suite("--mutants", PYRUNC, timeout=1500), 150)


def test_a_path_that_is_no_runtime(tmp_path):
    ended = suite("--mutants", tmp_path / "nosuch")
    assert ended.code == 2 and "no such file" in ended.err, ended
