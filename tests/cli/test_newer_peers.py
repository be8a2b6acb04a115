"""Mistakes that newer releases of other runtimes have corrected, unless another file tests them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import harness
from cli_tools import mapped

pytestmark = pytest.mark.kernel

if TYPE_CHECKING:
    from harness import Json, Runtime
    from workshop import MakeBundle

FIRST = 100000


def test_root_in_a_user_namespace_that_is_joined(runtime: Runtime, make_bundle: MakeBundle) -> None:
    """runc 1.2.1: the setup runs as root of that namespace, so the files that it creates belong to that user."""
    owner = runtime.started(mapped(make_bundle))
    path = "/proc/%d/ns/user" % runtime.state(owner)["pid"]
    changes = {"/process/cwd": "/made/by/the/runtime"}
    bundle = mapped(make_bundle, changes, ["/bin/sh", "-c", "id -u; id -g; stat -c %u:%g ."], joined={"user": path})
    result = runtime.run(bundle)
    assert (result.code, result.out) == (0, "0\n0\n0:0\n"), result
    assert os.stat(bundle.rootfs / "made/by").st_uid == FIRST


def test_a_mask_that_can_not_be_reached(runtime: Runtime, make_bundle: MakeBundle) -> None:
    """crun 1.29: EACCES is an error, because the path may exist."""
    if runtime.name == "crun":
        pytest.skip("crun before 1.29 skips it")
    for reached in (True, False):
        bundle = mapped(make_bundle, {"/linux/maskedPaths": ["/closed/secret"]}, ["/bin/true"])
        closed = bundle.rootfs / "closed"
        closed.mkdir(mode=0o700)
        (closed / "secret").write_text("")
        if reached:
            os.chown(closed, FIRST, FIRST)
        result = runtime.run(bundle)
        assert (result.code == 0) == reached and ("permission denied" in result.err.lower()) == (not reached), result


@pytest.mark.parametrize("architectures", [harness.ABSENT, []])
def test_a_filter_without_architectures(runtime: Runtime, make_bundle: MakeBundle, architectures: Json) -> None:
    """runc 1.2: the native architecture is used, and calls are handled as if it were listed."""
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]}
    if architectures is not harness.ABSENT:
        profile["architectures"] = architectures
    result = runtime.run(make_bundle({"/linux/seccomp": profile}, args=["/bin/sh", "-c", "mkdir /x; mknod /y p && echo works"]))
    assert result.out == "works\n" and "Permission denied" in result.err, result


@pytest.mark.parametrize("kind", ["poststop", "poststart"])
def test_the_status_of_run_is_the_program_s(pyrunc: Runtime, make_bundle: MakeBundle, kind: str) -> None:
    """crun 1.27: hooks do not change it, except that a failing poststart hook ends the container."""
    hooks = {kind: [{"path": "/bin/%s" % ("false" if kind == "poststop" else "true")}]}
    assert pyrunc.run(make_bundle({"/hooks": hooks}, args=["/bin/sh", "-c", "exit 7"])).code == 7
