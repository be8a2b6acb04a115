"""Output for people at a terminal: colours, excerpts of documents, and errors in their long form. Loaded for terminals and by commands that
draw. There are no colours without a terminal, with NO_COLOR (no-color.org) or with TERM=dumb."""

from __future__ import annotations

import fcntl
import posix
from _struct import unpack

from pyrunc import codes, errors, fileio, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyrunc.jsonio import Json


WIDTH = 100  # of a line of a document
LIMIT = 16 << 20
TIOCGWINSZ = 0x5413
NARROWEST = 40  # a terminal is assumed to have at least this many columns
SHORTEST = 9  # of a cell that is cut
AREAS_SPEAK = (2, 3, 6)  # kinds whose general codes only repeat the area, which the pointer or step names already
COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36", "bold": "1", "dim": "2"}


class Paint:
    """paint(text, "red") -> the text in that colour, if the descriptor is a terminal that shows colours."""

    def __init__(self, fd: int = 1) -> None:
        env = posix.environ
        self.on = not env.get(b"NO_COLOR") and env.get(b"TERM", b"dumb") != b"dumb" and posix.isatty(fd)

    def __call__(self, text: str, *names: str) -> str:
        if not self.on or not text:
            return text
        return "\x1b[%sm%s\x1b[0m" % (";".join(COLOURS[name] for name in names), text)


