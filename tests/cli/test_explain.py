"""explain: codes, pointers and names; support on this host; the planned value for a bundle; suggestions for misspelled names."""

import json

import pytest

from pyrunc import codes
from pyrunc.oci import glossary


def explained(pyrunc, *words, code=0):
    result = pyrunc.call("explain", "--format", "json", *words)
    assert result.code == code, result
    return json.loads(result.out)


@pytest.mark.parametrize("word", ["PYR-4001", "pyr-4001", "4001", "unknown-container"])
def test_a_code(pyrunc, word):
    found = explained(pyrunc, word)
    assert (found["code"], found["name"], found["kind"]) == ("PYR-4001", "unknown-container", "state")
    assert found["meaning"] in pyrunc.ok("explain", word).out


def test_a_code_of_a_part_names_its_properties(pyrunc):
    found = explained(pyrunc, "PYR-2131")
    assert found["area"] == "mounts" and found["properties"] == ["/mounts"] and "PYR-2130" in found["others"]


@pytest.mark.parametrize("word", ["memory.limit", "/linux/resources/memory/limit", "resources.memory.limit", "memory/limit"])
def test_a_limit(pyrunc, word):
    found = explained(pyrunc, word)
    assert found["pointer"] == "/linux/resources/memory/limit" and found["section"] == "config-linux.md#memory"
    assert found["files"] == {"v1": "memory.limit_in_bytes", "v2": "memory.max"} and found["owner"] == "resources"
    assert any(step["step"] == "resources.host_apply" and step["command"] == "create" for step in found["steps"])
    assert any(row["what"] == "controllers" for row in found["here"])


def test_every_property_can_be_explained(pyrunc):
    """Called as a function: starting the command two hundred times would not test more."""
    from pyrunc.commands import explain

    for place in glossary.all_pointers():
        pointer = place.replace("*", "0")
        found = explain.about_property(explain.pointer_of(pointer), None, {"globals": {}})
        assert (
            found["what"] and found["section"].startswith("config") and (found["owner"] or place in ("/linux", "/process/user/username"))
        ), place
    for row in codes.rows():
        assert explain.about_code(explain.code_of(row["code"]))["code"] == row["code"]


@pytest.mark.kernel
def test_the_planned_value_of_a_bundle(pyrunc, make_bundle):
    bundle = make_bundle({"/linux/resources/pids/limit": 77, "/process/env": ["SECRET=hush", "PATH=/bin"]})
    found = explained(pyrunc, "pids.limit", bundle)
    assert found["value"] == 77 and found["planned"] == {"limit": 77} and found["problems"] == []
    assert [(row["value"], row["file"].rpartition("/")[2]) for row in found["written"]] == [("77", "pids.max")]
    assert "writes    77 to " in pyrunc.ok("explain", "pids.limit", bundle).out
    text = pyrunc.ok("explain", "/process/env", bundle).out
    assert "SECRET=…" in text.partition("planned")[2]


@pytest.mark.kernel
def test_a_refused_property_ends_with_1(pyrunc, make_bundle):
    bundle = make_bundle({"/mounts/1/options": ["idmap"]})
    found = explained(pyrunc, "/mounts/1/options", bundle, code=1)
    assert [p["code"] for p in found["problems"]] == ["refused"] and found["problems"][0]["pointer"].startswith("/mounts/1")
    assert explained(pyrunc, "hostname", bundle)["problems"] == []


@pytest.mark.parametrize(
    "word, near",
    [
        ("/linux/nmespaces", "/linux/namespaces"),
        ("memroy.limit", "/linux/resources/memory/limit"),
        ("capabilitis", "/process/capabilities"),
        ("PYR-4099", "PYR-4"),
        ("limit", "give one of: /linux/resources/pids/limit"),
        ("", "give a code"),
        ("/", "give a code"),
        ("zzzzzzzzzz", "give a code"),
        ("\x1b[31m" + "x" * 3000, "give a code"),
    ],
)
def test_unknown_names_suggest_the_nearest(pyrunc, word, near):
    result = pyrunc.call("explain", word)
    assert result.code == 1 and result.err.count("\n") == 1 and near in result.err and len(result.err) < 800, result
    assert "\x1b" not in result.err


@pytest.mark.parametrize("words", [[], ["a", "b", "c"], ["--format", "yaml", "hostname"], ["hostname", "/nonexistent"]])
def test_wrong_usage(pyrunc, words):
    result = pyrunc.call("explain", *words)
    assert result.code == 1 and (result.err.count("\n") == 1 or result.out), result


def test_no_colours_without_a_terminal(pyrunc):
    assert "\x1b" not in pyrunc.ok("explain", "hostname", env={**pyrunc.env, "TERM": "xterm"}).out
