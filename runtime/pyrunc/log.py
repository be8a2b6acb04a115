"""The log (--log, --log-format, --debug): one record per line, in a file, the journal or syslog. Without --debug the only records are the fatal
error and, where they can't confuse a program, notices: warnings that a part of the config was left out.

podman reads the whole file as one JSON object, and containerd takes the last object whose level is `error`. So a command that fails writes
exactly one record into a JSON file, as the last one, and a command that succeeds writes none. The sentence of the error goes to stderr as
plain text, too. Other callers parse the standard streams, so a notice goes there only if standard error is a terminal.
"""

from __future__ import annotations

import posix
import time

from pyrunc.errors import UsageError, errno_name, errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Globals
    from pyrunc.errors import Plain, PyruncError


class _Config:
    """Where the log goes. fd: the open file or socket, -1 for standard error. kind: file, journald or syslog; name: the sender there."""

    __slots__ = ("fd", "format", "debug", "errors_only", "kind", "name")

    def __init__(self) -> None:
        self.fd = -1
        self.format = "text"
        self.debug = False
        self.errors_only = False
        self.kind = "file"
        self.name = "pyrunc"


_config = _Config()  # the one state of this module, set by configure() at the beginning of a command

O_NOFOLLOW = posix.O_NOFOLLOW
F_DUPFD_CLOEXEC = 1030
STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2, "/dev/fd/1": 1, "/dev/fd/2": 2, "/proc/self/fd/1": 1, "/proc/self/fd/2": 2}
JOURNAL, SYSLOG = "/run/systemd/journal/socket", "/dev/log"
LEVELS = ("panic", "fatal", "error", "warning", "warn", "info", "debug", "trace")  # what engines may pass
PRIORITY = {"error": 3, "warning": 4, "debug": 7}
DAEMON = 3  # facility of syslog(3)
ENOENT, EACCES, ECONNREFUSED = 2, 13, 111
LONGEST = 32 << 10  # of a record in a datagram


def configure(options: Globals) -> None:
    """Opens the log, before anything else is touched: a log that can't be opened is an error. UsageError."""
    style = options.get("log_format") or "text"
    if style not in ("text", "json"):
        raise UsageError("bad-log-format", "invalid log-format: %s" % style, None, "log-format", "use text or json")
    _config.format = style
    level = options.get("log_level") or "error"
    if level not in LEVELS:
        raise UsageError("bad-log-level", "invalid log-level: %s" % level, None, "log-level", "use error, warning or debug")
    _config.debug = bool(options.get("debug")) or level in LEVELS[-2:]
    _config.errors_only = options.get("log_level") in LEVELS[:3]
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
    if path in STREAMS:  # symbolic links; others are not followed
        from fcntl import fcntl

        _config.fd = fcntl(STREAMS[path], F_DUPFD_CLOEXEC, 3)
        return
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOCTTY | O_NOFOLLOW
    try:
        _config.fd = posix.open(path, flags, 0o644)  # O_NONBLOCK: a fifo without a reader must not block the command
    except OSError as e:
        raise UsageError(
            "log", "cannot open log %s: %s" % (path, errno_text(e.errno)), None, "log", "give --log the name of a file that can be written"
        ) from None
    except ValueError:
        raise UsageError("log", "cannot open log: the path has a NUL byte", None, "log") from None


def _connect(kind: str, path: str) -> int:
    """Descriptor of a datagram socket that never blocks. UsageError if no process listens there."""
    import _socket

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        sock.connect(path)
    except OSError as e:
        sock.close()
        reason = {ENOENT: "there is no such socket", ECONNREFUSED: "nobody listens", EACCES: "access is denied"}.get(
            e.errno or 0, errno_text(e.errno)
        )
        words = "cannot open log %s: %s: %s" % (kind, path, reason)
        raise UsageError("log", words, None, "log", "give --log a file") from None
    return sock.detach()


def is_debug() -> bool:
    """Whether debug records are written; for callers whose records are expensive to make."""
    return _config.debug


def debug(text: str, **fields: object) -> None:
    """A debug record; written only with --debug."""
    if _config.debug:
        _write("debug", text, fields)


def warn(text: str, **fields: object) -> None:
    """A warning; written only with --debug, since callers parse the log as one object."""
    if _config.debug:
        _write("warning", text, fields)


