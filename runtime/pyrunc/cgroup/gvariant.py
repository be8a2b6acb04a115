"""GVariant text, as in annotations `org.systemd.property.NAME` -> (D-Bus signature, value).

docs.gtk.org/glib/gvariant-text-format.html. Invariant: text that is not fully understood is an error, never a guess. Supported: booleans,
numbers with and without a type word, strings, arrays, tuples, variants, and type annotations (@as []).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.linux.dbus import Value

WORDS = {
    "boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t", "handle": "h",
    "double": "d", "string": "s", "objectpath": "o", "signature": "g",
}  # fmt: skip
RANGES = {
    "y": (0, 1 << 8), "n": (-(1 << 15), 1 << 15), "q": (0, 1 << 16), "i": (-(1 << 31), 1 << 31), "u": (0, 1 << 32),
    "h": (-(1 << 31), 1 << 31),
    "x": (-(1 << 63), 1 << 63), "t": (0, 1 << 64),
}  # fmt: skip
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\", "'": "'", '"': '"'}
SPECIAL = "[](),<>'\"@"
DEPTH = 16


class Unreadable(ValueError):
    """The text is not GVariant text, or uses something unsupported."""


def parse(text: str) -> tuple[str, Value]:
    """'uint64 5' -> ('t', 5). Unreadable."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unreadable("it is not UTF-8") from None
    reader = _Reader(text)
    found = reader.value(None, 0)
    reader.blanks()
    if reader.at != len(text):
        raise Unreadable("unexpected text %r" % text[reader.at :][:40])
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def blanks(self) -> None:
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1

    def peek(self) -> str:
        self.blanks()
        return self.text[self.at : self.at + 1]

    def take(self, char: str) -> None:
        if self.peek() != char:
            raise Unreadable("%s is missing at %d" % (char, self.at))
        self.at += 1

    def word(self) -> str:
        self.blanks()
        begin = self.at
        while self.at < len(self.text) and not self.text[self.at].isspace() and self.text[self.at] not in SPECIAL:
            self.at += 1
        return self.text[begin : self.at]

    def value(self, kind: str | None, depth: int) -> tuple[str, Value]:
        """(signature, value); `kind` is the expected signature, or None for any."""
        char = self.peek()
        if depth > DEPTH:
            raise Unreadable("nested too deeply")
        if char == "@":
            return self._annotated(kind, depth)
        if char == "[":
            return self._array(kind, depth)
        if char == "(":
            return self._tuple(kind, depth)
        if char == "<":
            return self._variant(kind, depth)
        if char in ("'", '"') and char:
            return _typed(kind, "s", ("s", "o", "g"), self._string())
        word = self.word()
        if word in WORDS:
            return self.value(_agree(kind, WORDS[word]), depth + 1)
        if word in ("true", "false"):
            return _typed(kind, "b", ("b",), word == "true")
        return _number(word, kind)

    def _annotated(self, kind: str | None, depth: int) -> tuple[str, Value]:
        from pyrunc.linux.dbus import split

        self.at += 1
        begin = self.at
        while self.at < len(self.text) and not self.text[self.at].isspace():
            self.at += 1
        signature = self.text[begin : self.at]
        try:
            if len(split(signature)) != 1:
                raise ValueError
        except ValueError:
            raise Unreadable("%r is not a type" % signature) from None
        return self.value(_agree(kind, signature), depth + 1)

    def _string(self) -> str:
        end = self.text[self.at]
        out: list[str] = []
        self.at += 1
        while True:
            char = self.text[self.at : self.at + 1]
            self.at += 1
            if not char:
                raise Unreadable("a string without an end")
            if char == end:
                return "".join(out)
            if char == "\\":
                char = self._escape()
            if char == "\0":
                raise Unreadable("a NUL byte in a string")
            out.append(char)

    def _escape(self) -> str:
        char = self.text[self.at : self.at + 1]
        self.at += 1
        if char in ESCAPES:
            return ESCAPES[char]
        size = {"u": 4, "U": 8}.get(char, 0)
        digits = self.text[self.at : self.at + size]
        if not size or len(digits) != size or not digits.isascii() or not digits.isalnum():
            raise Unreadable("unknown escape \\%s" % char)
        self.at += size
        try:
            char = chr(int(digits, 16))
            char.encode()  # a lone surrogate is not a character
            return char
        except (ValueError, OverflowError):
            raise Unreadable("unknown escape \\%s%s" % (char, digits)) from None

    def _array(self, kind: str | None, depth: int) -> tuple[str, Value]:
        if kind is not None and kind[0] != "a":
            raise Unreadable("an array where %s is wanted" % kind)
        item = kind[1:] if kind else None
        self.take("[")
        out: list[Value] = []
        while self.peek() != "]":
            if out:
                self.take(",")
            item, value = self.value(item, depth + 1)
            out.append(value)
        self.at += 1
        if item is None:
            raise Unreadable("an empty array needs a type, such as @as []")
        return "a" + item, out

    def _tuple(self, kind: str | None, depth: int) -> tuple[str, Value]:
        from pyrunc.linux.dbus import split

        if kind is not None and kind[0] != "(":
            raise Unreadable("a tuple where %s is wanted" % kind)
        wanted = split(kind[1:-1]) if kind else None
        self.take("(")
        kinds: list[str] = []
        values: list[Value] = []
        while self.peek() != ")":
            if values:
                self.take(",")
                if self.peek() == ")":
                    break
            if wanted is not None and len(values) >= len(wanted):
                raise Unreadable("too many values for %s" % kind)
            found, value = self.value(wanted[len(values)] if wanted else None, depth + 1)
            kinds.append(found)
            values.append(value)
        self.at += 1
        if not values or (wanted is not None and len(values) != len(wanted)):
            raise Unreadable("too few values in a tuple")
        return "(%s)" % "".join(kinds), tuple(values)

    def _variant(self, kind: str | None, depth: int) -> tuple[str, Value]:
        self.take("<")
        inner = self.value(None, depth + 1)
        self.take(">")
        return _typed(kind, "v", ("v",), inner)


def _agree(wanted: str | None, given: str) -> str:
    if wanted is not None and wanted != given:
        raise Unreadable("%s where %s is wanted" % (given, wanted))
    return given


def _typed(kind: str | None, default: str, allowed: Sequence[str], value: Value) -> tuple[str, Value]:
    if kind is not None and kind not in allowed:
        raise Unreadable("%r where %s is wanted" % (value, kind))
    return kind or default, value


def _number(word: str, kind: str | None) -> tuple[str, int | float]:
    """A number without a type is an int32, or a double if it has a point or exponent."""
    bare = word[1:] if word[:1] in ("+", "-") else word
    if not bare or not bare.isascii() or not bare[0].isdigit() or "_" in bare:
        raise Unreadable("%r is not a value" % word[:40])
    whole = bare.isdigit() or bare[:2] in ("0x", "0X")
    if kind == "d" or (kind is None and not whole):
        try:
            return "d", float(word)
        except ValueError:
            raise Unreadable("%r is not a number" % word[:40]) from None
    kind = kind or "i"
    if kind not in RANGES or not whole or len(bare) > 20:
        raise Unreadable("%r where %s is wanted" % (word[:40], kind))
    try:
        number = int(bare, 16 if bare[:2] in ("0x", "0X") else 8 if bare[0] == "0" and len(bare) > 1 else 10)
    except ValueError:
        raise Unreadable("%r is not a number" % word[:40]) from None
    number = -number if word.startswith("-") else number
    low, high = RANGES[kind]
    if not low <= number < high:
        raise Unreadable("%d is out of range for %s" % (number, kind))
    return kind, number
