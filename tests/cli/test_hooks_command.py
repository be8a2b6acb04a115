"""hooks ID, the state of a stopped container, and suggestions for misspelled ids."""

import json

import jsonschema
import pytest

import harness
from test_wait_top_gc import begin_wait, end

pytestmark = pytest.mark.kernel


def shell(text, **more):
    return {"path": "/bin/sh", "args": ["sh", "-c", text], **more}


def noted(pyrunc, id):
    return json.loads(pyrunc.ok("hooks", "--format", "json", id).out)


def test_each_kind_is_kept(pyrunc, make_bundle, no_leaks):
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart")
    hooks = {kind: [shell("echo out-%s; echo err-%s >&2" % (kind, kind))] for kind in kinds}
    hooks["startContainer"].append(shell("seq 100000; echo last"))
    id = pyrunc.create(make_bundle({"/hooks": hooks}, args=harness.WAIT_FOR_TERM))
    assert [note["kind"] for note in noted(pyrunc, id)] == ["prestart", "createRuntime", "createContainer"]
    pyrunc.start(id)
    found = noted(pyrunc, id)
    assert [(note["kind"], note["index"]) for note in found] == [
        *((kind, 0) for kind in kinds[:4]),
        ("startContainer", 1),
        ("poststart", 0),
    ]
    for note in found:
        assert (note["ended"], note["status"], note["signal"]) == ("exit", 0, None) and note["ms"] >= 0 and note["path"] == "/bin/sh"
        if note["index"] == 0:
            assert (note["stdout"], note["stderr"]) == ("out-" + note["kind"], "err-" + note["kind"])
    long = next(note for note in found if note["index"] == 1)["stdout"]
    assert long.endswith("100000\\nlast") and len(long) < 4096
    text = pyrunc.ok("hooks", id).out
    assert "createRuntime 0  /bin/sh  exit status 0" in text and "    stdout: out-poststart\n" in text and "\x1b" not in text
    pyrunc.delete(id, "--force")


def test_no_hooks(pyrunc, waiting):
    id = pyrunc.create(waiting)
    assert noted(pyrunc, id) == [] and pyrunc.ok("hooks", id).out == ""


FIRST = {"createRuntime": [shell("echo first; echo odd >&2")], "createContainer": [shell("echo second")]}


@pytest.mark.parametrize(
    ("changes", "kinds", "message"),
    [
        ({"/hooks": {**FIRST, "startContainer": []}, "/process/args": ["/nothing"]}, ["createRuntime", "createContainer"], "/nothing"),
        ({"/hooks": {**FIRST, "prestart": [shell("exit 3")]}}, ["prestart"], "prestart hook #0: exit status 3"),
        ({"/hooks": {**FIRST, "createContainer": [shell("kill -9 $$")], "poststop": [shell("echo end")]}},
         ["createRuntime", "createContainer", "poststop"], "signal: killed"),
        ({"/hooks": {**FIRST, "poststart": [shell("exit 4")]}}, ["createRuntime", "createContainer", "poststart"], "exit status 4"),
    ],
    ids=["no program", "prestart", "killed", "poststart"],
)  # fmt: skip
def test_after_a_failure_they_are_in_the_log(pyrunc, make_bundle, tmp_path, changes, kinds, message, no_leaks):
    """Nothing is left of the container, so the log record of the error has their results, even if none of them caused the failure."""
    log = tmp_path / "log"
    result = pyrunc.run(make_bundle(changes), globals=["--log", log, "--log-format", "json"])
    assert result.code != 0
    record = json.loads(log.read_text())
    assert message in record["msg"] and [note["kind"] for note in record["hooks"]] == kinds, record
    schema = json.loads((harness.ROOT / "docs/schemas/error.json").read_text())
    jsonschema.validate(record, schema)
    for note in record["hooks"]:
        if note["kind"] == "createRuntime":
            assert (note["status"], note["stdout"], note["stderr"], note["path"]) == (0, "first", "odd", "/bin/sh")
    text = tmp_path / "text"
    pyrunc.run(make_bundle(changes), globals=["--log", text])
    assert text.read_text().count("\n") == 1 and "hooks=" not in text.read_text()


