"""Comparison of control file values, ids as seen from inside, differences between two documents."""

import ast
import pathlib

import pytest

import pyrunc
from pyrunc.engine.diff import documents, groups, settings
from pyrunc.parts.drift import capabilities, user


def test_every_module_of_parts_is_called():
    """By name, from engine/diff."""
    package = pathlib.Path(pyrunc.__file__).parent
    trees = [ast.parse(path.read_text()) for path in (package / "engine/diff").glob("*.py")]
    named = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {path.stem for path in (package / "parts/drift").glob("*.py")} - {"__init__"} - named == set()


@pytest.mark.parametrize(
    "name, wanted, seen",
    [
        ("pids.max", "10", "10"),
        ("pids.max", "max", "max"),
        ("memory.max", "5000", "4096"),
        ("memory.limit_in_bytes", "-1", "9223372036854771712"),
        ("memory.limit_in_bytes", "67108864", "67108864"),
        ("hugetlb.2MB.max", "3000000", "2097152"),
        ("cpuset.cpus", "0,1,2", "0-2"),
        ("cpu.max", "50000 100000", "50000 100000"),
        ("io.max", "8:0 rbps=1024", "8:0 rbps=1024 wbps=max riops=max wiops=max"),
        ("io.max", "8:0 rbps=max", ""),
        ("blkio.throttle.read_bps_device", "8:0 1024", "8:16 1\n8:0 1024"),
        ("rdma.max", "mlx hca_handle=1", "mlx hca_handle=1 hca_object=max"),
        ("memory.oom_control", "1", "oom_kill_disable 1\nunder_oom 0"),
        ("io.weight", "100", "default 100"),
    ],
)
def test_same(name, wanted, seen):
    assert groups.same_value(name, wanted, seen)


@pytest.mark.parametrize(
    "name, wanted, seen",
    [
        ("pids.max", "10", "11"),
        ("pids.max", "10", "max"),
        ("memory.max", "8192", "4096"),
        ("memory.limit_in_bytes", "4096", "9223372036854771712"),
        ("pids.max", "5000", "4096"),
        ("cpuset.cpus", "0-2", "0-3"),
        ("cpu.max", "50000 100000", "max 100000"),
        ("io.max", "8:0 rbps=1024", "8:0 rbps=2048"),
        ("io.max", "8:0 rbps=1024", ""),
        ("memory.oom_control", "1", "oom_kill_disable 0"),
    ],
)
def test_different(name, wanted, seen):
    assert not groups.same_value(name, wanted, seen)


def test_inside():
    assert user.inside(100005, "0 100000 10\n") == 5 and user.inside(3, "0 100000 10") == "?" and user.inside(7, "0 0 4294967295") == 7


def test_changed():
    one, other = {"a": [1, 2], "b": {"c~/": 1}, "d": 1}, {"a": [1], "b": {"c~/": 2}, "e": 1}
    assert list(documents.changed(one, other)) == [("/a/1", 2, None), ("/b/c~0~1", 1, 2), ("/d", 1, None), ("/e", None, 1)]
    assert list(documents.changed(one, one)) == []


@pytest.mark.parametrize("uid, nnp, gained", [(0, False, 0b1111), (0, True, 0b0011), (5, False, 0b0001), (5, True, 0b0001)])
def test_after_exec(uid, nnp, gained):
    entry = {"bounding": 0b0111, "inheritable": 0b1000, "permitted": 0b0011, "effective": 0b0010, "ambient": 0b0001, "nnp": nnp}
    assert capabilities.after_exec(entry, uid) == {**entry, "permitted": gained, "effective": gained}


@pytest.mark.parametrize(
    "planned, seen, same",
    [
        ("1024 65000", "1024\t65000", True), ("0x10", "16", True), ("010", "8", True), ("-1", "-1", True), ("cubic", "cubic", True),
        ("", "", True), ("1,2", "1,2", True), ("1", "2", False), ("09", "9", False), ("1 2", "1", False), ("a", "b", False), ("1,2", "1 2", False),
    ],
)  # fmt: skip
def test_settings(planned, seen, same):
    assert settings.same(planned, seen) is same


def test_values_of_environment_variables_are_hidden():
    rows = documents.rows(
        {"process": {"env": ["A=1"]}}, {"process": {"env": ["A=2", "B=3"]}, "hooks": {"poststop": [{"path": "/h", "env": ["C=4"]}]}}
    )
    assert [(row["pointer"], row["planned"], row["seen"]) for row in rows] == [
        ("/process/env/0", "…", "…"), ("/process/env/1", None, "…"), ("/hooks", None, {"poststop": [{"path": "/h", "env": ["…"]}]}),
    ]  # fmt: skip
    assert documents.rows({}, {"process": {"env": ["A=1"], "cwd": "/"}})[0]["seen"] == {"env": ["…"], "cwd": "/"}
    assert documents.rows({}, {"process": {"user": {"uid": 1}}})[0]["seen"] == {"user": {"uid": 1}}


def test_device_list_of_v1():
    from pyrunc.cgroup import devices_rules

    assert devices_rules.listed("c 1:3 rwm\nc *:* m\nc 1:3 r\n") == (False, {("c", 1, 3): set("rwm"), ("c", -1, -1): {"m"}})
    assert devices_rules.listed("a *:* rwm\n") == (True, {}) and devices_rules.listed("") == (False, {})
