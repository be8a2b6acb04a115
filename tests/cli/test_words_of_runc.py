"""Messages of the newest runc that scripts look for, where it costs nothing to use the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import harness
import hoststate

pytestmark = pytest.mark.kernel

if TYPE_CHECKING:
    from harness import Runtime
    from workshop import MakeBundle

POLICY = "/linux/memoryPolicy"
NOTIFY = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "listenerPath": "/nowhere/agent",
    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
}
REFUSED = {
    "an empty policy": ({POLICY: {}}, "invalid memory policy"),
    "another mode": ({POLICY: {"mode": "INTERLEAVE", "nodes": "0"}}, "invalid memory policy mode"),
    "no mode": ({POLICY: {"nodes": "0-7"}}, "invalid memory policy mode"),
    "another flag": ({POLICY: {"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_BAD"]}}, "invalid memory policy flag"),
    "needless nodes": ({POLICY: {"mode": "MPOL_DEFAULT", "nodes": "0-7"}}, "mode requires 0 nodes but got 8"),
    "a large node": ({POLICY: {"mode": "MPOL_BIND", "nodes": "0-9876543210", "flags": []}}, "invalid memory policy node"),
    "no agent": ({"/linux/seccomp": NOTIFY}, "failed to connect with seccomp agent"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(pyrunc: Runtime, make_bundle: MakeBundle, no_leaks: hoststate.Traces, name: str) -> None:
    changes, words = REFUSED[name]
    result = pyrunc.run(make_bundle(changes))
    assert result.code == 1 and words in result.err and len(result.err.splitlines()) == 1, result


def test_unified_on_version_1(pyrunc: Runtime, make_bundle: MakeBundle, no_leaks: hoststate.Traces) -> None:
    if (hoststate.CGROUP / "cgroup.controllers").exists():
        pytest.skip("this host has cgroup version 2")
    result = pyrunc.run(make_bundle({"/linux/resources": {"unified": {"memory.high": "max"}}}))
    assert result.code == 1 and "invalid configuration" in result.err, result


def test_a_missing_interpreter(pyrunc: Runtime, make_bundle: MakeBundle) -> None:
    words = "exec /run.sh: no such file or directory"
    for args in (["/run.sh"], harness.WAIT_FOR_TERM):
        bundle = make_bundle(args=args)
        (bundle.rootfs / "run.sh").write_text("#!/mmnnttbb foo bar\nsh\n")
        (bundle.rootfs / "run.sh").chmod(0o755)
        if args == ["/run.sh"]:
            result = pyrunc.run(bundle)
            assert result.code == 1 and words in result.err.splitlines()[0], result
        else:
            result = pyrunc.call("exec", pyrunc.started(bundle), "/run.sh")
            assert result.code == 255 and words in result.err and len(result.err.splitlines()) == 1, result


def test_a_sub_cgroup_that_leaves(pyrunc: Runtime, waiting: harness.Bundle) -> None:
    id = pyrunc.started(waiting)
    result = pyrunc.call("exec", "--cgroup", "..", id, "/bin/true")
    assert result.code == 255 and "bad sub cgroup path" in result.err, result
    assert pyrunc.call("exec", "--cgroup", "/", id, "/bin/true").code == 0


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["list", "-h"], ["run", "--help"]])
def test_help_starts_with_the_name(pyrunc: Runtime, words: list[str]) -> None:
    lines = pyrunc.ok(*words).out.splitlines()
    assert lines[0] == "NAME:" and lines[1].startswith("   pyrunc "), lines[:2]


def test_debug_lines(pyrunc: Runtime, bundle: harness.Bundle) -> None:
    """They cover the same steps, in runc's words."""
    result = pyrunc.ok("run", "--bundle", bundle, pyrunc.new_id(), globals=["--debug"])
    assert "level=debug" in result.err and "nsexec started" in result.err and "child process in init()" in result.err, result
    assert pyrunc.ok("run", "--bundle", bundle, pyrunc.new_id()).err == ""
