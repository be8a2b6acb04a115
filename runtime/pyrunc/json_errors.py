"""Finds out why `jsonio.loads` rejects a text: line, column, JSON pointer and reason. Loaded only when something is wrong.

This is a second, slow reader of the same language. It keeps no values and doesn't recurse, so it always knows where it is. explain() returns
a Refusal for every input (test_jsonio runs both readers over the same texts).
"""

from __future__ import annotations

from pyrunc import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn


CORRECTIONS = 200  # per text; with more mistakes, it is not meant to be JSON
EFFORT = 20_000_000  # characters that are read again and again for them
TOKENS = 1000000  # about a second; a longer search for the pointer is not worth the wait
CONSTANTS = ("true", "false", "null")
WRONG = {
    "/": "comments are not allowed",
    "'": "strings are written in double quotes",
    "N": "NaN is not allowed",
    "I": "Infinity is not allowed",
}


class _Found(Exception):
    def __init__(self, words: str, at: int, reason: str = "not-json", instead: tuple[int, int, str] | None = None) -> None:
        """instead: (start, end, text) of a correction, a text of the same length, where one is obvious."""
        self.instead = instead
        self.reason = reason
        self.words = words
        self.at = at


def explain(data: bytes | bytearray | memoryview | str, name: str, depth: int, digits: int) -> errors.Refusal:
    """What is wrong with a text that loads() rejected. depth, digits: the limits of loads()."""
    if not isinstance(data, str):
        return _not_utf8(bytes(data), name, depth, digits)
    reader = _Reader(data, depth, digits)
    try:
        reader.document()
        return errors.Refusal("not-json", "%s: malformed JSON" % name, "/")
    except _Found as e:
        return _refusal(e, data, name, reader)


def _refusal(e: _Found, text: str, name: str, reader: _Reader, stand_ins: Sequence[tuple[str, str]] = ()) -> errors.Refusal:
    pointer = reader.pointer()
    for put, key in stand_ins:
        pointer = pointer.replace(put, key)
    line = text.count("\n", 0, e.at) + 1
    column = e.at - text.rfind("\n", 0, e.at)
    words = "%s: line %d, column %d: %s" % (name, line, column, e.words)
    return errors.Refusal(e.reason, words, errors.quote(pointer), place=(line, column))


def corrected(text: str, name: str, depth: int, digits: int) -> tuple[str, list[errors.Refusal]]:
    """The text with obvious corrections, and a Refusal for each mistake: for callers that report all of them. The text keeps its length,
    so that places in it are places in the file. A duplicate key is replaced by characters of private use (U+E000 on)."""
    found: list[errors.Refusal] = []
    stand_ins: list[tuple[str, str]] = []
    for number in range(CORRECTIONS):
        reader = _Reader(text, depth, digits)
        try:
            reader.document()
            break
        except _Found as e:
            found.append(_refusal(e, text, name, reader, stand_ins))
            if e.instead is None or len(text) * number > EFFORT:
                break
            start, end, put = e.instead
            if not put:
                put = chr(0xE000 + number) * (end - start)
                stand_ins.append((put, text[start:end]))
            text = text[:start] + put + text[end:]
    return text, found


def _not_utf8(data: bytes, name: str, depth: int, digits: int) -> errors.Refusal:
    for mark, kind in ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")):
        if data.startswith(mark):
            return errors.Refusal("not-utf8", "%s: the encoding is %s; it must be UTF-8 without a byte order mark" % (name, kind), "/")
    try:
        data.decode()
        return errors.Refusal("not-json", "%s: malformed JSON" % name, "/")
    except UnicodeDecodeError as e:
        good = data[: e.start].decode()
        line = good.count("\n") + 1
        reader = _Reader(good, depth, digits)
        try:
            reader.document()
        except _Found:
            pass
        words = "%s: line %d, offset %d: byte 0x%02x is not UTF-8" % (name, line, e.start, data[e.start])
        return errors.Refusal("not-utf8", words, errors.quote(reader.pointer()))


def locate(text: str, pointer: str) -> tuple[int, int]:
    """(line, column), from 1, of the value that a pointer names in a valid text; of the nearest enclosing value if there is no such value."""
    finder = _Finder(text, pointer)
    try:
        finder.document()
    except _Found:
        pass
    line = text.count("\n", 0, finder.at) + 1
    return line, finder.at - text.rfind("\n", 0, finder.at)


