"""events ID: prints one JSON object per line, {"type": "stats" or "oom", "id", "data"}: statistics every --interval, and an event whenever
memory runs out. --stats prints one record and exits."""

from __future__ import annotations

import select
import time

from pyrunc import fileio, jsonio
from pyrunc.cgroup import oom
from pyrunc.commands import choice
from pyrunc.engine import status, usage
from pyrunc.engine.durations import duration
from pyrunc.errors import StateError
from pyrunc.linux import pidfd
from pyrunc.store import open_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Json
    from pyrunc.state_dir import StateDir


def main(options: Options, args: list[str]) -> int:
    choice.format_of(options, "events", "json")
    interval = duration(options.get("interval", "5s"), "events", "interval")
    state_dir = open_state(options, args[0])
    if status.of(state_dir) == "stopped":
        raise StateError("not-running", "container with id %s is not running" % state_dir.id, state_dir.id, "stopped")
    if options.get("stats"):
        _say(state_dir.id, "stats", usage.full(state_dir))
        return 0
    _stream(state_dir, interval)
    return 0


def _say(id: str, kind: str, data: Json = None) -> None:
    record = {"type": kind, "id": id}
    if data is not None:
        record["data"] = data
    fileio.write_all(1, (jsonio.dumps(record) + "\n").encode("utf-8", "surrogateescape"))


def _stream(state_dir: StateDir, interval: float) -> None:
    """Prints until init has ended. Waits on init's pidfd and on the kernel's notifications of OOM kills."""
    init_fd = pidfd.open_init(state_dir.state["pid"], state_dir.state["start_time"])
    poll = select.poll()
    poll.register(init_fd, select.POLLIN)
    watch = None
    try:
        watch = oom.Watch(state_dir.state.get("cgroup_paths") or {})
        poll.register(watch.fd, watch.mask)
    except OSError:
        watch = None  # no memory cgroup
    due = time.monotonic() + interval
    while True:
        ready = dict(poll.poll(max(0, int((due - time.monotonic()) * 1000))))
        if watch is not None and watch.fd in ready:
            fired = watch.fired()
            if fired:
                _say(state_dir.id, "oom")
            elif fired is None:
                poll.unregister(watch.fd)
                watch = None
        if init_fd in ready:
            return
        if time.monotonic() >= due:
            _say(state_dir.id, "stats", usage.full(state_dir))
            due = time.monotonic() + interval
