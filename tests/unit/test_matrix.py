"""tools/anywhere/matrix.py: what it makes of the output of pytest and of the scripts."""

import sys

import pytest

import harness

sys.path.insert(0, str(harness.ROOT / "tools/anywhere"))
import matrix  # noqa: E402


@pytest.mark.parametrize(
    ("output", "code", "verdict"),
    [
        ("..\n2 passed in 0.31s\n", 0, "2 passed in 0.31s"),
        ("x\n1 failed, 2495 passed, 19 skipped, 1 error in 317.07s (0:05:17)\n", 1, "FAILED: 1 failed, 2495 passed, 19 skipped, 1 error in 317.07s (0:05:17)"),
        ("====== 8 failed, 865 passed in 623.58s (0:10:23) ======\n", 1, "FAILED: 8 failed, 865 passed in 623.58s (0:10:23)"),
        ("4 skipped in 1.00s\n", 0, "4 skipped in 1.00s"),
        ("2 passed in 0.31s\nLEFT BEHIND process 7: sleep\nmake: *** [Makefile:1: test] Error 1\n", 2, "FAILED: 2 passed in 0.31s; LEFT BEHIND process 7: sleep"),
        ("the demo\nends\n", 0, "ok"),
        ("make: *** [demo] Error 1\n", 2, "FAILED: make: *** [demo] Error 1"),
        ("", 1, "FAILED: ?"),
    ],
)  # fmt: skip
def test_the_verdict_about_a_step(output, code, verdict):
    assert matrix.passed(output, code) == verdict


def test_checks():
    assert matrix.checked("hello\n1 passed in 1s\n") == ""
    assert matrix.checked("CHECK one ok\nCHECK the other ok\n") == "2 checks ok"
    assert matrix.checked("CHECK gcc-13 ok: static\nCHECK clang ok: shared\n") == "gcc-13: static, clang: shared"
    assert matrix.checked("CHECK gcc-13 ok: static\nCHECK clang FAILED: make build\n") == "FAILED: clang: make build"


def test_results_of_each_file():
    output = (
        "tests/cli/test_a.py::test_x[1] \n"
        "[gw1] [  3%] PASSED tests/cli/test_a.py::test_x[1] \n"
        "[gw0] [ 66%] SKIPPED tests/cli/test_a.py::test_y (why) \n"
        "[gw0] [100%] FAILED tests/cli/test_b.py::test_z \n"
    )
    names = ["tests/cli/test_a.py", "tests/cli/test_b.py", "tests/cli/test_c.py"]
    assert matrix.of_files(output, names) == {
        "tests/cli/test_a.py": "1 passed, 1 skipped",
        "tests/cli/test_b.py": "FAILED: 1 failed",
        "tests/cli/test_c.py": "not run: no time was left",
    }


def test_rows_stay_until_they_are_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix, "LOGS", tmp_path)
    monkeypatch.setattr(matrix, "ROWS", tmp_path / "rows.json")
    rows = matrix.Rows(["monday", "1"], earlier=True)
    rows.add("here", "demo", "ok")
    rows.add("here", "test", "FAILED: 1 failed")
    assert rows.has_failed
    rows = matrix.Rows(["tuesday", "2"], earlier=True)
    rows.add("here", "test", "ok")
    rows.add("there", "test", "ok")
    assert not rows.has_failed
    assert rows.table().splitlines()[2:] == [
        "| here | demo | ok | monday | 1 |",
        "| here | test | ok | tuesday | 2 |",
        "| there | test | ok | tuesday | 2 |",
    ]


def test_a_run_of_everything_has_only_its_own_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix, "LOGS", tmp_path)
    monkeypatch.setattr(matrix, "ROWS", tmp_path / "rows.json")
    matrix.Rows(["monday", "1"], earlier=True).add("here", "demo", "ok")
    rows = matrix.Rows(["tuesday", "2"], earlier=False)
    rows.add("there", "demo", "ok")
    assert rows.table().splitlines()[2:] == ["| there | demo | ok | tuesday | 2 |"]
    assert matrix.Rows(["tuesday", "2"], earlier=True).rows == rows.rows
