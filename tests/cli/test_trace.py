"""--trace, PYRUNC_TRACE and `trace ID`: the steps of a command, on both sides, as Chrome trace events; no trace unless requested."""

import json
import os

import pytest

pytestmark = pytest.mark.kernel


@pytest.fixture
def file(tmp_path):
    return tmp_path / "trace.json"


def spans(file, command=None):
    """The complete events in the file, or those of the process that ran the command."""
    events = json.loads(file.read_text())
    found = [e for e in events if e["ph"] == "X"]
    if command:
        pid = next(e["pid"] for e in found if e["name"] == command and "args" in e)
        found = [e for e in found if e["pid"] == pid]
    return found


def names(events, side=None):
    return [e["name"] for e in events if side in (None, e["cat"])]


def test_create_has_both_sides(pyrunc, waiting, file):
    pyrunc.create(waiting, None, globals=("--trace", file))
    events = spans(file)
    host, init = names(events, "host"), names(events, "init")
    assert {"create", "oci.load", "cgroups.plan", "store.reserve", "cgroups.host_make", "engine.clone", "resources.host_apply"} <= set(host)
    assert {"mounts.init_mount", "root.init_pivot", "program.op_exec"} <= set(init)
    assert init.index("mounts.init_mount") < init.index("root.init_pivot")
    whole = next(e for e in events if e["name"] == "create")
    for event in events:
        assert whole["ts"] <= event["ts"] and event["ts"] + event["dur"] <= whole["ts"] + whole["dur"], event
    assert whole["args"]["status"] == 0
    threads = {e["tid"]: e["args"]["name"] for e in json.loads(file.read_text()) if e["name"] == "thread_name"}
    assert threads == {1: "host", 2: "init"} and {e["tid"] for e in events} == {1, 2}


def test_a_life_in_one_file(pyrunc, waiting, file):
    ask = ("--trace", file)
    id = pyrunc.create(waiting, None, globals=ask)
    pyrunc.ok("start", id, globals=ask)
    pyrunc.ok("exec", id, "/bin/true", globals=ask)
    pyrunc.ok("delete", "--force", id, globals=ask)
    assert "engine.release" in names(spans(file, "start"))
    assert "engine.spawn" in names(spans(file, "exec"))
    assert {"cgroups.host_remove_empty", "engine.wait_gone", "store.forget"} <= set(names(spans(file, "delete")))
    titles = [e["args"]["name"] for e in json.loads(file.read_text()) if e["name"] == "process_name"]
    assert titles == ["pyrunc %s %s" % (command, id) for command in ("create", "start", "exec", "delete")]


def test_the_environment_can_request_it_too(pyrunc, waiting, file, tmp_path):
    env = {**pyrunc.env, "PYRUNC_TRACE": str(file)}
    id = pyrunc.create(waiting, None, env=env)
    assert "engine.clone" in names(spans(file, "create"))
    other = tmp_path / "other.json"
    pyrunc.ok("state", id, env=env, globals=("--trace", other))
    assert names(spans(other)) == ["state"]
    pyrunc.ok("state", id, env={**env, "PYRUNC_TRACE": ""})
    assert len([e for e in spans(file) if "args" in e]) == 1


def test_time_namespace(pyrunc, make_bundle, file):
    """Its clocks are years off, but the time stamps are not."""
    bundle = make_bundle({"/linux/namespaces/-": {"type": "time"}, "/linux/timeOffsets": {"monotonic": {"secs": 100000000, "nanosecs": 0}}})
    result = pyrunc.run(bundle, globals=("--trace", file))
    if result.code and "/linux/timeOffsets" in result.err:
        pytest.skip("the kernel has no time namespaces: %s" % result.err)
    assert result.code == 0, result
    events = spans(file)
    assert max(e["ts"] for e in events) - min(e["ts"] for e in events) < 50_000_000e6  # half the offset
    assert "mounts.init_mount" in names(events, "init")


