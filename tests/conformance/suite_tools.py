"""Runs the conformance suite as a user does, and provides handmade results for the tests of the reports."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness import Json, Option
    from oci_conformance.runtime import Runtime as SuiteRuntime
    from oci_conformance.shapes import Check, Level, Verdict


ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "conformance" / "oci_conformance"
sys.path.insert(0, str(ROOT / "conformance"))

from oci_conformance import requirements  # noqa: E402
from oci_conformance.case import Case  # noqa: E402
from oci_conformance.known import Known  # noqa: E402
from oci_conformance.result import Result  # noqa: E402
from oci_conformance.runtime import Runtime  # noqa: E402

TABLE = requirements.load()
NASTY = "</pre><script>alert(1)</script> \0 \x1b[31m \udcff # 100% %s \\ ä \n not ok 7"
PYRUNC = str(ROOT / ".venv/bin/pyrunc")


class Ended:
    def __init__(self, process: subprocess.Popen[str], out: str, err: str) -> None:
        self.pid = process.pid
        self.code = process.returncode
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return "exit %s\n%s\n%s" % (self.code, self.out[-3000:], self.err[-3000:])


def suite(*arguments: object, timeout: float = 570) -> Ended:
    """`python3 -m oci_conformance …` from the tree."""
    argv = [sys.executable, "-m", "oci_conformance", *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT / "conformance", text=True, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as process:
        try:
            return Ended(process, *process.communicate(timeout=timeout))
        except BaseException:
            process.terminate()  # it cleans up before it exits
            raise


def report_of(*arguments: object, path: pathlib.Path, timeout: float = 570) -> Json:
    """Runs the suite with a JSON report: (result of the run, the document)."""
    ended = suite(*arguments, "--json", path, timeout=timeout)
    return ended, json.loads(path.read_text())


def runtime(name: str = "runc", version: str = "1.1.15", declares: tuple[int, ...] | None = (1, 2, 0)) -> Runtime:
    made = Runtime("/usr/bin/" + name)
    made.name, made.version, made.declares = name, version, declares
    return made


def case(id: str, *requirements: str, level: Level = "core") -> Case:
    def function(t: object) -> None:
        """The subject of the case."""

    return Case(id, function, requirements, level, (), 60)


def check(ok: bool, what: str = "a look", requirements: Sequence[str] = (), expected: object = 1, seen: object = 2) -> Check:
    return {"ok": ok, "what": what, "requirements": tuple(requirements), "expected": expected, "seen": None if ok else seen}


def result(of: SuiteRuntime, about: Case, verdict: Verdict, *checks: Check, **more: Option) -> Result:
    return Result(of, about, verdict, checks=checks, **more)


def known(requirements: str, why: str = "they said so") -> Known:
    return Known("runc", "*", "*", requirements, "It MUST be so.", why)
