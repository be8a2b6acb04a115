"""stats [ID...]: prints the resource usage of containers, as a table, as JSON (the data of runc's events by id) or in Prometheus' text format.
Without ids: all containers that run (--all: the stopped ones, too). --engine: those of an engine, in whatever directory it keeps them; as
JSON they are a list, because several directories may have a container with the same id."""

from __future__ import annotations

import time

from pyrunc import fileio, jsonio, store
from pyrunc.commands import choice, lookup
from pyrunc.commands.list import table
from pyrunc.engine import status, usage
from pyrunc.errors import StateError, UsageError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Output
    from pyrunc.engine.usage import Read

    Data = Output  # as in runc's events; cgroup/stats.py describes it

    class Found(TypedDict):
        """A container; engine, name and pod only with --engine."""

        engine: str | None
        root: str
        id: str
        name: str | None
        pod: str | None
        status: str
        data: Data


HEAD = ("ID", "STATUS", "CPU SECONDS", "MEMORY", "LIMIT", "PIDS", "READ", "WRITTEN")
METRICS = (  # name, type, help, value
    ("pyrunc_cpu_seconds_total", "counter", "CPU time used", lambda d: d["cpu"].get("usage", {}).get("total", 0) / 1e9),
    ("pyrunc_memory_bytes", "gauge", "Memory in use", lambda d: d["memory"].get("usage", {}).get("usage", 0)),
    ("pyrunc_memory_limit_bytes", "gauge", "Limit of memory", lambda d: d["memory"].get("usage", {}).get("limit", 0)),
    ("pyrunc_pids", "gauge", "Processes", lambda d: d["pids"].get("current", 0)),
    ("pyrunc_read_bytes_total", "counter", "Bytes read from block devices", lambda d: io_bytes(d, "read")),
    ("pyrunc_written_bytes_total", "counter", "Bytes written to block devices", lambda d: io_bytes(d, "write")),
)  # fmt: skip


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "stats", "table", "json", "prometheus")
    read = usage.full if style == "json" else usage.brief
    found = _of_engines(options, args, read) if "engine" in options else collect(options, args, read)
    if style == "json":
        text = jsonio.dumps(found if "engine" in options else _by_id(found)) + "\n"
    elif style == "prometheus":
        text = prometheus(found)
    else:
        text = table([HEAD] + [_row(one) for one in found])
    fileio.write_all(1, text.encode("utf-8", "surrogateescape"))
    return 0


def collect(options: Options, args: list[str], read: Read = usage.brief) -> list[Found]:
    """The given containers, or all that run (--all: the stopped ones, too). read: the function that reads the data of each."""
    root = store.root_of(options["globals"])
    found: list[Found] = []
    for id in args or store.ids(root):
        try:
            state_dir = lookup.open_state(options, id) if args else store.open_state_dir(root, id).load()
        except StateError:
            if args:
                raise
            continue
        now = status.of(state_dir)
        if args or options.get("all") or now in status.ALIVE:
            home = state_dir.path.rpartition("/")[0]
            data = read(state_dir)
            found.append({"engine": None, "root": home, "id": state_dir.id, "name": None, "pod": None, "status": now, "data": data})
        state_dir.close()
    return found


def _of_engines(options: Options, args: list[str], read: Read) -> list[Found]:
    """Like collect(), for an engine's containers that this runtime has made."""
    from pyrunc.engine import engines

    if args:
        raise UsageError(
            "ids-and-engine", "--engine is for all containers of an engine", "stats", "engine", "leave out the ids or --engine"
        )
    found: list[Found] = []
    for one in engines.containers(choice.engine_of(options, "stats")):
        if one["runtime"] != "pyrunc" or not (options.get("all") or one["status"] in status.ALIVE):
            continue
        try:
            state_dir = store.open_state_dir(one["root"], one["id"]).load()
        except StateError:
            continue  # deleted meanwhile
        data = read(state_dir)
        found.append(
            {
                "engine": one["engine"], "root": one["root"], "id": one["id"], "name": one["name"], "pod": one["pod"],
                "status": one["status"], "data": data,
            }
        )  # fmt: skip
        state_dir.close()
    return found


def _by_id(found: list[Found]) -> dict[str, Data]:
    """UsageError: two containers have the same id, which happens only if they were given by their names in an engine."""
    data: dict[str, Found] = {}
    for one in found:
        other = data.setdefault(one["id"], one)
        if other["root"] != one["root"]:
            words = "%s and %s both have a container %s" % (quote(other["root"]), quote(one["root"]), quote(one["id"]))
            raise UsageError("same-id", words, "stats", "format", "ask for each by itself, or use --engine all")
    return {id: one["data"] for id, one in data.items()}


def _labels(one: Found) -> str:
    named = (("id", one["id"]), ("root", one["root"]), ("engine", one["engine"]), ("name", one["name"]), ("pod", one["pod"]))
    return ",".join('%s="%s"' % (key, _escaped(value)) for key, value in named if value)


def _escaped(text: str) -> str:
    """The value of a label."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def io_bytes(data: Data, kind: str) -> int:
    rows = data["blkio"].get("ioServiceBytesRecursive") or ()
    return sum(row.get("value", 0) for row in rows if row.get("op", "").lower() == kind)


def human(number: int) -> str:
    if number >= 1 << 60:
        return "-"
    for unit, step in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= step:
            return "%.1f %s" % (number / step, unit)
    return "%d B" % number


def _row(one: Found) -> tuple[str, ...]:
    data = one["data"]
    usage = data["memory"].get("usage", {})
    return (
        one["id"], one["status"], "%.3f" % (data["cpu"].get("usage", {}).get("total", 0) / 1e9), human(usage.get("usage", 0)),
        human(usage.get("limit", 0) or 1 << 62), str(data["pids"].get("current", 0)),
        human(io_bytes(data, "read")), human(io_bytes(data, "write")),
    )  # fmt: skip


def prometheus(found: list[Found]) -> str:
    """Prometheus' text format 0.0.4, for the text file collector of node_exporter."""
    lines = ["# collected %d" % time.time()]
    samples = {_labels(one): one["data"] for one in found}  # a container that was named twice is one series
    for name, kind, text, value in METRICS:
        lines += ["# HELP %s %s." % (name, text), "# TYPE %s %s" % (name, kind)]
        lines += ["%s{%s} %s" % (name, labels, _number(value(data))) for labels, data in samples.items()]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return "+Inf" if value >= 1 << 62 else repr(value)
