"""Each command that prints something has --format json, and the output matches its schema in docs/schemas."""

import json
import os

import jsonschema
import pytest

import harness
from pyrunc import commands as command_table

SCHEMAS = harness.ROOT / "docs/schemas"
# Commands that print nothing, or the output of a program in the container.
SILENT = set("create run start kill delete exec checkpoint restore pause resume update".split())
# A shell script, which is not data.
SCRIPTS = {"completion"}
HOOKS = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo hook"]}]}


def schema(name):
    found = json.loads((SCHEMAS / (name + ".json")).read_text())
    jsonschema.Draft202012Validator.check_schema(found)
    return found


def check(name, document):
    jsonschema.validate(document, schema(name), cls=jsonschema.Draft202012Validator)
    return document


@pytest.mark.parametrize("command", sorted(set(command_table.COMMANDS) - SILENT - SCRIPTS))
def test_every_command_accepts_the_option(pyrunc, command):
    assert "format" in command_table.COMMANDS[command].options
    words = {"mounts": ["list", "x"], "seccomp": [], "help": [], "version": []}.get(command, ["x"] * command_table.COMMANDS[command].fewest)
    result = pyrunc.call(command, "--format", "nonsense", *words)
    assert result.code in (1, 2) and "invalid format option: nonsense" in result.err, result


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda p: p.stem)
def test_schemas_are_schemas_and_named_in_the_docs(path):
    assert schema(path.stem)["title"]
    assert "(schemas/%s)" % path.name in (SCHEMAS.parent / "json.md").read_text()


def test_each_object_is_closed_and_each_field_described():
    """A field that is missing in a schema fails the tests, which keeps the schemas up to date."""

    def objects(node):
        if isinstance(node, dict):
            if "properties" in node and node.get("type") == "object":
                yield node
            for value in node.values():
                yield from objects(value)
        elif isinstance(node, list):
            for value in node:
                yield from objects(value)

    for path in SCHEMAS.glob("*.json"):
        for one in objects(schema(path.stem)):
            assert one["additionalProperties"] is False and set(one["required"]) <= set(one["properties"]), path.name


def out(pyrunc, *words, codes=(0,), env=None):
    result = pyrunc.call(*words, env=env)
    assert result.code in codes, result
    return json.loads(result.out)


@pytest.mark.kernel
def test_without_a_container(pyrunc, make_bundle):
    bundle = make_bundle({"/hostname": "h", "/linux/resources/pids/limit": 3, "/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}})
    bad = make_bundle({"/process/cwd": "relative", "/mounts/0/options": ["ro", "nonsense"]})
    check("version", out(pyrunc, "version", "--format", "json"))
    check("help", out(pyrunc, "help", "--format", "json"))
    assert [c["name"] for c in check("help", out(pyrunc, "help", "--format", "json", "run"))["commands"]] == ["run"]
    check("errors", out(pyrunc, "errors", "--format", "json"))
    check("deviations", out(pyrunc, "features", "--deviations", "--format", "json"))
    check("explain-code", out(pyrunc, "explain", "--format", "json", "PYR-2131"))
    for words in (["hostname"], ["pids.limit", bundle], ["/process/cwd", bad], ["/annotations/x"], ["windows"]):
        check("explain", out(pyrunc, "explain", "--format", "json", *words, codes=(0, 1)))
    check("plan", out(pyrunc, "plan", "--format", "json", "--bundle", bundle))
    assert check("plan", out(pyrunc, "plan", "--format", "json", "--bundle", bad, codes=(1,)))["problems"]
    check("plan-diff", out(pyrunc, "plan", "--format", "json", "--bundle", bundle, "--diff", make_bundle(), codes=(1,)))
    for one, more in ((bundle, []), (bad, ["--strict"]), (bad, ["--as", "runc"]), (bundle, ["--as", "crun"]), (bundle, ["--schema-only"])):
        check("validate", out(pyrunc, "validate", "--format", "json", *more, one, codes=(0, 1)))
    config = bundle.path / "daemon.json"
    assert "pyrunc" in check("install", out(pyrunc, "install", "--docker", "--config", config, "--dry-run", "--format", "json"))["text"]
    assert not config.exists()
    assert check("doctor", out(pyrunc, "doctor", "--format", "json", bad, codes=(1,)))["bundle"]
    check("seccomp", out(pyrunc, "seccomp", "--format", "json", "--bundle", bundle))
    check("seccomp", out(pyrunc, "seccomp", "--format", "json", "--bundle", bundle, "read", "1"))
    check("spec-explain", out(pyrunc, "spec", "--explain", "--format", "json"))
    check("spec-explain", out(pyrunc, "spec", "--profile", "k8s", "--explain", "--format", "json"))
    assert check("list", out(pyrunc, "list", "--format", "json")) is None


def test_features_and_spec_match_the_specification(pyrunc):
    from pyrunc.oci import explain

    assert explain.problems(out(pyrunc, "features", "--format", "json"), "features") == []
    assert explain.problems(out(pyrunc, "spec", "--file", "-")) == []


@pytest.mark.parametrize("words", [["state", "nobody"], ["create", "--bundle", "/nonexistent", "x"], ["bogus"]])
def test_errors_in_the_log(pyrunc, tmp_path, words):
    log = tmp_path / "log"
    pyrunc.call(*words, globals=["--log", log, "--log-format", "json"])
    assert check("error", json.loads(log.read_text()))["level"] == "error"


@pytest.mark.kernel
def test_with_a_container(pyrunc, make_bundle, no_leaks):
    bundle = make_bundle({"/annotations": {"a": "b"}, "/hooks": HOOKS}, args=harness.WAIT_FOR_TERM)
    id = pyrunc.started(bundle)
    check("state", out(pyrunc, "state", "--format", "json", id))
    assert len(check("list", out(pyrunc, "list", "--format", "json"))) == 1
    assert check("ps", out(pyrunc, "ps", "--format", "json", id))
    check("events", out(pyrunc, "events", "--stats", "--format", "json", id))
    assert list(check("stats", out(pyrunc, "stats", "--format", "json"))) == [id]
    lines = pyrunc.ok("top", "--format", "json", "--count", "2", "--interval", "10ms").out.splitlines()
    assert len(lines) == 2 and all(check("top", json.loads(line))["containers"][0]["id"] == id for line in lines)
    check("mounts", out(pyrunc, "mounts", "list", "--format", "json", id))
    check("hooks", out(pyrunc, "hooks", "--format", "json", id))
    check("trace", out(pyrunc, "trace", "--format", "json", id))
    check("diff", out(pyrunc, "diff", "--format", "json", id))
    bundle.patch({"/hostname": "other"})
    assert not check("diff", out(pyrunc, "diff", "--format", "json", id, codes=(1,)))["same"]
    pyrunc.stopped(id)
    check("state", out(pyrunc, "state", id))
    check("wait", out(pyrunc, "wait", "--format", "json", id))
    path = pyrunc.root + "/" + id
    for name in os.listdir(path):
        os.utime(os.path.join(path, name), (1, 1), follow_symlinks=False)
    os.utime(path, (1, 1))
    assert check("gc", out(pyrunc, "gc", "--format", "json", "--older", "1ms"))[0]["id"] == id
    pyrunc.delete(id)
