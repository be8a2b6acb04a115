"""The tests of the conformance suite: its tables and reports without root, and the suite itself with real runtimes.

`make test` covers tables, results, reports, and a short run with each runtime; whole runs, mutants, broken runtimes and the browser take
minutes and are marked long.
"""

from __future__ import annotations

import pathlib
import shutil
import sys
import types
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness import Json


HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

from suite_tools import NASTY, PYRUNC, TABLE, case, check, known, report_of, result, runtime  # noqa: E402

from oci_conformance import report  # noqa: E402


@pytest.fixture
def made() -> Json:
    """A report with every verdict, for two runtimes and one that could not be tested."""
    cases = [
        case("state.good", "state.id"),
        case("state.bad", "state.pid", "state.bundle"),
        case("deletion.known", "op.delete.created"),
        case("rdt.skipped", "rdt.root"),
        case("hooks.broken", "hooks.order"),
        case("user.should", "user.umask.unset"),
    ]
    host: Json = types.SimpleNamespace(pure_v2=True, unified="/sys/fs/cgroup", lacks=lambda need: None)
    found = report.Report(TABLE, cases, host, "core", "")
    first, second = runtime(), runtime("crun", "1.21", (1, 1, 0))
    found.runtimes = [first, second]
    found.unusable = [(runtime("nope"), "/usr/bin/nope: there is no such file")]
    bad = result(first, cases[1], "fail", check(False, "pid " + NASTY, ["state.pid"], {"a": 1}, NASTY), config={"hostname": NASTY})
    bad.calls = [{"argv": ["runc", "create"], "how": "exit 1", "out": "", "err": NASTY}]
    excused = result(first, cases[2], "fail", check(False))
    excused.judge({"op.delete.created": known("op.delete.created", "for # callers")}, [])
    found.results = [
        result(first, cases[0], "pass", check(True), seconds=0.25),
        bad,
        excused,
        result(first, cases[3], "skip", reason="no resctrl # mounted"),
        result(first, cases[4], "broken", reason="Traceback\n  ZeroDivisionError: " + NASTY),
        result(first, cases[5], "fail", check(False)),
        *(result(second, of, "pass", check(True)) for of in cases),
    ]
    return found


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """(result of the run, JSON report, path of the HTML report) of all cases with pyrunc, and with runc and crun if they are installed."""
    directory = tmp_path_factory.mktemp("whole")
    found = ["--runtime", PYRUNC]
    for name in ("runc", "crun"):
        path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        found += ["--runtime", path] if path else []
    options = ("--level", "full", "--html", directory / "report.html")
    return *report_of(*found, *options, path=directory / "report.json", timeout=900), directory / "report.html"
