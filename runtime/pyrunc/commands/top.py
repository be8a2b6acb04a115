"""top [ID...]: shows the resource usage of containers, updated every --interval, sorted by CPU usage. At a terminal it uses the whole screen and
exits with q or Ctrl-C; elsewhere it prints one table after another. --count sets the number of updates."""

from __future__ import annotations

import _signal
import fcntl
import posix
import select
import time
from _struct import pack, unpack

from pyrunc import fileio, jsonio
from pyrunc.commands import choice
from pyrunc.commands.list import table
from pyrunc.commands.stats import collect, human, io_bytes
from pyrunc.engine.durations import duration
from pyrunc.errors import UsageError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.stats import Data, Found

    Before = dict[tuple[str, str], tuple[float, int, int, int]]  # {(root, id): (moment, CPU time, bytes read, bytes written)}


HEAD = ("ID", "STATUS", "CPU %", "MEMORY", "LIMIT", "PIDS", "READ/S", "WRITTEN/S")
TCGETS, TCSETS, TIOCGWINSZ = 0x5401, 0x5402, 0x5413
ICANON, ECHO = 2, 8
ENTER, LEAVE = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "top", "table", "json")
    interval = duration(options.get("interval", "2s"), "top", "interval")
    count = options.get("count")
    if count is not None and (not count.isascii() or not count.isdigit() or len(count) > 9 or not int(count)):
        raise UsageError(
            "bad-number", 'invalid value "%s" for flag -count: want a number' % quote(count), "top", "count", "give a number above 0"
        )
    for number in (1, 15):
        _signal.signal(number, _stop)
    screen = Lines() if style == "json" else Screen()
    try:
        _show(options, args, interval, int(count or 0), screen)
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    finally:
        screen.close()
    return 0


def _stop(_number: int, _frame: object) -> None:
    """Ends the loop, so that the terminal is restored."""
    raise KeyboardInterrupt


def _show(options: Options, args: list[str], interval: float, count: int, screen: Lines | Screen) -> None:
    before: Before = {}
    shown = 0
    while True:
        now = time.monotonic()
        found = collect(options, args)
        screen.show(found, before, now)
        before = {(one["root"], one["id"]): (now, *used(one["data"])) for one in found}
        shown += 1
        if shown == count or screen.wait(max(0.0, now + interval - time.monotonic())):
            return


def used(data: Data) -> tuple[int, int, int]:
    """(CPU time in ns, bytes read, bytes written): the counters behind the rates."""
    return data["cpu"].get("usage", {}).get("total", 0), io_bytes(data, "read"), io_bytes(data, "write")


def rows(found: list[Found], before: Before, now: float) -> list[tuple[str, ...]]:
    """The table's rows, highest CPU usage first. There are no rates the first time."""
    lines = []
    for one in found:
        key, data = (one["root"], one["id"]), one["data"]
        memory = data["memory"].get("usage", {})
        rates: tuple[float | None, ...] = (None, None, None)
        if key in before and now > before[key][0]:
            elapsed = now - before[key][0]
            rates = tuple(max(0, new - old) / elapsed for new, old in zip(used(data), before[key][1:], strict=True))
        cells = (
            one["id"], one["status"], "-" if rates[0] is None else "%.1f" % (rates[0] / 1e7), human(memory.get("usage", 0)),
            human(memory.get("limit", 0) or 1 << 62), str(data["pids"].get("current", 0)),
            *("-" if rate is None else human(int(rate)) for rate in rates[1:]),
        )  # fmt: skip
        lines.append((-(rates[0] or 0), one["id"], cells))
    return [cells for _use, _id, cells in sorted(lines)]


class Lines:
    """--format json: an object a line for each interval, with the data of `stats`."""

    def show(self, found: list[Found], _before: Before, _now: float) -> None:
        containers = [{"id": one["id"], "status": one["status"], "data": one["data"]} for one in found]
        line = {"time": int(time.time()), "containers": containers}
        fileio.write_all(1, (jsonio.dumps(line) + "\n").encode("utf-8", "surrogateescape"))

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return False

    def close(self) -> None:
        """Nothing to restore."""


class Screen:
    """Standard output. At a terminal the whole screen is used; keys are read if standard input is a terminal, too."""

    def __init__(self) -> None:
        self.is_terminal = posix.isatty(1)
        self.saved = None
        if not self.is_terminal:
            return
        if posix.isatty(0):
            self.saved = fcntl.ioctl(0, TCGETS, bytes(36))
            flags = unpack("4I", self.saved[:16])
            fcntl.ioctl(0, TCSETS, pack("4I", *flags[:3], flags[3] & ~(ICANON | ECHO)) + self.saved[16:])
        fileio.write_all(1, ENTER)

    def show(self, found: list[Found], before: Before, now: float) -> None:
        self.draw(table([HEAD, *rows(found, before, now)]))

    def draw(self, text: str) -> None:
        if not self.is_terminal:
            fileio.write_all(1, (text + "\n").encode())
            return
        height, width = unpack("HHHH", fcntl.ioctl(1, TIOCGWINSZ, bytes(8)))[:2]
        lines = [line[:width] if width else line for line in text.rstrip("\n").split("\n")]
        lines = lines[: height or len(lines)]
        body = "\r\n".join(line + "\x1b[K" for line in ["\x1b[7m%s\x1b[0m" % lines[0], *lines[1:]])
        fileio.write_all(1, ("\x1b[H" + body + "\x1b[J").encode())

    def wait(self, seconds: float) -> bool:
        """True if a key asks to quit."""
        if self.saved is None:
            time.sleep(seconds)
            return False
        ready = select.select([0], [], [], seconds)[0]
        return bool(ready) and posix.read(0, 64)[:1] in (b"q", b"Q", b"\x03", b"\x04", b"")

    def close(self) -> None:
        if self.saved is not None:
            fcntl.ioctl(0, TCSETS, self.saved)
        if self.is_terminal:
            fileio.write_all(1, LEAVE)
