"""--log, --log-format, --debug: one object a line, in a file, the journal or syslog. Its one rule: without --debug nothing is written
but the one fatal error.

podman reads the whole file as one JSON object and containerd takes the last object whose level is `error`, so a failing command
writes exactly one record, last, and a successful one writes nothing. The same sentence goes to stderr as bare text.
"""

from __future__ import annotations

import posix
import time

from pyrunc.errors import UsageError, errno_name, errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.cmdline import Globals
    from pyrunc.errors import PyruncError


class _Config:
    """Where the log goes. fd: the open file or socket, -1 for standard error. kind: file, journald or syslog; name: the sender there."""

    __slots__ = ("fd", "format", "debug", "kind", "name")

    def __init__(self) -> None:
        self.fd = -1
        self.format = "text"
        self.debug = False
        self.kind = "file"
        self.name = "pyrunc"


_config = _Config()  # the one state of this module, set by configure() at the beginning of a command

O_NOFOLLOW = posix.O_NOFOLLOW
F_DUPFD_CLOEXEC = 1030
STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2, "/dev/fd/1": 1, "/dev/fd/2": 2, "/proc/self/fd/1": 1, "/proc/self/fd/2": 2}
JOURNAL, SYSLOG = "/run/systemd/journal/socket", "/dev/log"
PRIORITY = {"error": 3, "warning": 4, "debug": 7}
DAEMON = 3  # facility of syslog(3)
LONGEST = 32 << 10  # of a record in a datagram


def configure(options: Globals) -> None:
    """Opens the log (before anything is touched: a log that can't be written is an error at once). Raises UsageError."""
    style = options.get("log_format") or "text"
    if style not in ("text", "json"):
        raise UsageError("invalid-log-format", "invalid log-format: %s" % style, None, "log-format", "use text or json")
    _config.format = style
    _config.debug = bool(options.get("debug")) or options.get("log_level") == "debug"
    path = options.get("log")
    if not path:
        return
    kind, colon, name = path.partition(":")
    if colon and kind in ("journald", "syslog"):
        _config.kind, _config.name = kind, _line(name) or "pyrunc"
        _config.fd = _connect(kind, JOURNAL if kind == "journald" else SYSLOG)
        return
    if path.startswith("file:"):
        path = path[5:]
    if path in STREAMS:  # links, which are followed nowhere else
        from fcntl import fcntl

        _config.fd = fcntl(STREAMS[path], F_DUPFD_CLOEXEC, 3)
        return
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOCTTY | O_NOFOLLOW
    try:
        _config.fd = posix.open(path, flags, 0o644)  # O_NONBLOCK: a fifo that nobody reads must not hold the command up
    except OSError as e:
        raise UsageError(
            "log", "cannot open log %s: %s" % (path, errno_text(e.errno)), None, "log", "give --log a file that can be written"
        ) from None
    except ValueError:
        raise UsageError("log", "cannot open log: the path has a NUL byte", None, "log") from None


def _connect(kind: str, path: str) -> int:
    """fd of a datagram socket, never blocking: nobody waits for a log. UsageError when nobody listens."""
    import _socket

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        sock.connect(path)
    except OSError as e:
        sock.close()
        reason = {2: "there is no such socket", 111: "nobody listens", 13: "we may not use it"}.get(e.errno or 0, errno_text(e.errno))
        words = "cannot open log %s: %s: %s" % (kind, path, reason)
        raise UsageError("log", words, None, "log", "give --log a file") from None
    return sock.detach()


def is_debug() -> bool:
    return _config.debug


def debug(text: str, **fields: Any) -> None:
    """A line for people who look for something; only with --debug."""
    if _config.debug:
        _write("debug", text, fields)


def warn(text: str, **fields: Any) -> None:
    """Odd but harmless; only with --debug, since callers parse the log as one object."""
    if _config.debug:
        _write("warning", text, fields)