def test_a_failure_is_traced_too(pyrunc, make_bundle, file):
    bundle = make_bundle({"/mounts/-": {"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["no_such_option=1"]}})
    result = pyrunc.call("create", "--bundle", bundle, pyrunc.new_id(), globals=("--trace", file))
    assert result.code == 1
    events = spans(file)
    assert next(e for e in events if e["name"] == "create")["args"]["status"] == 1
    assert "mounts.init_mount" in names(events, "init") and "cgroups.undo_make" in names(events, "host")


def test_traceparent(pyrunc, make_bundle, file, tmp_path):
    """Recorded unchanged, and present in the environment of hooks without one."""
    seen = tmp_path / "seen"
    hooks = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo $TRACEPARENT > %s" % seen]}]}
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    env = {**pyrunc.env, "TRACEPARENT": parent, "PYRUNC_TRACE": str(file)}
    pyrunc.create(make_bundle({"/hooks": hooks}), None, env=env)
    assert seen.read_text() == parent + "\n"
    assert next(e for e in spans(file) if e["name"] == "create")["args"]["traceparent"] == parent


@pytest.mark.parametrize("kind", ["directory", "missing", "something else", "fifo", "link"])
def test_a_file_that_cannot_be_written_is_reported_first(pyrunc, waiting, tmp_path, kind):
    path = tmp_path / "t"
    if kind == "directory":
        path.mkdir()
    elif kind == "missing":
        path = tmp_path / "no" / "such"
    elif kind == "something else":
        path.write_text("precious\n")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        (tmp_path / "target").write_text("precious\n")
        path.symlink_to("target")
    result = pyrunc.call("create", "--bundle", waiting, pyrunc.new_id(), globals=("--trace", path))
    assert result.code == 1 and len(result.err.splitlines()) == 1
    assert "cannot write the trace to %s" % path in result.err
    assert not os.listdir(pyrunc.root)
    if kind in ("something else", "link"):
        assert path.read_text() == "precious\n"


def test_trace_of_a_container(pyrunc, waiting, file):
    """Steps on the host side are always kept; those inside only if requested."""
    id = pyrunc.create(waiting)
    plain = pyrunc.ok("trace", id).out
    pyrunc.ok("delete", "--force", id)
    lines = plain.splitlines()
    assert lines[0].split()[:2] == ["at", "ms"] and lines[-1].endswith("total")
    assert "engine.clone" in plain and "cgroups.host_make" in plain and "root.init_pivot" not in plain
    starts = [float(line.split()[0]) for line in lines[1:-1]]
    assert starts == sorted(starts) and starts[0] == 0
    both = pyrunc.ok("trace", pyrunc.create(waiting, None, globals=("--trace", file))).out
    assert "root.init_pivot" in both and "▒" in both and "█" in both


def test_trace_of_the_unknown(pyrunc):
    result = pyrunc.call("trace", "nobody")
    assert result.code == 1 and "container does not exist" in result.err


def test_the_log_of_debug_has_each_step(pyrunc, waiting, tmp_path):
    """It shows what was planned and done, with times, on both sides; the error of a failed command comes last."""
    log = tmp_path / "log"
    id = pyrunc.new_id()
    pyrunc.ok("create", "--bundle", waiting, id, globals=("--debug", "--log", log, "--log-format", "json"))
    records = [json.loads(line) for line in log.read_text().splitlines()]
    records = [record for record in records if record["level"] == "debug" and record["msg"].startswith("step ")]
    steps = {record["msg"]: record for record in records}
    assert {"step mounts.plan", "step cgroups.host_make", "step mounts.init_mount"} <= set(steps), sorted(steps)
    assert steps["step mounts.init_mount"]["side"] == "init" and steps["step mounts.init_mount"]["took_us"] >= 0
    times = [record["time"] for record in records]
    assert times == sorted(times) and len(times) > 20
    log.unlink()
    bundle = waiting.patch({"/mounts/-": {"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["no_such_option=1"]}})
    assert pyrunc.call("create", "--bundle", bundle, pyrunc.new_id(), globals=("--debug", "--log", log, "--log-format", "json")).code == 1
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["level"] for record in records].index("error") == len(records) - 1 > 10
    log.unlink()
    pyrunc.ok("state", id, globals=("--log", log))
    assert log.read_text() == ""
