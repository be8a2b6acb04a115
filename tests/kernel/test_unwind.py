"""A failure, or the death of the runtime, at every row of the timetable leaves nothing behind, and the id can be used again.

The command runs in a child interpreter in which the call of one verb is replaced: by an error of the kernel, or by SIGKILL.
"""

import json
import os
import subprocess
import sys

import pytest

import harness
from pyrunc.engine import order

pytestmark = pytest.mark.kernel

CHILD = """
import os, sys
sys.path[:0] = [sys.argv[1]]
from pyrunc import cli, seal
from pyrunc.errors import CallError
seal.ensure = lambda argv: None
from pyrunc.engine import steps
part, verb, act = sys.argv[2].split(":")
real = steps.call
def call(p, v, side, entry, run, *extra):
    if (p, v) == (part, verb) and act == "before":
        raise steps.StepFailure.from_oserror(fault(), p + "." + v, side, steps.FIRST_KEY.get(p))
    if (p, v) == (part, verb) and act == "kill":
        os.kill(os.getpid() if side == "host" else os.getppid() or run.host_pid, 9)
    answer = real(p, v, side, entry, run, *extra)
    if (p, v) == (part, verb) and act == "after":
        raise steps.StepFailure.from_oserror(fault(), p + "." + v, side, steps.FIRST_KEY.get(p))
    if (p, v) == (part, verb) and act == "killafter":
        os.kill(os.getpid(), 9)
    return answer
def fault():
    return CallError(5, os.strerror(5), None, "injected")
steps.call = call
os._exit(cli.main(sys.argv[3:]))
"""

EVERYTHING = {
    "/process/oomScoreAdj": 100,
    "/process/rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
    "/process/scheduler": {"policy": "SCHED_BATCH"},
    "/process/capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]},
    "/process/noNewPrivileges": True,
    "/linux/personality": {"domain": "LINUX"},
    "/linux/resources": {"pids": {"limit": 100}},
    "/linux/maskedPaths": ["/proc/kcore"],
    "/linux/readonlyPaths": ["/proc/sys"],
    "/linux/sysctl": {"net.ipv4.ip_forward": "0"},
    "/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]},
    "/hooks": {"createRuntime": [{"path": "/bin/true"}], "createContainer": [{"path": "/bin/true"}]},
}


def rows_of(config_parts):
    return [(part, verb) for phase, part, verb, _ in order.CREATE if part != "engine" and phase != "listener" and part in config_parts]


PARTS = {
    "namespaces", "seccomp", "cgroups", "scheduling", "oom", "user", "keyring", "root", "mounts", "devices", "resources", "hooks",
    "program", "fds", "uts", "sysctls", "paths", "personality", "capabilities", "rlimits",
}  # fmt: skip


def attempt(runtime, bundle, id, fault):
    argv = [
        sys.executable,
        "-I",
        "-c",
        CHILD,
        str(harness.ROOT / "runtime"),
        fault,
        "--root",
        runtime.root,
        "create",
        "--bundle",
        str(bundle),
        id,
    ]
    return subprocess.run(argv, capture_output=True, text=True, timeout=harness.WATCHDOG, stdin=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize("act", ["before", "after"])
@pytest.mark.parametrize(("part", "verb"), rows_of(PARTS), ids=lambda x: x)
def test_an_error_is_undone_and_named(pyrunc, no_leaks, make_bundle, part, verb, act):
    bundle = make_bundle(EVERYTHING)
    id = pyrunc.new_id()
    seen = attempt(pyrunc, bundle, id, f"{part}:{verb}:{act}")
    assert seen.returncode == 1, seen
    assert seen.stderr.count("\n") == 1 and "Traceback" not in seen.stderr, seen.stderr
    assert f"{part}.{verb}" in seen.stderr and "injected: EIO" in seen.stderr, seen.stderr
    assert no_leaks.left() == {}
    assert pyrunc.call("state", id).code == 1
    pyrunc.create(bundle, id)
    pyrunc.ok("delete", "--force", id)


HOST = ("prepare", "placed", "hooks", "limits")


@pytest.mark.parametrize("act", ["kill", "killafter"])
@pytest.mark.parametrize(
    ("part", "verb"),
    [(p, v) for phase, p, v, _ in order.CREATE if phase in HOST and p in PARTS],
    ids=lambda x: x,
)
def test_a_killed_create_is_cleaned_by_delete(pyrunc, no_leaks, make_bundle, part, verb, act):
    bundle = make_bundle(EVERYTHING)
    id = pyrunc.new_id()
    seen = attempt(pyrunc, bundle, id, f"{part}:{verb}:{act}")
    assert seen.returncode == -9, seen
    pyrunc.ok("delete", "--force", id)
    assert no_leaks.left() == {}
    pyrunc.create(bundle, id)
    assert json.loads(pyrunc.ok("state", id).out)["status"] == "created"
    pyrunc.ok("delete", "--force", id)
    assert not os.path.exists(os.path.join(pyrunc.root, id))