class _Reader:
    """One pass over the text. `path` has an element for each open object or list: the key or index being read, and the keys seen so far."""

    def __init__(self, text: str, depth: int, digits: int) -> None:
        self.max_depth = depth
        self.max_digits = digits
        self.text = text
        self.path: list[list[Any]] = []  # [key or index or None, set of keys or None]: Any, as the second depends on the first

    def pointer(self) -> str:
        steps = [k if isinstance(k, str) else str(k) for k, _ in self.path[: self.max_depth] if k is not None]
        return "".join("/" + errors.escape_pointer(k) for k in steps) or "/"

    def blank(self, at: int) -> int:
        text = self.text
        while text[at : at + 1] in (" ", "\t", "\n", "\r") and at < len(text):
            at += 1
        return at

    def document(self) -> None:
        text = self.text
        if text[:1] == "\ufeff":
            raise _Found("the file begins with a byte order mark; it must be UTF-8 without one", 0)
        at = self.blank(0)
        if at == len(text):
            raise _Found("the file is empty" if not text else "the file holds only blanks", 0)
        at = self.value(at)
        for _ in range(TOKENS):
            if not self.path:
                break
            at = self.step(at)
        else:
            raise _Found("not JSON, somewhere after this point", at)
        at = self.blank(at)
        if at < len(text):
            comment = self.comment(at) if text.startswith(("//", "/*", "#"), at) else None
            raise _Found("unexpected text after the document: %s" % errors.quote(text[at:], 20), at, instead=comment)

    def step(self, at: int) -> int:
        """Reads what follows a value in an object or list: a comma and the next value, or the end."""
        top = self.path[-1]
        at = self.blank(at)
        sign = self.text[at : at + 1]
        if sign == ",":
            at = self.blank(at + 1)
            if self.text[at : at + 1] in ("]", "}"):
                comma = self.text.rindex(",", 0, at)
                raise _Found("trailing comma", at, instead=(comma, comma + 1, " "))
            if top[1] is None:
                top[0] += 1
                return self.value(at)
            return self.member(at)
        if sign and sign == ("]" if top[1] is None else "}"):
            self.path.pop()
            return at + 1
        self.unexpected(at, "a comma or %s" % ("]" if top[1] is None else "}"))

    def member(self, at: int) -> int:
        """Reads a key, the colon and the beginning of the value."""
        top = self.path[-1]
        top[0] = None
        if self.text[at : at + 1] != '"':
            self.unexpected(at, "a key in double quotes")
        key, end = self.string(at)
        top[0] = key
        if key in top[1]:
            raise _Found("duplicate key", at, "duplicate-key", (at + 1, end - 1, "") if end - at > 2 else None)
        top[1].add(key)
        at = self.blank(end)
        if self.text[at : at + 1] != ":":
            self.unexpected(at, "a colon")
        return self.value(self.blank(at + 1))

    def value(self, at: int) -> int:
        """Reads a scalar, or the beginning of objects and lists up to the first scalar in them."""
        while True:
            self.begins(at)
            sign = self.text[at : at + 1]
            if sign not in ("{", "[") or not sign:
                return self.scalar(at, sign)
            if len(self.path) >= self.max_depth:
                raise _Found("nesting deeper than %d levels" % self.max_depth, at, "too-large")
            after = self.blank(at + 1)
            if self.text[after : after + 1] == ("}" if sign == "{" else "]"):
                return after + 1
            self.path.append([0, None] if sign == "[" else [None, set()])
            if sign == "{":
                return self.member(after)  # recurses at most DEPTH times
            at = after

    def begins(self, at: int) -> None:
        """Called where a value begins; _Finder overrides it."""

    def scalar(self, at: int, sign: str) -> int:
        if sign == '"':
            return self.string(at)[1]
        if sign == "-" or "0" <= sign <= "9" and sign:
            return self.number(at)
        for word in CONSTANTS:
            if self.text.startswith(word, at):
                return at + len(word)
        if self.text.startswith("-Infinity", at):
            sign = "I"
        if sign == "/":
            raise _Found(WRONG[sign], at, instead=self.comment(at))
        if sign in WRONG:
            raise _Found(WRONG[sign], at)
        self.unexpected(at, "a value")

    def number(self, at: int) -> int:
        text = self.text
        end = at + (text[at] == "-")
        first = end
        while end < len(text) and text[end] in "0123456789":
            end += 1
        if text.startswith("Infinity", end):
            raise _Found(WRONG["I"], at)
        if end == first:
            self.unexpected(end, "a digit")
        if end - first > self.max_digits:
            raise _Found("out of range: a number of %d digits" % (end - first), at, instead=(at, end, "1".ljust(end - at)))
        if text[first] == "0" and end - first > 1:
            raise _Found("a number must not begin with 0", at, instead=(at, end, "1".ljust(end - at)))
        if end < len(text) and text[end] in ".eE":
            stop = end
            while stop < len(text) and text[stop] in "0123456789.eE+-":
                stop += 1
            raise _Found(
                "only integers are allowed, without a decimal point or exponent", at, instead=(at, stop, text[at:end].ljust(stop - at))
            )
        return end

    def string(self, at: int) -> tuple[str, int]:
        """-> (the text, the position after it)"""
        text = self.text
        end = at + 1
        plain = True
        quote = at
        while True:
            if 0 <= quote < end:  # searched once, or a long string of escapes would take quadratic time
                quote = text.find('"', end)
            stop = quote if quote >= 0 else len(text)
            slash = text.find("\\", end, stop)
            self.controls(end, stop if slash < 0 else slash)
            if slash >= 0:
                plain = False
                end = self.escape(slash)
            elif quote < 0:
                raise _Found("unterminated string", at)
            else:
                return (text[at + 1 : quote] if plain else _unescape(text[at + 1 : quote])), quote + 1

    def controls(self, start: int, stop: int) -> None:
        """Refuses control characters between two positions of a string."""
        piece = self.text[start:stop]
        if not piece.isprintable():  # a fast test first, then an exact one
            for i, c in enumerate(piece):
                if c < " ":
                    raise _Found("a control character (0x%02x) in a string" % ord(c), start + i, instead=(start + i, start + i + 1, " "))

    def escape(self, at: int) -> int:
        sign = self.text[at + 1 : at + 2]
        if sign and sign in '"\\/bfnrt':
            return at + 2
        digits = self.text[at + 2 : at + 6]
        if sign == "u" and len(digits) == 4 and all(c in "0123456789abcdefABCDEF" for c in digits):
            return at + 6
        raise _Found("invalid escape in a string: %s" % errors.quote(self.text[at : at + 6]), at, instead=(at, at + 1, "/"))

    def unexpected(self, at: int, wanted: str) -> NoReturn:
        if at >= len(self.text):
            raise _Found("the text ends, %s expected" % wanted, at)
        if self.text[at] == "\0":
            raise _Found("a NUL byte, %s expected" % wanted, at)
        if self.text.startswith(("//", "/*", "#"), at):
            raise _Found(WRONG["/"], at, instead=self.comment(at))
        instead = None
        if wanted.startswith("a comma") and self.text[at] in '"{[' and self.text[at - 1] in " \t":
            instead = (at - 1, at, ",")
        raise _Found("%s expected, found %s" % (wanted, errors.quote(self.text[at : at + 1])), at, instead=instead)

    def comment(self, at: int) -> tuple[int, int, str]:
        """A comment, and the spaces that replace it."""
        if self.text.startswith("/*", at):
            end = self.text.find("*/", at + 2) + 2
            end = end if end >= at + 4 else len(self.text)
        else:
            end = self.text.find("\n", at)
            end = end if end >= 0 else len(self.text)
        return at, end, "".join(c if c == "\n" else " " for c in self.text[at:end])


class _Finder(_Reader):
    def __init__(self, text: str, pointer: str) -> None:
        super().__init__(text, len(text), len(text))  # a valid text is within every limit
        self.wanted = [s.replace("~1", "/").replace("~0", "~") for s in pointer.split("/")[1:] if pointer != "/"]
        self.at = 0
        self.depth = -1

    def begins(self, at: int) -> None:
        here = [k if isinstance(k, str) else str(k) for k, _ in self.path]
        if len(here) > self.depth and here == self.wanted[: len(here)]:
            self.at, self.depth = at, len(here)
            if self.depth == len(self.wanted):
                raise _Found("here", at)


def _unescape(body: str) -> str:
    """The text of a well-formed string: two spellings of a key are the same key."""
    from _json import scanstring

    return scanstring('"' + body + '"', 1, True)[0]