def place(source: str, line: int, column: int, paint: Paint | None = None, marked: int = 1, columns: int = WIDTH) -> list[str]:
    """The line of a document and a mark of `marked` characters below the column (both from 1). Lines longer than `columns` are cut on both
    sides."""
    text = source.split("\n")[line - 1].rstrip("\r")
    start = max(0, column - 1 - columns // 2) if len(text) > columns else len(text) - len(text.lstrip())
    piece = text[start : start + columns]
    shown = "".join(c if c.isprintable() else " " for c in piece)
    mark = "^" * max(1, min(marked, len(piece) - (column - 1 - start)))
    return ["| " + shown, "| " + " " * (column - 1 - start) + (paint(mark, "red", "bold") if paint else mark)]


def width(fd: int = 1) -> int | None:
    """Columns of the terminal on a descriptor. None if it is not a terminal: then nothing is wrapped or cut, for programs that read it."""
    if not posix.isatty(fd):
        return None
    try:
        columns = unpack("HHHH", fcntl.ioctl(fd, TIOCGWINSZ, bytes(8)))[1]
    except OSError:
        columns = 0
    return max(NARROWEST, columns or 80)


def wrapped(text: str, columns: int | None, first: str = "", rest: str = "") -> list[str]:
    """The text in lines of at most `columns` characters, broken at blanks. The first line begins with `first`, the others with `rest`."""
    if columns is None or len(first) + len(text) <= columns:
        return [first + text]
    lines, line, empty = [], first, True
    for word in text.split(" "):
        if not empty and len(line) + 1 + len(word) > columns:
            lines.append(line)
            line, empty = rest, True
        line += word if empty else " " + word
        empty = False
    return [*lines, line]


def cut(text: str, columns: int | None) -> str:
    """The text, cut to `columns` characters."""
    return text if columns is None or len(text) <= columns else text[: max(0, columns - 1)] + "…"


def fitting(rows: Sequence[Sequence[str]], columns: int | None, gap: int = 2) -> list[list[str]]:
    """Rows of a table whose longest cells are cut so that the lines have at most `columns` characters; the first column is cut last."""
    table = [list(row) for row in rows]
    if columns is None or not table:
        return table
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    while sum(size + gap for size in widths[:-1]) + widths[-1] > columns:
        others = [i for i in range(1, len(widths)) if widths[i] > SHORTEST]
        longest = max(others, key=lambda i: widths[i]) if others else 0
        if widths[longest] <= SHORTEST:
            break
        widths[longest] -= 1
    return [[cut(cell, size) for cell, size in zip(row, widths, strict=True)] for row in table]


def outline(value: Json, name: str | None = None, columns: int = 110) -> list[str]:
    """Plain data as indented lines; values that fit `columns` stay on one line. An item of a list is called by its pointer, if it has one."""
    head = "" if name is None else name + ": "
    text = jsonio.dumps(value)
    if len(text) + len(head) <= columns or not isinstance(value, (dict, list)) or not value:
        return [head + errors.quote(text, 400)]
    items: list[tuple[str, Json]] = []
    if isinstance(value, dict):
        items = list(value.items())
    else:
        for number, one in enumerate(value):
            pointer = one.get("pointer") if isinstance(one, dict) else None
            items.append((pointer, {k: v for k, v in one.items() if k != "pointer"}) if pointer else (str(number), one))
    lines = [] if name is None else [name + ":"]
    pad = "" if name is None else "  "
    for key, item in items:
        lines += [pad + line for line in outline(item, key, columns - len(pad))]
    return lines


def story(error: errors.PyruncError, head: str, document: str | None) -> str:
    """The long form of an error: what failed, where, why, and what to do. head: "create failed", or "" for errors without a command; document:
    path of the config or None."""
    paint, columns = Paint(2), width(2)
    number = codes.find(error)
    row = codes.row(number)
    words = errors.quote(error.words, 4000)
    if isinstance(error, errors.StateError) and error.where():
        words += " (%s)" % errors.quote(error.where())
    first = wrapped("%s: %s" % (head, words) if head else words, columns)
    first[0] = paint(head, "red", "bold") + first[0][len(head) :] if head else paint(first[0], "red", "bold")
    lines = first + _where(error, document, paint, columns)
    why = _call(error)
    if why:
        lines += _field(paint, columns, "step", why)
    for one in error.hooks or ():
        lines += _field(paint, columns, "hook", "%s %d: %s, %d ms" % (one["kind"], one["index"], ending(one), one["ms"]))
    if number % 10 or number // 1000 not in AREAS_SPEAK:
        lines += _field(paint, columns, "why", row["meaning"])
    lines += _field(paint, columns, "do", errors.quote(_sentence(error.hint or row["remedy"]), 1000))
    lines += _field(paint, columns, "code", "%s %s; see `pyrunc explain %s`" % (row["code"], row["name"], row["code"]))
    return "\n".join(lines)


def _field(paint: Paint, columns: int | None, name: str, text: str) -> list[str]:
    """A name and its text, with a hanging indent."""
    lines = wrapped(text, columns, "  %-5s  " % name, " " * 9)
    return ["  %s%s" % (paint(name.ljust(5), "cyan"), lines[0][7:]), *lines[1:]]


def _sentence(text: str) -> str:
    """A hint as sentences, unless it begins with something to type."""
    asked, mark, rest = text.partition("? ")
    if mark:
        return _sentence(asked) + mark + _sentence(rest)
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() and first.islower() and first != "pyrunc" else text


def ending(hook: Mapping[str, Json]) -> str:
    """How a hook ended; hook: an entry of outcomes() in parts/hooks.py."""
    return "exit status %d" % hook["status"] if hook["status"] is not None else "%s (signal %d)" % (hook["ended"], hook["signal"])


def _where(error: errors.PyruncError, document: str | None, paint: Paint, columns: int | None) -> list[str]:
    """The pointer, and an excerpt of the document."""
    pointer = error.pointer
    if not pointer:
        return []
    head = "  %s  %s" % (paint("where", "cyan"), paint(errors.quote(pointer), "bold"))
    source = _source(document)
    if source is None or document is None:
        return [head]
    line, column = _found(error, source, document)
    if not line:
        return [head]
    marked = _length(source, line, column)
    shown = place(source, line, column, paint, marked, (columns or WIDTH + 11) - 11)
    number = str(line)
    lines = ["%s in %s:%d:%d" % (head, errors.quote(document), line, column), " %s %s" % (paint(number.rjust(7), "dim"), shown[0])]
    return [*lines, " %s %s" % (" " * 7, shown[1])]


def _found(error: errors.PyruncError, source: str, document: str) -> tuple[int, int]:
    """(line, column); for invalid JSON the error itself knows the place. (0, 0) if it is unknown."""
    if error.place:
        return error.place if error.place[0] <= source.count("\n") + 1 else (0, 0)
    from pyrunc import json_errors

    try:
        jsonio.loads(source.encode(), document)
    except errors.PyruncError:
        return 0, 0
    return json_errors.locate(source, error.pointer or "")


def _source(document: str | None) -> str | None:
    """Text of the config; None if it can't be read."""
    if document is None:
        return None
    try:
        fd = posix.open(document, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOCTTY)
    except (OSError, ValueError):
        return None
    try:
        info = posix.fstat(fd)
        if not fileio.is_regular(info.st_mode) or info.st_size > LIMIT:
            return None
        return fileio.read_fd(fd, LIMIT).decode()
    except (OSError, UnicodeDecodeError):
        return None
    finally:
        posix.close(fd)


def _length(source: str, line: int, column: int) -> int:
    """Length of the scalar at a position, as far as it is on that line."""
    text = source.split("\n")[line - 1][column - 1 :]
    if text[:1] == '"':
        at = 1
        while at < len(text) and text[at] != '"':
            at += 2 if text[at] == "\\" else 1
        return at + 1
    return next((i for i, c in enumerate(text) if c in ",]} \t\r"), len(text)) if text[:1] not in "[{" else 1


def _call(error: errors.PyruncError) -> str | None:
    """'mounts.init_mount in init: mount_setattr /x: EPERM (operation not permitted)'"""
    if error.step is None and not error.call:
        return None
    text = error.step or ""
    if error.side:
        text += " (%s side)" % error.side
    call = " ".join(x for x in (error.call or "", errors.quote(error.path) if error.path else "") if x)
    number = error.errno
    tail = "%s: %s" % (errors.errno_name(number), errors.errno_text(number)) if number else ""
    return ": ".join(x for x in (text.strip(), call, tail) if x)
