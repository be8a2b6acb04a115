"""`validate`: every problem at once, with pointer and place; nothing is touched; exit status 0 or 1."""

import json
import os

import pytest

import harness
from pyrunc import errors, helper_process
from pyrunc.commands import validate

BAD = """{
	"ociVersion": "1.0",
	"vm": {},
	"unknownKey": 1,
	"process": {"cwd": 5, "user": {"uid": -1}, "env": ["A=1", 7]},
	"linux": {
		"foo": 1,
		"namespaces": [{"type": "pid"}, {"type": "bogus"}]
	}
}
"""
PLACES = [("/process/cwd", 5, 21), ("/process/user/uid", 5, 40), ("/process/env/1", 5, 60), ("/linux/namespaces/1/type", 8, 44)]


@pytest.fixture
def examine(tmp_path, monkeypatch, capfd):
    """examine(text or document, **options) -> (exit status, output: text, or the document of --format json)"""
    monkeypatch.chdir(tmp_path)  # the command moves to the bundle

    def run(config, **options):
        if config is not None:
            (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        before = sorted(os.listdir(tmp_path))
        status = validate.main({"globals": {"root": str(tmp_path / "state")}, **options}, [str(tmp_path)])  # type: ignore[typeddict-item]
        out, err = capfd.readouterr()
        assert err == ""
        assert sorted(os.listdir(tmp_path)) == before
        return status, json.loads(out) if options.get("format") == "json" else out

    return run


@pytest.fixture
def good(tmp_path):
    """A config that this machine could run: the example, with a root."""
    from pyrunc.oci import example

    (tmp_path / "rootfs" / "bin").mkdir(parents=True)
    (tmp_path / "rootfs" / "bin" / "sh").write_text("#!/bin/sh\n")
    (tmp_path / "rootfs" / "bin" / "sh").chmod(0o755)
    document = example.config(os.geteuid() != 0, os.geteuid(), os.getegid())
    document["process"]["terminal"] = False
    return document


def test_all_problems_at_once(examine):
    status, report = examine(BAD, format="json")
    assert status == 1 and report["valid"] is False
    found = sorted((p["line"], p["column"], p["pointer"]) for p in report["problems"])
    assert found == [(line, column, pointer) for pointer, line, column in PLACES]
    assert {p["kind"] for p in report["problems"]} == {"schema"}
    assert [w["pointer"] for w in report["warnings"]] == ["/vm"]


def test_text_shows_the_place(examine):
    status, out = examine(BAD)
    assert status == 1
    lines = out.split("\n")
    at = lines.index("5:40: /process/user/uid: uid must be a whole number from 0 to 4294967295, found -1")
    assert lines[at + 1].index("-1") == lines[at + 2].index("^")
    assert lines[-2] == "config.json: 4 problems, 1 warning"


def test_schema_only_looks_at_the_file_as_it_is(examine):
    status, report = examine(BAD, format="json", schema_only=True)
    assert status == 1
    assert {p["pointer"] for p in report["problems"]} == {p for p, _, _ in PLACES} | {"/vm/kernel"}
    status, report = examine({"ociVersion": "1.0.0", "mounts": None}, format="json", schema_only=True)
    assert [p["pointer"] for p in report["problems"]] == ["/mounts"]  # null is no list, whatever the normalisation makes of it


def test_strict(examine):
    status, report = examine(BAD, format="json", strict=True)
    assert status == 1 and report["warnings"] == []
    strict = {p["pointer"] for p in report["problems"] if p["kind"] == "strict"}
    assert strict == {"/unknownKey", "/linux/foo", "/ociVersion"}
    assert "/vm" in {p["pointer"] for p in report["problems"]}


def test_a_good_bundle(examine, good):
    status, report = examine(good, format="json")
    assert report["problems"] == []
    assert (status, report["valid"]) == (0, True)
    status, out = examine(good)
    assert (status, out) == (0, "config.json: valid\n")


def test_refusals_of_the_parts_come_together(examine, good):
    """Not only the first: two parts that do not need each other each say theirs."""
    good["process"]["oomScoreAdj"] = 5000
    good["process"]["rlimits"].append({"type": "RLIMIT_BOGUS", "soft": 1, "hard": 1})
    good["linux"]["sysctl"] = {"vm.swappiness": "1"}
    status, report = examine(good, format="json")
    assert status == 1
    pointers = {p["pointer"] for p in report["problems"] if p["kind"] == "plan"}
    assert {"/process/oomScoreAdj", "/process/rlimits/1/type"} <= pointers
    assert any(p.startswith("/linux/sysctl") for p in pointers)


@pytest.mark.parametrize(
    ("text", "words", "pointer"),
    [
        ("", "the file is empty", "/"),
        ('{"ociVersion": "1.0.0",}', "trailing comma", "/ociVersion"),
        ('{"a": {"b": 1, "b": 2}}', "duplicate key", "/a/b"),
        ("[]", "must be an object", "/"),
        ('{"ociVersion": "1.0.0", "Process": {}}', "unknown property Process", "/Process"),
    ],
)
def test_files_that_are_no_config(examine, text, words, pointer):
    status, report = examine(text, format="json")
    assert status == 1
    (problem,) = report["problems"]
    assert words in problem["words"] and problem["pointer"] == pointer


def test_missing_file(examine, tmp_path):
    status, out = examine(None)
    assert status == 1
    assert out.startswith("JSON specification file config.json not found\n")


@pytest.mark.parametrize("verdict", ["good", "bad"])
def test_vectors_of_the_specification(examine, verdict):
    """--schema-only accepts all good ones and refuses all bad ones, each with a pointer."""
    for path in sorted((harness.ROOT / "tests/vectors/config" / verdict).glob("*.json")):
        status, report = examine(path.read_text(), format="json", schema_only=True)
        assert status == (verdict == "bad"), path.name
        assert all(p["pointer"] and p["words"] for p in report["problems"])


def test_without_jsonschema(examine, monkeypatch, good):
    """The fast validator stands in; --schema-only, which is about jsonschema, says what is missing."""
    monkeypatch.setattr(helper_process, "paths", lambda: [])
    status, report = examine(BAD, format="json")
    assert {p["pointer"] for p in report["problems"]} == {p for p, _, _ in PLACES}
    assert not any("jsonschema" in w["words"] for w in report["warnings"])
    with pytest.raises(errors.Unsupported) as caught:
        examine(BAD, schema_only=True)
    assert caught.value.needs == "jsonschema"


def test_hostile_text_stays_on_its_line(examine):
    """Control characters of the config do not reach the terminal."""
    text = '{"ociVersion": "1.0.0", "hostname": 1, "a\\u001b[2Jb": 1, "process": {"cwd": "\\u001b]0;x\\u0007", "args": "\\n\\r\\u009b"}}'
    status, out = examine(text, strict=True)
    assert status == 1
    assert all(c.isprintable() or c == "\n" for c in out)


def test_wrong_usage(tmp_path):
    with pytest.raises(errors.UsageError, match="format"):
        validate.main({"globals": {}, "format": "yaml"}, [])
    with pytest.raises(errors.UsageError, match="twice"):
        validate.main({"globals": {}, "bundle": "."}, ["."])
