"""What a person at a terminal sees: colours, the place in the document, and an error told in full. Loaded for terminals, and by commands
that draw. Without a terminal, with NO_COLOR (no-color.org) or with TERM=dumb there are no colours."""

from __future__ import annotations

import posix

from pyrunc import codes, errors, fileio, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Branch = tuple[str, list["Branch"]]  # a text and what hangs below it


WIDTH = 100  # of a line of a document
LIMIT = 16 << 20
COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36", "bold": "1", "dim": "2"}


class Paint:
    """paint(text, "red") -> text with colours, if they are wanted on that descriptor."""

    def __init__(self, fd: int = 1) -> None:
        env = posix.environ
        self.on = not env.get(b"NO_COLOR") and env.get(b"TERM", b"dumb") != b"dumb" and posix.isatty(fd)

    def __call__(self, text: str, *names: str) -> str:
        if not self.on or not text:
            return text
        return "\x1b[%sm%s\x1b[0m" % (";".join(COLOURS[name] for name in names), text)


def place(source: str, line: int, column: int, paint: Paint | None = None, marked: int = 1) -> list[str]:
    """The line of a document (numbers from 1) and a mark below the place, `marked` characters wide; a long line is cut on both sides."""
    text = source.split("\n")[line - 1].rstrip("\r")
    start = max(0, column - 1 - WIDTH // 2) if len(text) > WIDTH else len(text) - len(text.lstrip())
    piece = text[start : start + WIDTH]
    shown = "".join(c if c.isprintable() else " " for c in piece)
    mark = "^" * max(1, min(marked, len(piece) - (column - 1 - start)))
    return ["| " + shown, "| " + " " * (column - 1 - start) + (paint(mark, "red", "bold") if paint else mark)]


def story(error: errors.PyruncError, line: str, document: str | None) -> str:
    """PyruncError, its sentence on one line, path of the config or None -> several lines: what, where, why, what to do."""
    paint = Paint(2)
    number = codes.find(error)
    row = codes.row(number)
    command, colon, what = line.partition(": ")
    words = errors.quote(error.words, 4000)
    lines = ["%s: %s" % (paint(command, "red", "bold"), words) if colon else paint(line, "red", "bold")]
    lines += _where(error, document, paint)
    why = _call(error)
    if why:
        lines.append("  %s  %s" % (paint("step ", "cyan"), why))
    for one in error.hooks or ():
        lines.append("  %s  %s %d: %s, %d ms" % (paint("hook ", "cyan"), one["kind"], one["index"], ending(one), one["ms"]))
    lines.append("  %s  %s" % (paint("why  ", "cyan"), row["meaning"]))
    for text in _remedies(error.hint, row["remedy"]):
        lines.append("  %s  %s" % (paint("do   ", "cyan"), errors.quote(text, 1000)))
    lines.append("  %s  %s" % (paint("code ", "cyan"), "%s %s; `pyrunc explain %s`" % (row["code"], row["name"], row["code"])))
    return "\n".join(lines)


def ending(hook: Mapping[str, Any]) -> str:
    """How a hook went, of parts/hooks.py: outcomes()."""
    return "exit status %d" % hook["status"] if hook["status"] is not None else "%s (signal %d)" % (hook["ended"], hook["signal"])


def _remedies(hint: str | None, remedy: str) -> list[str]:
    """The error's own hint, and the code's remedy unless it says the same."""

    def plain(text: str) -> str:
        return "".join(c for c in text.lower() if c.isalnum())

    return [text for text in (hint, remedy) if text and (text is hint or plain(text) != plain(hint or ""))]


def _where(error: errors.PyruncError, document: str | None, paint: Paint) -> list[str]:
    """The pointer, and the place in the document where it can be found."""
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
    shown = place(source, line, column, paint, marked)
    number = str(line)
    lines = ["%s in %s:%d:%d" % (head, errors.quote(document), line, column), " %s %s" % (paint(number.rjust(7), "dim"), shown[0])]
    return [*lines, " %s %s" % (" " * 7, shown[1])]


def _found(error: errors.PyruncError, source: str, document: str) -> tuple[int, int]:
    """(line, column); of what is no JSON the error itself says where it stops to be. (0, 0) where nobody knows."""
    if error.place:
        return error.place if error.place[0] <= source.count("\n") + 1 else (0, 0)
    from pyrunc import json_errors

    try:
        jsonio.loads(source.encode(), document)
    except errors.PyruncError:
        return 0, 0
    return json_errors.locate(source, error.pointer or "")


def _source(document: str | None) -> str | None:
    """Text of the config, or None where it can't be read."""
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
    """How many characters the scalar at a place has on its line."""
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


def tree(branches: Sequence[Branch], pad: str = "") -> list[str]:
    """[(text, [the same])] -> lines with branches drawn."""
    lines = []
    for index, (text, below) in enumerate(branches):
        last = index == len(branches) - 1
        lines.append(pad + ("└─ " if last else "├─ ") + text)
        lines += tree(below, pad + ("   " if last else "│  "))
    return lines
