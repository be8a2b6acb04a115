"""Walks rows of the timetable: finds the verb, calls it, and gives what goes wrong its step, side and pointer."""

from pyrunc import trace
from pyrunc.engine import planner
from pyrunc.errors import HookFailure, PyruncError, StepFailure, out_of_memory
from pyrunc.parts.table import PARTS

FIRST_KEY = {row[0]: row[2][0] for row in PARTS if row[2]}


class Interrupted(PyruncError):
    """A signal asked us to stop; everything is undone."""

    kind = "interrupted"

    def __init__(self, number):
        super().__init__("interrupted", "interrupted by signal %d" % number)
        self.exit_status = 128 + number


def call(part, verb, side, entry, run, *extra):
    """One verb. OSError becomes StepFailure; PyruncError gets what it lacks. Returns what the verb returns."""
    step = part + "." + verb
    began = trace.now()
    try:
        return getattr(planner.module(part), verb)(entry, run, *extra)
    except OSError as e:
        raise StepFailure.from_oserror(e, step, side, FIRST_KEY.get(part)) from e
    except MemoryError as e:
        raise out_of_memory(step, side, FIRST_KEY.get(part)) from e
    except StepFailure as e:
        e.step = e.step or step
        e.side = e.side or side
        e.pointer = e.pointer or FIRST_KEY.get(part)
        raise
    finally:
        trace.step(step, began, side)


def walk(table, phase, side, run, undo=None):
    """All rows of a phase whose part has an entry. `undo` gets (part, undo verb) before the verb is called."""
    for row in table:
        if row[0] != phase:
            continue
        part, verb = row[1], row[2]
        entry = run.plans.get(part)
        if entry is None:
            continue
        if undo is not None:
            undo.note(part, verb)
        run.check()
        call(part, verb, side, entry, run)


def rebuild(data, fallback_side):
    """The error that the other side sent (PyruncError.record()) as an exception again."""
    if data.get("code") == "hook":
        e = HookFailure(data["reason"], data["kind"], data["index"], data["cause"], data.get("path"))
        return e
    if data.get("code") == "step":
        return StepFailure(
            data.get("reason"), data["words"], data.get("step"), data.get("side") or fallback_side, data.get("pointer"), data.get("call"), data.get("errno"),
            data.get("path"), data.get("hint"),
        )  # fmt: skip
    e = PyruncError(data.get("reason"), data["words"], data.get("pointer"), data.get("hint"))
    e.kind = data.get("code", e.kind)
    return e
