"""`validate`: all problems at once, with pointer and location; nothing is changed; exit status 0 or 1."""

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


of_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="an ordinary user runs the tests, and other parts of these configs are refused to them"
)


@pytest.fixture
def examine(tmp_path, monkeypatch, capfd):
    """examine(text or document, **options) -> (exit status, output: text, or the document of --format json)"""
    monkeypatch.chdir(tmp_path)  # the command changes to the bundle's directory

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
    return harness.within_limits(document)


@of_root
def test_all_problems_at_once(examine):
    status, report = examine(BAD, format="json")
    assert status == 1 and report["valid"] is False
    found = sorted((p["line"], p["column"], p["pointer"]) for p in report["problems"])
    assert found == [(1, 1, "/root"), (5, 13, "/process/args"), *((line, column, pointer) for pointer, line, column in PLACES)]
    assert [p["kind"] for p in report["problems"]].count("schema") == len(PLACES)
    assert {"/vm", "/unknownKey", "/linux/foo"} <= {w["pointer"] for w in report["warnings"]}


@of_root
def test_text_shows_the_place(examine):
    status, out = examine(BAD)
    assert status == 1
    lines = out.split("\n")
    at = lines.index("5:40: /process/user/uid: uid must be a whole number from 0 to 4294967295, found -1")
    assert lines[at + 1].index("-1") == lines[at + 2].index("^")
    assert lines[-2].startswith("config.json: 6 problems, ")


def test_schema_only_checks_the_unchanged_file(examine):
    status, report = examine(BAD, format="json", schema_only=True)
    assert status == 1
    assert {p["pointer"] for p in report["problems"]} == {p for p, _, _ in PLACES} | {"/vm/kernel"}
    status, report = examine({"ociVersion": "1.0.0", "mounts": None}, format="json", schema_only=True)
    assert [p["pointer"] for p in report["problems"]] == ["/mounts"]  # null is not a list, even though the normalisation removes it


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
    """Not only the first one is reported: each of two independent parts reports its refusal."""
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
def test_files_that_are_not_a_config(examine, text, words, pointer):
    status, report = examine(text, format="json")
    assert status == 1
    assert any(words in problem["words"] and problem["pointer"] == pointer for problem in report["problems"])


def test_missing_file(examine, tmp_path):
    status, out = examine(None)
    assert status == 1
    assert out.startswith("JSON specification file config.json not found\n")


@pytest.mark.parametrize("verdict", ["good", "bad"])
def test_vectors_of_the_specification(examine, verdict):
    """--schema-only accepts all good vectors and refuses all bad ones, each with a pointer."""
    for path in sorted((harness.ROOT / "tests/vectors/config" / verdict).glob("*.json")):
        status, report = examine(path.read_text(), format="json", schema_only=True)
        assert status == (verdict == "bad"), path.name
        assert all(p["pointer"] and p["words"] for p in report["problems"])


@of_root
def test_without_jsonschema(examine, monkeypatch, good):
    """The fast validator is used instead; --schema-only, which requires jsonschema, reports that it is missing."""
    monkeypatch.setattr(helper_process, "paths", lambda: [])
    status, report = examine(BAD, format="json")
    assert {p["pointer"] for p in report["problems"]} == {p for p, _, _ in PLACES} | {"/root", "/process/args"}
    assert not any("jsonschema" in w["words"] for w in report["warnings"])
    with pytest.raises(errors.Unsupported) as caught:
        examine(BAD, schema_only=True)
    assert caught.value.needs == "jsonschema"


def test_hostile_text_stays_on_its_line(examine):
    """Control characters in the config do not reach the terminal."""
    text = '{"ociVersion": "1.0.0", "hostname": 1, "a\\u001b[2Jb": 1, "process": {"cwd": "\\u001b]0;x\\u0007", "args": "\\n\\r\\u009b"}}'
    status, out = examine(text, strict=True)
    assert status == 1
    assert all(c.isprintable() or c == "\n" for c in out)


def test_wrong_usage(tmp_path):
    with pytest.raises(errors.UsageError, match="format"):
        validate.main({"globals": {}, "format": "yaml"}, [])
    with pytest.raises(errors.UsageError, match="twice"):
        validate.main({"globals": {}, "bundle": "."}, ["."])


