"""diff ID: compares the saved plan with what the kernel shows now (mounts, devices, cgroup values, sysctls, capabilities, ids, limits,
scheduling), and the saved config with that of the bundle. With --config FILE, compares with the plan and the config of FILE. Changes nothing.

Exit status: 0 no difference, 1 differences, 2 the comparison failed.
"""

from __future__ import annotations

from pyrunc import fileio, jsonio, render
from pyrunc.commands import choice
from pyrunc.commands.lookup import open_state
from pyrunc.engine import diff, planner, prepare, status
from pyrunc.engine.diff import documents
from pyrunc.errors import CALLER_TEXT, PyruncError, StateError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Document, Json, Output
    from pyrunc.parts.plans import Plans
    from pyrunc.render import Paint
    from pyrunc.state_dir import StateDir


def main(options: Options, args: list[str]) -> int:
    try:
        return _main(options, args[0])
    except PyruncError as e:
        e.exit_status = 2
        raise


def _main(options: Options, id: str) -> int:
    style = choice.format_of(options, "diff", "text", "json")
    state_dir = open_state(options, id)
    now = status.of(state_dir)
    if now not in status.ALIVE:
        raise StateError("not-running", CALLER_TEXT["not-running"], state_dir.id, now, "use `plan --diff` to compare configs")
    document = {"id": state_dir.id, "status": now, "config": None, **_compared(options, state_dir, now != "created")}
    if not status.is_alive(state_dir.state):
        raise StateError("not-running", CALLER_TEXT["not-running"], state_dir.id, "stopped", "it has just ended")
    document["config"] = quote(options["config"], 4096) if "config" in options else None
    text = jsonio.dumps(document, indent=2) + "\n" if style == "json" else _text(document, render.Paint())
    fileio.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 0 if document["same"] else 1


def _compared(options: Options, state_dir: StateDir, started: bool) -> Output:
    """{"same", "differences", "unread"}"""
    if "config" not in options:
        found = diff.Drift(state_dir.plan(), state_dir.state, started).look()
        rows, reason = documents.bundle(state_dir.config(), state_dir.state["bundle"])
        if reason is not None:
            found.miss("config", reason)
    else:
        config, plans = _planned(options, state_dir)
        found = diff.Drift(plans, state_dir.state, started).look()
        told = {row["pointer"] for row in found.rows}
        rows = [row for row in documents.rows(config, state_dir.config()) if row["pointer"] not in told]
    return {"same": not (found.rows or rows), "differences": found.rows + rows, "unread": found.unread}


def _planned(options: Options, state_dir: StateDir) -> tuple[Document, Plans]:
    """(config, plans) of FILE, as if the container were created from it now, in its bundle and with its cgroup manager. Refusal."""
    prepare.caller_paths(options)
    bundle = prepare.bundle_of({"bundle": state_dir.state["bundle"]})
    config = prepare.read_config(options, bundle)
    asked = {"command": "plan", **prepare.from_globals(options["globals"])}
    saved: Json = state_dir.plan().get("cgroups") or {}
    if saved.get("manager") in prepare.MANAGERS:
        asked.update(systemd_cgroup=saved["manager"] == "systemd", cgroup_manager=saved["manager"])
        asked["rootless"] = "true" if saved.get("rootless") else "false"
    return config, planner.plan(config, planner.Context(state_dir.id, bundle, config, asked, state_dir.path.rpartition("/")[0]))


def _text(document: Output, paint: Paint) -> str:
    lines = []
    columns = render.width(1)
    area = None
    titles = {"config": "config (saved and bundle)" if document["config"] is None else "config (%s and saved)" % document["config"]}
    for row in document["differences"]:
        if row["area"] != area:
            area = row["area"]
            lines.append(paint(titles.get(area, area), "bold"))
        lines.append(
            "  %s%s" % (quote(row["what"], 400), paint("  " + row["pointer"], "dim") if row["pointer"] not in (None, row["what"]) else "")
        )
        lines.append(paint(render.cut("    - %s" % _shown(row["planned"]), columns), "red"))
        lines.append(paint(render.cut("    + %s" % _shown(row["seen"]), columns), "green"))
    lines += ["%s: %s can't be read: %s" % (paint("note", "yellow"), row["area"], quote(row["why"], 400)) for row in document["unread"]]
    if not document["differences"] and columns:
        lines.insert(0, "no differences")
    return "".join(line + "\n" for line in lines)


def _shown(value: Json) -> str:
    return "(none)" if value is None else quote(value if isinstance(value, str) else jsonio.dumps(value), 600)
