"""Runs one case in a separate process and returns plain data.

Rule: the parent relies only on the file that it reads afterwards; whatever happens to this process decides the case and
does not end the suite.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
from typing import TYPE_CHECKING

from oci_conformance import cleanup, system
from oci_conformance.case import Skip, Stop
from oci_conformance.runtime import Unusable
from oci_conformance.trial import Trial

if TYPE_CHECKING:
    from oci_conformance.case import Case
    from oci_conformance.machine import Machine
    from oci_conformance.probe import Tools
    from oci_conformance.runtime import Runtime
    from oci_conformance.shapes import Found


RESULT = "result.json"


def start(case: Case, runtime: Runtime, machine: Machine, tools: Tools, directory: str, token: str) -> int:
    """Starts a process that runs the case, and returns its pid."""
    os.mkdir(directory, 0o755)
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        quiet(os.path.join(directory, "stray"))
        system.subreaper()
        system.unshare(system.CLONE_NEWNS)
        found = run(case, runtime, machine, tools, directory, token)
        with open(os.path.join(directory, RESULT), "w") as file:
            json.dump(found, file)
        code = 0
    finally:
        os._exit(code)


def quiet(path: str) -> None:
    """Keeps the output of a case away from the terminal."""
    null = os.open("/dev/null", os.O_RDONLY)
    stray = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(stray, 1)
    os.dup2(stray, 2)


def run(case: Case, runtime: Runtime, machine: Machine, tools: Tools, directory: str, token: str) -> Found:
    trial = Trial(case, runtime, machine, tools, directory, token)
    found: Found = {"verdict": None, "reason": "", "extra": None}
    try:
        found["extra"] = case.function(trial)
    except Stop as e:
        trial.check(False, e.what, (), e.expected, e.seen)
    except Skip as e:
        found["verdict"], found["reason"] = "skip", str(e)
    except Unusable as e:
        trial.check(False, str(e))
    except Exception:
        found["verdict"], found["reason"] = "broken", traceback.format_exc(limit=-4)
    try:
        trial.clean()
    except Exception:
        found["reason"] = found["reason"] or traceback.format_exc(limit=-4)
    if found["verdict"] is None:
        found["verdict"] = "pass" if trial.checks and all(check["ok"] for check in trial.checks) else "fail"
        if not trial.checks:
            found["verdict"], found["reason"] = "broken", "the case checked nothing"
    cleanup.end_children()
    found["checks"] = trial.checks
    found["hung"] = any(call.hung for call in trial.calls)
    if found["verdict"] != "pass":
        found["config"] = trial.config
        found["calls"] = [call.as_dict() for call in trial.calls[-8:]]
    return found


def read(directory: str) -> Found | None:
    """The data that the process left, or None."""
    try:
        with open(os.path.join(directory, RESULT)) as file:
            found: Found = json.load(file)
            return found
    except (OSError, ValueError):
        return None