# A mistake of every kind: in names, syntax and values, refusals of the parts, and things that only this host lacks.
TWENTY = """{
  "ociVersion": "1.0.2",
  "Hostname": "a",
  "hostname": "x",
  "process": {
    "cwd": "relative",
    "user": {"uid": 0, "gid": 0, "umask": 01},
    "args": ["/bin/nope"],
    "env": ["A=1", "NOEQ", 7],
    "noNewPrivilege": true,
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 10}, {"type": "RLIMIT_BOGUS", "soft": 1, "hard": 1}],
    "oomScoreAdj": 5000
  },
  "root": {"path": "rootfs"},
  "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/data", "type": "bind", "source": "/no/such", "options": ["bind"]},
    {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=lots"]},
    {"destination": "/u", "type": "nofs", "source": "x"},
    {"destination": "/v", "type": "bind", "source": "/etc", "options": ["bind", "size=3"]}
  ],
  "linux": {
    "resources": {"memry": {"limit": 5}, "memory": {"limit": 1.5}, "pids": {"limit": "ten"}},
    "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "bogus"}, {"type": "pid"}],
    "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["nosuchcall"], "action": "SCMP_ACT_ALLOW"}]},
    "sysctl": {"kernel.foo": "1"}, // a comment
    "maskedPaths": ["rel"],
    "maskedPaths": ["/x"],
  },
}
"""
PROBLEMS = {
    "/Hostname": 3, "/hostname": 4, "/process/cwd": 6, "/process/env/1": 9, "/process/env/2": 9,
    "/process/rlimits/0/soft": 11, "/process/rlimits/1/type": 11, "/process/oomScoreAdj": 12, "/mounts/2/options/0": 18,
    "/mounts/4/options/1": 20, "/linux/resources/pids/limit": 23, "/linux/namespaces/2/type": 24, "/linux/namespaces/3/type": 24,
    "/linux/seccomp/syscalls/0/names": 25, "/linux/sysctl/kernel.foo": 26, "/linux/maskedPaths/0": 27,
}  # fmt: skip
WARNINGS = {"/process/args/0": 8, "/process/noNewPrivilege": 10, "/mounts/1/source": 17, "/linux/resources/memry": 23}


@of_root
def test_twenty_mistakes_in_one_run(examine, tmp_path):
    (tmp_path / "rootfs").mkdir()
    status, report = examine(TWENTY, format="json")
    found = {p["pointer"]: p["line"] for p in report["problems"] if p["kind"] != "json"}
    assert found == PROBLEMS
    syntax = [(p["line"], p["words"]) for p in report["problems"] if p["kind"] == "json"]
    assert [line for line, _words in syntax] == [7, 23, 26, 28, 29, 30] and "comments are not allowed" in dict(syntax)[26]
    warned = {p["pointer"]: p["line"] for p in report["warnings"]}
    assert {k: warned.get(k) for k in WARNINGS} == WARNINGS
    hints = {p["pointer"]: p["hint"] for p in report["warnings"]}
    assert hints["/linux/resources/memry"] == "did you mean memory?" and hints["/process/noNewPrivilege"] == "did you mean noNewPrivileges?"
    assert status == 1
    _status, strict = examine(TWENTY, format="json", strict=True)
    assert not strict["warnings"] and set(WARNINGS) <= {p["pointer"] for p in strict["problems"]}


def test_a_mistake_does_not_cause_others(examine, good):
    """A value that was removed because it is wrong is not reported as missing: only the mistake itself is."""
    good["process"]["cwd"] = "relative"
    good["linux"]["namespaces"].append({"type": "bogus"})
    _status, report = examine(good, format="json")
    last = len(good["linux"]["namespaces"]) - 1
    assert {p["pointer"] for p in report["problems"]} == {"/process/cwd", "/linux/namespaces/%d/type" % last}


def test_what_cannot_be_corrected_ends_the_check(examine):
    _status, report = examine('{"ociVersion": "1.0.0", "process" {}}', format="json")
    assert [(p["line"], p["column"], p["kind"]) for p in report["problems"]] == [(1, 35, "json")]
    assert "nothing else was checked" in report["warnings"][0]["words"]
    _status, out = examine('{"ociVersion": "1.0.0", "process" {}}')
    assert "^" in out  # the position, as a failing run shows it


def test_a_file_in_place_of_the_bundle(examine, tmp_path, capfd):
    examine(BAD)
    (tmp_path / "other.json").write_text(BAD)
    for name in ("config.json", "other.json"):
        assert validate.main({"globals": {"root": str(tmp_path / "state")}}, [str(tmp_path / name)]) == 1
        assert "/process/cwd" in capfd.readouterr().out
