"""The table of the contract tests: the engine of each test, and tests that passed only in the run it is compared with."""

import types

import report


def item(arguments=(), marked=None, module="test_podman"):
    marks = [types.SimpleNamespace(args=(marked,) if marked else ())]
    return types.SimpleNamespace(
        iter_markers=lambda name: marks,
        _fixtureinfo=types.SimpleNamespace(argnames=arguments),
        module=types.SimpleNamespace(__name__="tests.contracts." + module),
        name="test_volume_named",
    )


def answer(outcome, when="call", reason=None):
    return types.SimpleNamespace(
        outcome=outcome, when=when, skipped=outcome == "skipped", failed=outcome == "failed", longrepr=("", 0, reason), user_properties=[]
    )


def note(table, item, answer):
    report.Table.mark(item, answer)  # in the process that runs the test
    table.note(answer)  # in the one that writes the table


def test_caller_of_a_test():
    assert report.Table.caller(item(["world", "docker"])) == "docker"
    assert report.Table.caller(item(["cri"], marked="docker swarm")) == "docker swarm"
    assert report.Table.caller(item(["world"], module="test_buildah")) == "buildah"


def filled(*outcomes):
    table = report.Table("pyrunc")
    for caller, outcome in zip(("podman", "docker", "cri"), outcomes, strict=True):
        note(table, item([caller]), answer(outcome, reason="Skipped: no such thing"))
    return table


def test_a_failed_teardown_is_a_failure():
    table = filled("passed", "passed", "skipped")
    note(table, item(["docker"]), answer("failed", "teardown"))
    assert "1 passed, 1 failed, 1 skipped" in table.text() and "skipped 1: no such thing" in table.text()
    assert "| volume named | passed | FAILED | skipped |" in table.markdown()


def test_comparison_with_another_run(tmp_path):
    filled("passed", "failed", "passed").save(tmp_path / "theirs")
    assert filled("passed", "failed", "passed").worse_than(tmp_path / "theirs") == []
    worse = filled("passed", "passed", "failed").worse_than(tmp_path / "theirs")
    assert worse == ["kubernetes: volume named: failed, and passed there"]