def fail(error: PyruncError, command: str | None, cause: BaseException | None = None, document: str | None = None) -> int:
    """The one fatal error: a record in the log, one bare line on stderr; on a terminal without a log, the whole story in its place.
    document: path of the config that the command read, if it did. Returns the exit status."""
    words = error.sentence()
    if command and command not in ("help", "version"):
        words = "%s failed: %s" % (command, words)
    line = _line(words)
    status = error.exit_status if command != "exec" else 255
    if _config.fd >= 0 or _config.format == "json":
        _write("error", line, fields(error, status))
    if _config.fd >= 0 or _config.format == "text":
        _put(2, _story(error, line, document) + "\n")
    if cause is not None and _config.debug:
        _traceback(cause)
    return status


def fields(error: PyruncError, status: int) -> dict[str, Any]:
    """What stands in a record beside level, msg and time: the stable code, its kind, and what the error knows; nothing that is None."""
    from pyrunc import codes

    data = {**error.record(), "kind": error.kind, "code": codes.text(codes.find(error)), "exit_status": status}
    if data.get("errno"):
        data["errno_name"] = errno_name(data["errno"])
    if _config.format == "json" or _config.kind == "journald":  # text is for a glance
        data["hooks"] = error.hooks or None
    return {k: v for k, v in data.items() if v is not None and k != "words"}


def _story(error: PyruncError, line: str, document: str | None) -> str:
    """The sentence; for a person at a terminal, who reads no log, what render.py makes of it."""
    if _config.fd >= 0 or not posix.isatty(2):
        return line
    try:
        from pyrunc import render

        return render.story(error, line, document)
    except Exception as e:  # an error about an error helps nobody: the sentence is what has to come out
        debug("no picture of the error: %s: %s" % (type(e).__name__, e))
        return line


def _write(level: str, text: str, fields: dict[str, Any]) -> None:
    if _config.kind != "file":
        return _send(level, text, fields)
    stamp = _now()
    if _config.format == "json":
        from pyrunc import jsonio

        line = jsonio.dumps({"level": level, "msg": text, "time": stamp, **fields})
    else:
        line = 'time="%s" level=%s msg=%s' % (stamp, level, _quoted(text))
        line += "".join(" %s=%s" % (k, _quoted(str(v))) for k, v in fields.items())
    _put(_config.fd if _config.fd >= 0 else 2, line + "\n")


def _send(level: str, text: str, fields: dict[str, Any]) -> None:
    """One datagram. The journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) is lines of NAME=value; syslog's is RFC 3164."""
    text = _line(text)[:LONGEST]
    if _config.kind == "journald":
        lines = ["MESSAGE=" + text, "PRIORITY=%d" % PRIORITY[level], "SYSLOG_IDENTIFIER=" + _config.name]
        lines += ["PYRUNC_%s=%s" % (name.upper(), _field(value)[:LONGEST]) for name, value in fields.items()]
        return _put(_config.fd, "\n".join(lines) + "\n")
    stamp = time.strftime("%b %e %H:%M:%S")
    _put(_config.fd, "<%d>%s %s[%d]: %s" % (DAEMON << 3 | PRIORITY[level], stamp, _config.name, posix.getpid(), text))


def _field(value: object) -> str:
    if type(value) is list:
        from pyrunc import jsonio

        return jsonio.dumps(value)
    return _line(str(value))


def _line(text: str) -> str:
    """Without control characters: one line."""
    return "".join(c if c >= " " and c != "\x7f" else repr(c)[1:-1] for c in text)


def _now() -> str:
    t = time.gmtime()
    return "%04d-%02d-%02dT%02d:%02d:%02dZ" % t[:6]


def _quoted(text: str) -> str:
    return '"%s"' % _line(text.replace("\\", "\\\\").replace('"', '\\"'))


def _put(fd: int, text: str) -> None:
    """One write; what can't be written (closed, full disk, broken pipe) is lost: there is nobody left to tell."""
    try:
        posix.write(fd, text.encode("utf-8", "backslashreplace"))
    except OSError:
        if fd == 2:
            return


def _traceback(cause: BaseException) -> None:
    """With --debug, on the way out. By hand: the module traceback can't be loaded by every launcher, and reads files by path."""
    lines = ["%s: %s" % (type(cause).__name__, cause)]
    at = cause.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        lines.append("  %s:%d in %s" % (code.co_filename, at.tb_lineno, code.co_name))
        at = at.tb_next
    _put(2, "\n".join(lines) + "\n")