def notice(text: str) -> None:
    """A warning that something the config asks for is left out. Written at the default level to the journal, syslog and text files; without
    --log as a plain line, if standard error is a terminal. With --debug it is a record like any other warning."""
    if _config.debug:
        return _write("warning", text, {})
    if _config.errors_only or (_config.kind == "file" and _config.format == "json"):
        return
    if _config.fd >= 0:
        _write("warning", text, {})
    elif posix.isatty(2):
        _put(2, "warning: %s\n" % _line(text))


def steps() -> None:
    """With --debug: a record for each step that the command has taken since the last call, with the time that it began and took. The steps
    of plans come first (PART.plan), then those of the timetable, on the host side and in init."""
    if not _config.debug:
        return
    from pyrunc import timestamps, trace

    for began, ended, side, name in sorted(trace.taken()):
        _write("debug", "step %s" % name, {"side": side, "took_us": max(0, ended - began) // 1000}, timestamps.rfc3339(began))


def fail(error: PyruncError, command: str | None, cause: BaseException | None = None, document: str | None = None) -> int:
    """Reports the fatal error: a record in the log and one plain line on stderr, or on a terminal without a log the long form of render.py.
    cause: the exception behind it, shown with --debug. document: path of the config that the command read. Returns the exit status."""
    head = "%s failed" % command if command and command not in ("help", "version") else ""
    line = _line("%s: %s" % (head, error.sentence()) if head else error.sentence())
    status = error.exit_status if command != "exec" else 255
    steps()
    if _config.fd >= 0 or _config.format == "json":
        _write("error", line, fields(error, status))
    if _config.fd >= 0 or _config.format == "text":
        _put(2, _story(error, head, line, document) + "\n")
    if cause is not None and _config.debug:
        _traceback(cause)
    return status


def fields(error: PyruncError, status: int) -> dict[str, Plain]:
    """The fields of a record besides level, msg and time: the stable code, its kind and what the error knows. Fields without a value are left out."""
    from pyrunc import codes

    data = {**error.record(), "kind": error.kind, "code": codes.text(codes.find(error)), "exit_status": status}
    if data.get("errno"):
        data["errno_name"] = errno_name(data["errno"])
    if _config.format == "json" or _config.kind == "journald":  # the text form is kept short
        data["hooks"] = error.hooks or None
    return {k: v for k, v in data.items() if v is not None and k != "words"}


def _story(error: PyruncError, head: str, line: str, document: str | None) -> str:
    """The sentence, or at a terminal without a log what render.py makes of it."""
    if _config.fd >= 0 or not posix.isatty(2):
        return line
    try:
        from pyrunc import render

        return render.story(error, head, document)
    except Exception as e:  # an error while showing an error must not hide the first one
        debug("the error can't be rendered: %s: %s" % (type(e).__name__, e))
        return line


def _write(level: str, text: str, fields: dict[str, object], stamp: str | None = None) -> None:
    if _config.kind != "file":
        return _send(level, text, fields)
    stamp = stamp or _now()
    if _config.format == "json":
        from pyrunc import jsonio

        line = jsonio.dumps({"level": level, "msg": text, "time": stamp, **fields})
    else:
        line = 'time="%s" level=%s msg=%s' % (stamp, level, _quoted(text))
        line += "".join(" %s=%s" % (k, _quoted(str(v))) for k, v in fields.items())
    _put(_config.fd if _config.fd >= 0 else 2, line + "\n")


def _send(level: str, text: str, fields: dict[str, object]) -> None:
    """Sends one datagram. The journal's protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) has lines of NAME=value; syslog's is RFC 3164."""
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
    """The text on one line, with control characters escaped."""
    return "".join(c if c >= " " and c != "\x7f" else repr(c)[1:-1] for c in text)


def _now() -> str:
    t = time.gmtime()
    return "%04d-%02d-%02dT%02d:%02d:%02dZ" % t[:6]


def _quoted(text: str) -> str:
    return '"%s"' % _line(text.replace("\\", "\\\\").replace('"', '\\"'))


def _put(fd: int, text: str) -> None:
    """One write. Errors (closed descriptor, full disk, broken pipe) are ignored: there is no place left to report them."""
    try:
        posix.write(fd, text.encode("utf-8", "backslashreplace"))
    except OSError:
        if fd == 2:
            return


def _traceback(cause: BaseException) -> None:
    """Prints the traceback of an exception, for --debug. Not every launcher can load the module traceback, which reads files by path."""
    lines = ["%s: %s" % (type(cause).__name__, cause)]
    at = cause.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        lines.append("  %s:%d in %s" % (code.co_filename, at.tb_lineno, code.co_name))
        at = at.tb_next
    _put(2, "\n".join(lines) + "\n")
