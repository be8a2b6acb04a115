"""plan: the tree, the JSON, and --diff with its exit statuses. Nothing is created, and no value of an environment variable is shown."""

import json

import pytest

import harness

pytestmark = pytest.mark.kernel


def planned(pyrunc, bundle, *words, code=0):
    result = pyrunc.call("plan", "--format", "json", "--bundle", bundle, *words)
    assert result.code == code, result
    return json.loads(result.out)


def test_tree(pyrunc, make_bundle, no_leaks):
    bundle = make_bundle({"/linux/resources/pids/limit": 9, "/process/env": ["TOKEN=hush"]})
    text = pyrunc.ok("plan", "--bundle", bundle, "mine").out
    assert text.startswith("plan of mine from %s\n\nprepare  host  " % bundle), text
    assert "/hostname" in text and "pids.max = 9\n" in text and "hush" not in text and "\x1b" not in text
    assert "uts.init_set" not in text and '"/proc proc from proc (nosuid,' in text
    assert '"allow c 1:3 rwm"' in text and '"/dev/null c 1:3 mode 0666 owner 0:0"' in text, "objects with many members are shortened"
    full = pyrunc.ok("plan", "--full", "--bundle", bundle, "mine").out
    assert "uts.init_set" in full and "prepare (host)\n" in full and "hush" not in full


def test_colours_on_a_terminal_only(pyrunc, bundle):
    def seen(**env):
        code, text = harness.at_a_terminal(pyrunc.argv("plan", "--bundle", bundle), streams=["stdout"], env={**pyrunc.env, **env})
        assert code == 0
        return text

    assert "\x1b[" in seen(TERM="xterm") and "\x1b[" not in seen(TERM="xterm", NO_COLOR="1") and "\x1b[" not in seen(TERM="dumb")


def test_json_old_and_new_spelling(pyrunc, bundle):
    one = planned(pyrunc, bundle)
    assert one == json.loads(pyrunc.ok("plan", "--json", "--bundle", bundle).out)
    assert {"id", "bundle", "steps", "plans", "files", "problems", "warnings"} == set(one) and one["problems"] == []
    assert one["plans"]["capabilities"]["effective"] == []


def test_secrets_of_hooks_are_hidden(pyrunc, make_bundle):
    bundle = make_bundle({"/hooks": {"poststop": [{"path": "/bin/true", "env": ["KEY=hush"]}]}})
    assert "hush" not in pyrunc.ok("plan", "--json", "--bundle", bundle).out


def test_refusal(pyrunc, bundle):
    bundle.patch({"/process/cwd": "relative"})
    assert [p["pointer"] for p in planned(pyrunc, bundle, code=1)["problems"]] == ["/process/cwd"]


def test_diff_with_another_config(pyrunc, bundle, no_leaks):
    other = bundle.path / "other.json"
    other.write_text(
        json.dumps(
            harness.patch(bundle.config, {"/linux/resources/pids/limit": 5, "/hostname": harness.ABSENT, "/process/oomScoreAdj": 500})
        )
    )
    found = planned(pyrunc, bundle, "--diff", other, code=1)
    assert not found["same"]
    assert {"change": "removed", "phase": "enter", "step": "uts.init_set"} in found["steps"]
    assert {"change": "added", "phase": "placed", "step": "oom.host_write"} in found["steps"]
    assert [(row["before"], row["after"]) for row in found["files"] if row["file"].endswith("pids.max")] == [(None, "5")]
    assert any(row["part"] == "oom" and row["before"] is None and row["after"] == 500 for row in found["values"]), found
    text = pyrunc.call("plan", "--bundle", bundle, "--diff", other).out
    assert "steps\n    - enter    uts.init_set\n" in text and "    + placed   oom.host_write\n" in text


def test_diff_with_another_bundle(pyrunc, make_bundle):
    same_place = {"/linux/cgroupsPath": make_bundle().config["linux"]["cgroupsPath"]}
    one, other = make_bundle(same_place), make_bundle(same_place)
    assert pyrunc.ok("plan", "--bundle", one, "--diff", other).out == "", "the path of the bundle is not a difference"
    assert planned(pyrunc, one, "--diff", other)["same"]
    other.patch({"/process/args": ["/bin/false"]})
    found = planned(pyrunc, one, "--diff", other, code=1)
    assert found["values"] == [{"part": "program", "path": "/args/0", "before": "/bin/true", "after": "/bin/false"}]


def test_diff_relative_paths_start_where_the_caller_is(pyrunc, make_bundle):
    one, other = make_bundle(), make_bundle({"/process/cwd": "/tmp"})
    result = pyrunc.call("plan", "--bundle", one.path.name, "--diff", other.path.name, cwd=one.path.parent)
    assert result.code == 1 and "/cwd" in result.out, result


def test_diff_errors_end_with_2(pyrunc, make_bundle, bundle):
    bad = make_bundle({"/process/cwd": "relative"})
    for words in (["--bundle", bundle, "--diff", bad], ["--bundle", bad, "--diff", bundle], ["--bundle", bundle, "--diff", "/nonexistent"]):
        result = pyrunc.call("plan", *words)
        assert result.code == 2 and result.err.count("\n") == 1 and not result.out, result
