"""The table and the tests name the same advisories."""

import ast
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as xml

import pytest

import harness
from advisory_table import ADVISORIES, numbers_in

HERE = pathlib.Path(__file__).parent


def named():
    for path in HERE.glob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and path.name != "test_advisory_table.py":
                yield node.name


def test_each_advisory_has_a_test_and_each_test_an_advisory():
    covered = {number for name in named() for number in numbers_in(name)}
    assert all(numbers_in(name) for name in named())
    assert [row[0] for row in ADVISORIES if not covered & set(row[0])] == []
    known = [number for row in ADVISORIES for number in row[0]]
    assert covered <= set(known) and len(known) == len(set(known))


def test_only_the_command_line_is_used():
    for path in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not [name for name in names if name.split(".")[0] == "pyrunc"], path


REFUSES = "#!/bin/sh\n[ $# = 1 ] && exit 0\necho 'level=error msg=\"not here\"' >&2\nexit 1\n"  # --version alone works
ACCEPTS = "#!/bin/sh\nexit 0\n"


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("name, text", [("refuses", REFUSES), ("accepts", ACCEPTS)], ids=["refuses", "accepts"])
def test_each_test_has_a_control(scratch, tmp_path, name, text):
    """A runtime that refuses everything is safe but useless, and so is one that only pretends to do everything: no test may pass with either."""
    runtime = scratch / name
    runtime.write_text(text)
    runtime.chmod(0o755)
    report = tmp_path / "report.xml"
    ours = [str(path) for path in sorted(HERE.glob("test_*.py")) if path != pathlib.Path(__file__)]
    options = ["--runtime", runtime, "--first-variants", "--unsupervised", "-p", "no:cacheprovider", "--junit-xml", report, "-q", "--tb=no"]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, *ours], capture_output=True, text=True, cwd=harness.ROOT)
    cases = list(xml.parse(report).getroot().iter("testcase"))
    assert done.returncode == 1 and {case.get("name").partition("[")[0] for case in cases} == set(named()), done.stdout
    passed = [case.get("name") for case in cases if case.find("failure") is None and case.find("error") is None]
    assert passed == [], "no positive control: they pass, or are skipped, although nothing works"
