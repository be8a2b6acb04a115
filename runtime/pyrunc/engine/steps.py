"""Executes rows of the timetable: finds the verb, calls it, and adds step, side and pointer to errors."""

from __future__ import annotations

from pyrunc import log, trace
from pyrunc.engine import order, planner
from pyrunc.errors import HookFailure, PyruncError, StepFailure, out_of_memory
from pyrunc.parts.table import PARTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.engine.host import Undo
    from pyrunc.engine.run import Run
    from pyrunc.engine.shapes import Entry, Failed, Record, Result, Step, Table
    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import Op

IN_INIT = "unable to start container process: "
FIRST_KEY = {row[0]: row[2][0] for row in PARTS if row[2]}


def _phases(table: Table) -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = {}
    for row in table:
        found.setdefault(row[0], []).append(row)
    return found


# {id of a timetable: {phase: its rows}}. A timetable has about ninety rows and create goes through it eight times. The key is the id
# because hashing a table takes longer than going through it.
_BY_PHASE = {id(table): _phases(table) for table in (order.CREATE, order.EXEC, order.START, order.DELETE, order.RESTORE)}


def rows(table: Table, phase: str) -> list[Step]:
    """The rows of a phase of one of the timetables in order.py, in order."""
    return _BY_PHASE[id(table)].get(phase, [])


def call(part: str, verb: str, side: str, entry: Entry, run: Run | None, *extra: object) -> Result:
    """Calls one verb. An OSError becomes a StepFailure; missing fields of a PyruncError are filled in. Returns the verb's result."""
    step = part + "." + verb
    began = trace.now()
    try:
        found = getattr(planner.module(part), verb)
        return found(entry, run, *extra) if extra else found(entry, run)
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


def walk(table: Table, phase: str, side: str, run: Run, undo: Undo | None = None) -> None:
    """Executes all rows of a phase whose part has an entry. `undo` gets (part, undo verb) before the verb is called."""
    for _phase, part, verb, _why in rows(table, phase):
        entry: Entry = run.plans.get(part)
        if entry is None:
            continue
        if undo is not None:
            undo.note(part, verb)
        run.check()
        call(part, verb, side, entry, run)


def is_needed(table: Table, phase: str, plans: Plans) -> bool:
    """Whether a phase has a row whose part has an entry."""
    return any(row[1] in plans for row in rows(table, phase))


def results(table: Table, phase: str, side: str, run: Run, without: Sequence[str] = ()) -> list[Result]:
    """Executes the rows of a phase whose part has an entry, except the parts in `without`. Returns what each verb returned."""
    found = []
    for _phase, part, verb, _why in rows(table, phase):
        entry: Entry = run.plans.get(part)
        if entry is not None and part not in without:
            found.append(call(part, verb, side, entry, run))
    return found


def after_delete(run: Run) -> None:
    """The rows for a container that no longer exists. They return warnings, and whatever fails in them is only a warning."""
    try:
        for warnings in results(order.DELETE, "deleted", "host", run):
            for words in warnings:
                log.warn(words)
    except (PyruncError, OSError) as e:
        log.warn("poststop hooks of %s: %s" % (run.id, e))


def operations(table: Table, phase: str, side: str, run: Run, own: dict[str, Op | None]) -> list[Op | None]:
    """The operations that the verbs of a phase return for finish() or spawn(), one per row, None if there is nothing to do: so the position
    in a record identifies the row. own: {verb: operation} for the engine's own rows."""
    found: list[Op | None] = []
    for _phase, part, verb, _why in rows(table, phase):
        if part == "engine":
            found.append(own[verb])
        else:
            entry: Entry = run.plans.get(part)
            found.append(None if entry is None else call(part, verb, side, entry, run))
    return found


def position(table: Table, phase: str, verb: str) -> int:
    """The position of one of the engine's own rows in its phase."""
    return [row[1:3] for row in rows(table, phase)].index(("engine", verb))


def name_of(table: Table, phase: str, position: int) -> str:
    """'part.verb' of the row at a position in its phase, or the phase if there is none (an invalid record)."""
    found = rows(table, phase)
    return "%s.%s" % found[position][1:3] if 0 <= position < len(found) else "engine." + phase


def tail_failure(record: Record, plans: Plans, table: Table) -> StepFailure:
    """Converts a record from finish() to an error of the row that failed; callers match the message for a program that can't be found."""
    e: StepFailure = planner.module("program").failure(record, plans)
    e.words = IN_INIT + e.words
    e.side = "init"
    e.step = name_of(table, "tail", record[4])
    return e


def rebuild(data: Failed, fallback_side: str) -> PyruncError:
    """Recreates the error that the other side sent (PyruncError.record()) as an exception."""
    if data.get("code") == "hook":
        reason = data["reason"] or "failed"
        return HookFailure(reason, data["kind"], data["index"], data["cause"], data.get("path"))
    if data.get("code") == "step":
        return StepFailure(
            data.get("reason"), data["words"], data.get("step"), data.get("side") or fallback_side, data.get("pointer"), data.get("call"), data.get("errno"),
            data.get("path"), data.get("hint"),
        )  # fmt: skip
    e = PyruncError(data.get("reason"), data["words"], data.get("pointer"), data.get("hint"))
    e.kind = data.get("code", e.kind)
    return e