def test_a_failure_without_hooks(pyrunc, make_bundle, tmp_path, no_leaks):
    log = tmp_path / "log"
    pyrunc.run(make_bundle(args=["/nothing"]), globals=["--log", log, "--log-format", "json"])
    assert "hooks" not in json.loads(log.read_text())


def test_many_start_hooks_and_a_failing_one(pyrunc, make_bundle, no_leaks):
    """The notes are many times longer than an atomic write to a fifo; the failure after them is still reported in full."""
    hooks = {"startContainer": [*[shell("seq 3000; seq 3000 >&2") for _ in range(20)], shell("echo the reason >&2; exit 7")]}
    id = pyrunc.create(make_bundle({"/hooks": hooks}, args=harness.WAIT_FOR_TERM))
    result = pyrunc.call("start", id)
    assert result.code == 1 and "error running startContainer hook #20: exit status 7" in result.err and "the reason" in result.err, result


def test_many_start_hooks_and_a_missing_program(pyrunc, make_bundle, no_leaks):
    """A report of the C code after the notes is shown as usual."""
    bundle = make_bundle({"/hooks": {"startContainer": [shell("seq 3000")] * 3 + [shell("rm /gone")]}}, args=["/gone"])
    (bundle.rootfs / "gone").write_text("#!/bin/sh\n")
    (bundle.rootfs / "gone").chmod(0o755)
    id = pyrunc.create(bundle)
    result = pyrunc.call("start", id)
    assert result.code == 1 and "no such file or directory" in result.err, result
    pyrunc.call("delete", "--force", id)


@pytest.mark.parametrize("command", ["hooks", "diff", "wait", "trace"])
def test_unknown_ids_suggest_the_nearest(pyrunc, waiting, command):
    id = pyrunc.create(waiting, pyrunc.new_id() + "-web")
    pyrunc.ids.append(id)
    result = pyrunc.call(command, id[:-1])
    assert result.code == (2 if command == "diff" else 1) and result.err.count("\n") == 1, result
    assert "container does not exist (" in result.err and "; did you mean " in result.err and id in result.err
    assert "'pyrunc list' shows the ids" in pyrunc.call(command, "zzz").err


# ---- state of a stopped container


def test_the_status_that_wait_has_seen_is_kept(pyrunc, make_bundle):
    id = pyrunc.started(make_bundle(args=harness.WAIT_FOR_TERM))
    assert "ended" not in pyrunc.state(id)
    waiting = begin_wait(pyrunc, id)
    pyrunc.kill(id, "KILL")
    assert end(waiting)[:2] == (0, "137\n")
    seen = pyrunc.state(id)
    assert (seen["status"], seen["pid"]) == ("stopped", 0) and (seen["ended"]["status"], seen["ended"]["signal"]) == (137, 9), seen


def test_the_status_of_a_foreground_run_is_kept(pyrunc, make_bundle):
    id = pyrunc.new_id()
    assert pyrunc.call("run", "--keep", "--bundle", make_bundle(args=["/bin/sh", "-c", "exit 5"]), id).code == 5
    assert pyrunc.state(id)["ended"]["status"] == 5


def test_memory_ran_out(pyrunc, make_bundle):
    """The count of the kernel, as long as the cgroup exists."""
    eat = "x=$(yes 0123456789abcdef | head -c 60000000); echo ${#x}"
    bundle = make_bundle({"/linux/resources/memory": {"limit": 16 << 20, "swap": 16 << 20}}, args=["/bin/sh", "-c", eat])
    id = pyrunc.create(bundle)
    with harness.Watched(pyrunc.state(id)["pid"]) as watched:
        pyrunc.start(id)
        watched.wait()
    assert pyrunc.state(id)["ended"]["oom_killed"] is True
