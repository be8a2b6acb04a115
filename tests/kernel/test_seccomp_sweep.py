"""Under the filter of the container the runtime needs no calls except the unavoidable one: only execve has to be allowed.

`pytest tests/kernel/test_seccomp_sweep.py --runtime /usr/bin/crun` shows what another runtime needs; tools/filter_sweep.py writes the
table in docs/seccomp-sweep.md.
"""

import pathlib
import subprocess
import tempfile

import pytest

import seccomp_sweep

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
ADMIN = "CAP_SYS_ADMIN"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "quiet"
    try:
        seccomp_sweep.build(path)
    except (OSError, subprocess.CalledProcessError) as e:
        pytest.skip("this machine has no compiler: %s" % e)
    return path


@pytest.fixture
def sweep(runtime_path, scratch, program):
    def make(**kw):
        return seccomp_sweep.Sweep(runtime_path, pathlib.Path(tempfile.mkdtemp(prefix="s", dir=scratch)), program, **kw)

    return make


@pytest.mark.parametrize("how", seccomp_sweep.HOWS)
@pytest.mark.parametrize("place", seccomp_sweep.PLACES)
def test_without_a_denied_call_it_starts(sweep, place, how):
    """The positive control: with everything allowed, the same container starts with any runtime."""
    assert not sweep().starts((), "EPERM", place, how)


@pytest.mark.parametrize("how", seccomp_sweep.HOWS)
def test_a_runtime_that_hangs_has_not_started(sweep, how, tmp_path, monkeypatch):
    monkeypatch.setattr(seccomp_sweep, "SECONDS", 0.5)
    (tmp_path / "hangs").write_text('#!/bin/sh\ncase $* in *" delete "*) exit 0;; esac\nexec sleep 1000\n')
    (tmp_path / "hangs").chmod(0o755)
    made = sweep()
    made.runtime = str(tmp_path / "hangs")
    assert made.starts((), "EPERM", "early", how) == "no end after 0.5 s"


@pytest.mark.parametrize("rights", [{}, {"uid": 1000, "capabilities": [ADMIN]}], ids=str)
@pytest.mark.parametrize("how", seccomp_sweep.HOWS)
@pytest.mark.parametrize("action", seccomp_sweep.ACTIONS)
@pytest.mark.parametrize("place", seccomp_sweep.PLACES)
def test_a_profile_with_only_the_calls_of_the_program(sweep, place, action, how, rights):
    """As recorded from the program alone: it has neither write nor read."""
    assert not sweep(**rights).starts(None, action, place, how)


@pytest.mark.parametrize("action", seccomp_sweep.ACTIONS)
@pytest.mark.parametrize("place", seccomp_sweep.PLACES)
@pytest.mark.parametrize("call", ["write", "read", "close", "capset", "rt_sigaction", "close_range", "getcwd", "newfstatat"])
def test_one_call_is_denied(sweep, place, action, call):
    """Calls that decisions in csrc/filter.c depend on, one at a time, and some that other runtimes need."""
    made = sweep()
    assert {how: made.starts((call,), action, place, how) for how in seccomp_sweep.HOWS} == dict.fromkeys(seccomp_sweep.HOWS, "")


@pytest.mark.long
@pytest.mark.parametrize("call", [call for call in seccomp_sweep.CALLS])
def test_any_call_is_denied(sweep, call):
    made = sweep()
    found = {
        (action, place, how): made.starts((call,), action, place, how)
        for action in seccomp_sweep.ACTIONS
        for place in seccomp_sweep.PLACES
        for how in seccomp_sweep.HOWS
    }
    assert {key: said for key, said in found.items() if said} == {}
