"""Runs the conformance suite as a user does, and makes results by hand for the tests of the reports."""

import json
import pathlib
import subprocess
import sys

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
    def __init__(self, process, out, err):
        self.pid = process.pid
        self.code = process.returncode
        self.out = out
        self.err = err

    def __repr__(self):
        return "exit %s\n%s\n%s" % (self.code, self.out[-3000:], self.err[-3000:])


def suite(*arguments, timeout=570):
    """`python3 -m oci_conformance …` from the tree."""
    argv = [sys.executable, "-m", "oci_conformance", *map(str, arguments)]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(argv, cwd=ROOT / "conformance", text=True, **streams) as process:
        try:
            return Ended(process, *process.communicate(timeout=timeout))
        except BaseException:
            process.terminate()  # it cleans up after itself
            raise


def report_of(*arguments, path, timeout=570):
    """The same with a JSON report: (how it ended, the document)."""
    ended = suite(*arguments, "--json", path, timeout=timeout)
    return ended, json.loads(path.read_text())


def runtime(name="runc", version="1.1.15", declares=(1, 2, 0)):
    made = Runtime("/usr/bin/" + name)
    made.name, made.version, made.declares = name, version, declares
    return made


def case(id, *requirements, level="core"):
    def function(t):
        """What the case is about."""

    return Case(id, function, requirements, level, (), 60)


def check(ok, what="a look", requirements=(), expected=1, seen=2):
    return {"ok": ok, "what": what, "requirements": tuple(requirements), "expected": expected, "seen": None if ok else seen}


def result(of, about, verdict, *checks, **more):
    return Result(of, about, verdict, checks=checks, **more)


def known(requirements, why="they said so"):
    return Known("runc", "*", "*", requirements, "It MUST be so.", why)
