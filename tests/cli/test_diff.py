"""diff ID: a fresh container differs in nothing; what is changed behind its back is found, area by area; 0, 1 and 2."""

import json
import os
import resource
import subprocess

import pytest

import harness
from pyrunc.engine import drift, written

pytestmark = pytest.mark.kernel

RICH = {
    "/linux/resources": {"pids": {"limit": 50}, "memory": {"limit": 64 << 20}, "cpu": {"shares": 512}},
    "/linux/maskedPaths": ["/proc/kcore", "/proc/keys", "/nothing"],
    "/linux/readonlyPaths": ["/proc/sys", "/proc/bus"],
    "/root/readonly": True,
    "/process/capabilities": {kind: ["CAP_KILL", "CAP_CHOWN"] for kind in ("bounding", "effective", "permitted")},
    "/process/noNewPrivileges": True,
    "/process/rlimits": [{"type": "RLIMIT_NOFILE", "soft": 500, "hard": 600}],
    "/process/oomScoreAdj": 700,
    "/process/user": {"uid": 5, "gid": 6, "additionalGids": [7, 8]},
}


ROOT = {key: value for key, value in RICH.items() if key != "/process/user"}  # limits of others take CAP_SYS_RESOURCE


def differences(pyrunc, id, code):
    result = pyrunc.call("diff", "--format", "json", id)
    assert result.code == code, result
    found = json.loads(result.out)
    assert found["same"] is (code == 0) and found["id"] == id
    return found


def areas(found):
    return {(row["area"], row["what"].rpartition("/")[2]) for row in found["differences"]}


@pytest.mark.parametrize("changes", [{}, RICH], ids=["plain", "rich"])
def test_nothing_differs_at_first(pyrunc, make_bundle, changes, no_leaks):
    id = pyrunc.create(make_bundle(changes, args=harness.WAIT_FOR_TERM))
    assert differences(pyrunc, id, 0)["unread"] == []
    pyrunc.start(id)
    found = differences(pyrunc, id, 0)
    assert (found["differences"], found["unread"], found["status"]) == ([], [], "running")
    assert pyrunc.ok("diff", id).out == ""
    pyrunc.delete(id, "--force")


@pytest.mark.parametrize("name", ["everything", "userns", "readonly-hardened", "joined-namespaces", "cgroup-limits"])
def test_examples_do_not_differ(pyrunc, make_bundle, name):
    id = pyrunc.new_id()
    pyrunc.ok("create", "--bundle", make_bundle.example(name), id, cwd="/")
    found = json.loads(pyrunc.call("diff", "--format", "json", id).out)
    assert found["differences"] == [] and found["unread"] == [], found


def test_every_area_is_found(pyrunc, make_bundle, no_leaks):
    bundle = make_bundle(ROOT, args=harness.WAIT_FOR_TERM)
    id = pyrunc.started(bundle)
    pid = pyrunc.state(id)["pid"]
    plans = json.loads((pyrunc_dir(pyrunc, id) / "plan.json").read_text())
    row = next(r for r in written.files(plans) if r["file"].endswith("pids.max"))
    with open(row["file"], "w") as file:
        file.write("33")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (400, 600))
    with open("/proc/%d/oom_score_adj" % pid, "w") as file:
        file.write("800")
    enter = ["nsenter", "-t", str(pid), "-m", "--"]
    subprocess.run([*enter, "umount", "/dev/shm"], check=True)
    subprocess.run([*enter, "umount", "/proc/sys"], check=True)
    subprocess.run([*enter, "umount", "/proc/keys"], check=True)
    subprocess.run([*enter, "rm", "/dev/full"], check=True)
    bundle.patch({"/hostname": "other", "/process/env": ["PATH=/bin", "SECRET=hush"]})
    found = differences(pyrunc, id, 1)
    wanted = {
        ("cgroup", "pids.max"), ("limits", "RLIMIT_NOFILE"), ("limits", "oomScoreAdj"), ("mounts", "shm"), ("mounts", "sys"),
        ("mounts", "keys"),
        ("devices", "full"), ("config", "hostname"),
    }  # fmt: skip
    assert wanted <= areas(found), found
    assert not {area for area, _what in areas(found)} & {"namespaces", "capabilities", "user"}
    assert "hush" not in json.dumps(found)
    shown = pyrunc.call("diff", id)
    assert shown.code == 1 and "    - 50\n    + 33\n" in shown.out and "\x1b" not in shown.out, shown
    pyrunc.delete(id, "--force")


def pyrunc_dir(pyrunc, id):
    import pathlib

    return pathlib.Path(pyrunc.root) / id


def test_update_is_no_difference(pyrunc, make_bundle):
    """What pyrunc itself has changed is in the plan."""
    id = pyrunc.started(make_bundle(ROOT, args=harness.WAIT_FOR_TERM))
    pyrunc.ok("update", "--pids-limit", "40", "--memory", "96m", "--rlimit", "NOFILE=300:500", id)
    found = json.loads(pyrunc.call("diff", "--format", "json", id).out)
    assert not [row for row in found["differences"] if row["area"] != "config"], found


def test_a_process_that_has_less(pyrunc, make_bundle):
    """In process: the plan of one container against a process that is another."""
    id = pyrunc.started(make_bundle(RICH, args=harness.WAIT_FOR_TERM))
    plans = json.loads((pyrunc_dir(pyrunc, id) / "plan.json").read_text())
    found = drift.Drift(plans, os.getpid(), True).look()
    assert {"namespaces", "capabilities", "user", "mounts", "limits"} <= {row["area"] for row in found.rows}, found.rows
    assert ("namespaces", "pid") in {(row["area"], row["what"]) for row in found.rows}


def test_bundle_that_is_gone_is_a_note(pyrunc, make_bundle):
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    id = pyrunc.started(bundle)
    (bundle.path / "config.json").unlink()
    found = differences(pyrunc, id, 0)
    assert [row["area"] for row in found["unread"]] == ["config"]


def test_a_plan_that_was_tampered_with(pyrunc, waiting):
    id = pyrunc.started(waiting)
    path = pyrunc_dir(pyrunc, id) / "plan.json"
    plans = json.loads(path.read_text())
    plans.update(namespaces={"new": 5}, mounts={"list": [{}]}, capabilities={"nnp": "yes"}, user="root")
    path.write_text(json.dumps(plans))
    result = pyrunc.call("diff", "--format", "json", id)
    assert result.code in (0, 1) and {"namespaces", "mounts", "capabilities"} <= {
        row["area"] for row in json.loads(result.out)["unread"]
    }, result
    path.write_text(json.dumps(dict(plans, mounts=None)))  # for delete


def test_errors_end_with_2(pyrunc, waiting):
    id = pyrunc.started(waiting)
    pyrunc.stopped(id)
    for words, text in (
        ([id], "not running"),
        (["nobody"], "container does not exist"),
        ([], "requires exactly 1"),
        (["--format", "x", id], "format"),
    ):
        result = pyrunc.call("diff", *words)
        assert result.code == 2 and result.err.count("\n") == 1 and text in result.err, result
