"""list and ps: output formats, and containers whose state is damaged or that have stopped."""

import json
import os
import shutil

import pytest

import harness

pytestmark = pytest.mark.kernel


def test_list_table(runtime, waiting):
    id = runtime.create(waiting)
    head, row = runtime.ok("list").out.splitlines()
    assert head.split()[:5] == ["ID", "PID", "STATUS", "BUNDLE", "CREATED"]
    assert row.split()[:4] == [id, str(runtime.state(id)["pid"]), "created", str(waiting.path)]


def test_list_quiet(runtime, waiting):
    ids = sorted(runtime.create(waiting.patch({"/linux/cgroupsPath": "/%s-l%d" % (runtime.token, n)})) for n in range(2))
    assert sorted(runtime.ok("list", "-q").out.split()) == ids
    assert sorted(runtime.ok("list", "--quiet").out.split()) == ids


def test_list_quiet_with_broken_states(pyrunc, waiting):
    """A truncated state, one with another id and one of another runtime are reported but not listed; the others are listed."""
    good, cut, other = (pyrunc.create(waiting.patch({"/linux/cgroupsPath": "/%s-q%d" % (pyrunc.token, n)})) for n in range(3))
    with open(os.path.join(pyrunc.root, cut, "state.json"), "r+") as file:
        file.truncate(20)
    state = harness.saved_state(pyrunc, other)
    with open(os.path.join(pyrunc.root, other, "state.json"), "w") as file:
        json.dump({**state, "id": good}, file)
    foreign = pyrunc.new_id()
    os.mkdir(os.path.join(pyrunc.root, foreign), 0o700)
    with open(os.path.join(pyrunc.root, foreign, "state.json"), "w") as file:
        json.dump({"id": foreign, "init_process_pid": 1}, file)
    quiet, table = pyrunc.ok("list", "-q"), pyrunc.ok("list")
    assert quiet.out.split() == [good] == [row.split()[0] for row in table.out.splitlines()[1:]]
    assert quiet.err == table.err and all(id in quiet.err for id in (cut, other, foreign)), quiet.err
    shutil.rmtree(os.path.join(pyrunc.root, foreign))


def test_list_json(runtime, waiting):
    id = runtime.create(waiting)
    result = runtime.ok("list", "--format", "json")
    (row,) = json.loads(result.out)
    assert (row["id"], row["status"], row["owner"]) == (id, "created", "root")
    assert result.err == ""


def test_list_json_without_containers(runtime):
    text = runtime.ok("list", "--format=json").out
    assert json.loads(text) in (None, [])


def test_list_json_of_none_is_null(pyrunc):
    assert pyrunc.ok("list", "-f", "json").out.strip() == "null"


def test_list_bad_format(runtime):
    assert runtime.call("list", "--format", "xml").code != 0


def test_list_shows_stopped(runtime, waiting):
    id = runtime.started(waiting)
    runtime.stopped(id)
    row = runtime.ok("list").out.splitlines()[1].split()
    assert row[:3] == [id, "0", "stopped"]


def test_ps_json(runtime, waiting):
    id = runtime.started(waiting)
    init = runtime.state(id)["pid"]
    assert init in harness.until_processes(runtime, id)  # the shell and its child
    result = runtime.ok("ps", "--format", "json", id)
    assert result.err == ""


def test_ps_table(runtime, waiting):
    id = runtime.started(waiting)
    harness.until_processes(runtime, id)
    head, *rows = runtime.ok("ps", id).out.splitlines()
    assert "PID" in head.split()
    assert len(rows) == 2


def test_ps_arguments(runtime, waiting):
    if runtime.name == "crun":
        pytest.skip("crun's ps takes no arguments")
    id = runtime.started(waiting)
    harness.until_processes(runtime, id)
    head, *rows = runtime.ok("ps", id, "-o", "pid,args").out.splitlines()
    assert head.split()[0] == "PID" and len(rows) == 2
    assert any("sleep 1000" in row for row in rows)


def test_ps_of_the_unknown(runtime):
    assert runtime.call("ps", "no-such-id").code != 0


def test_ps_of_the_stopped(runtime, waiting):
    id = runtime.started(waiting)
    runtime.stopped(id)
    assert json.loads(runtime.ok("ps", "--format", "json", id).out) in (None, [])
