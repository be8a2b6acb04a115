"""Upgrading while containers are running: the executable is replaced, and the new release handles containers created by the previous one.

The previous release is built from the history of this repository, with the plain launcher, at the commit PREVIOUS, which is updated with each
release. A change to the format of the state that breaks a test here needs a new state_dir.VERSION, or a reader for both formats.
"""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

import harness

PREVIOUS = "a9842d6"
PYTHON = "/usr/bin/python3"
FILTER = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}
LIMITS = {"/linux/resources/pids": {"limit": 50}, "/linux/seccomp": FILTER}
SHARED = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "user")]
IDS = [{"containerID": 0, "hostID": 100000, "size": 65536}]

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.fixture(scope="module")
def source(scratch):
    """The launcher of the previous release."""
    git = ["git", "-c", "safe.directory=*", "-C", str(harness.ROOT)]
    if shutil.which("git") is None or subprocess.run([*git, "cat-file", "-e", PREVIOUS + "^{commit}"], capture_output=True).returncode:
        pytest.skip("the previous release, %s, is not in the history here" % PREVIOUS)
    tree = scratch / "previous"
    tree.mkdir()
    packed = subprocess.run([*git, "archive", PREVIOUS, "Makefile", "pyproject.toml", "runtime", "specs"], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", tree], input=packed.stdout, check=True)
    env = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(["make", "ext", "PYTHON=" + PYTHON], cwd=tree, env=env, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("the previous release does not build here: %s" % done.stderr.strip()[-300:])
    (tree / "lib").symlink_to(harness.ROOT / ".venv/lib")
    (tree / "bin").mkdir()
    (tree / "bin/pyrunc").symlink_to("../runtime/bin/pyrunc")
    return tree / "bin/pyrunc"


@pytest.fixture
def before(source, pyrunc):
    """The previous release, with the state root and the cgroup of the new one."""
    made = harness.Runtime(source, pyrunc.root, pyrunc.token + "p", pyrunc.cgroup)
    assert made.call("--version").out != "" and made.path != pyrunc.path
    yield made
    made.clean()
    shutil.rmtree(pathlib.Path(pyrunc.root) / "@cache", ignore_errors=True)  # its compiled filters


def test_a_created_container(no_leaks, before, pyrunc, make_bundle):
    """start writes into the fifo that the init of another version reads."""
    bundle = make_bundle(LIMITS, args=harness.WAIT_FOR_TERM)
    id = before.create(bundle)
    old, new = before.state(id), pyrunc.state(id)
    assert {**new, **old} == new and new["status"] == "created", "the new output has all fields of the old one"
    pyrunc.ok("start", id)
    assert pyrunc.status(id) == "running" and before.status(id) == "running"
    pyrunc.stopped(id, "TERM")
    pyrunc.ok("delete", id)


def test_a_running_container(no_leaks, before, pyrunc, make_bundle):
    bundle = make_bundle(LIMITS, args=harness.WAIT_FOR_TERM)
    id = before.started(bundle)
    assert pyrunc.ok("exec", id, "/bin/grep", "-c", "Seccomp:\t2", "/proc/self/status").out == "1\n", "it has the filter from the plan"
    assert pyrunc.ok("exec", id, "/bin/cat", "/proc/1/comm").out == before.ok("exec", id, "/bin/cat", "/proc/1/comm").out
    assert id in pyrunc.ok("list", "-q").out.split() and str(pyrunc.state(id)["pid"]) in pyrunc.ok("ps", id).out.split()
    pyrunc.ok("update", "--pids-limit", "60", id)
    rows = json.loads(pyrunc.call("diff", "--format", "json", id).out)["differences"]
    assert [row for row in rows if "pids" in row["what"] or "pids" in (row["pointer"] or "")] == []
    pyrunc.ok("pause", id)
    assert pyrunc.status(id) == before.status(id) == "paused"
    pyrunc.ok("resume", id)
    pyrunc.ok("events", "--stats", id)
    pyrunc.stopped(id, "TERM")
    pyrunc.ok("delete", id)


def test_a_container_with_a_user_namespace(no_leaks, before, pyrunc, make_bundle):
    changes = {"/linux/namespaces": SHARED, "/linux/uidMappings": IDS, "/linux/gidMappings": IDS}
    id = before.started(make_bundle(changes, args=harness.WAIT_FOR_TERM))
    assert pyrunc.ok("exec", id, "/bin/cat", "/proc/self/uid_map").out.split() == ["0", "100000", "65536"]
    pyrunc.ok("delete", "--force", id)


def test_a_stopped_container(no_leaks, before, pyrunc, make_bundle, scratch):
    mark = scratch / "poststop"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "cat > %s" % mark]}
    id = before.started(make_bundle({"/hooks/poststop": [hook]}, args=harness.WAIT_FOR_TERM))
    before.stopped(id)
    assert pyrunc.status(id) == "stopped"
    assert pyrunc.call("exec", id, "/bin/true").code != 0 and pyrunc.call("start", id).code == 1
    pyrunc.ok("delete", id)
    assert json.loads(mark.read_text())["id"] == id, "its own hooks have run"


def test_downgrade(no_leaks, before, pyrunc, make_bundle):
    """After an upgrade, the old executable is restored, and ends containers that the new one has started. (Its start looks for the gate under
    another name, and its exec need not understand a newer plan.)"""
    bundle = make_bundle(LIMITS, args=harness.WAIT_FOR_TERM)
    id = pyrunc.create(bundle)
    pyrunc.ok("start", id)
    assert before.status(id) == "running"
    before.stopped(id)
    before.ok("delete", id)


def test_the_file_is_replaced_while_a_container_waits(no_leaks, pyrunc, make_bundle, scratch):
    """With a rename, as install.sh and package managers do it. The container keeps running with the old file, and later commands work."""
    program = scratch / "replaced/pyrunc"
    program.parent.mkdir()
    real = os.path.realpath(pyrunc.path)
    if not real.endswith("pyrunc-static"):
        pytest.skip("the compiled launcher is not built here (make launcher)")
    shutil.copy(real, program)
    one = harness.Runtime(program, pyrunc.root, pyrunc.token + "r", pyrunc.cgroup)
    id = one.create(make_bundle(args=harness.WAIT_FOR_TERM))
    shutil.copy(real, str(program) + ".new")
    os.rename(str(program) + ".new", program)
    one.ok("start", id)
    one.ok("exec", id, "/bin/true")
    one.stopped(id, "TERM")
    one.ok("delete", id)
