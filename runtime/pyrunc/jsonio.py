"""Reads and writes JSON with the built-in `_json` alone: importing json costs 6 ms, more than many commands take.

Nothing is imported that is not built into the interpreter, and json is never loaded while the text is good (test_jsonio watches
sys.modules). `_json` is a private module, so this file is tested with every supported Python.

`loads` is stricter than Python's json module: UTF-8 without a BOM, one document, no duplicate keys, integers of at most 20 digits and no
other numbers, at most DEPTH levels, no lone surrogates except those that represent bytes (U+DC80..U+DCFF).
"""

from __future__ import annotations

from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

from pyrunc import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TypeAlias

    Json: TypeAlias = Any  # a value of a document that is read or written: every type occurs, and the schema checks it


BRACKETS = 1000  # levels that the scanner, which is recursive, can handle with any stack limit of the caller
DEPTH = 128  # levels of lists and objects; the deepest place of the schema is level 9
DIGITS = 20  # of an integer: 2^64 has 20; int() itself takes any number and more than 4300 digits are an error in other words
BLANK = " \t\n\r"


# --- reading


class _Stop(Exception):
    """Raised in a hook to leave the scanner of `_json`; json_errors finds the place afterwards."""


def _pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Stop
    return made


def _integer(text: str) -> int:
    if len(text) > DIGITS and len(text.lstrip("-")) > DIGITS:
        raise _Stop
    return int(text)


def _number(text: str) -> NoReturn:
    raise _Stop


class _Context:
    """The fields of a json.JSONDecoder that make_scanner reads."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_pairs)
    parse_float = staticmethod(_number)
    parse_int = staticmethod(_integer)
    parse_constant = staticmethod(_number)


class _Ours:
    """For documents that dumps() wrote: the scanner makes objects and integers itself, in half the time."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = staticmethod(_number)
    parse_int = int
    parse_constant = staticmethod(_number)


# each looks up all the fields when it is made, and only then
_scan = make_scanner(_Context)  # type: ignore[arg-type]  # declared as a JSONDecoder, of which only these fields are read
_scan_ours = make_scanner(_Ours)  # type: ignore[arg-type]


def loads(data: bytes | bytearray | memoryview | str, name: str = "JSON", ours: bool = False) -> Json:
    """bytes (or str) -> the document. Refusal: the words begin with `name`, then line and column; the pointer is given where it is known.

    NUL is refused in keys; values are checked by the caller (oci.load refuses it there too). `ours`: the text was written by dumps() in a
    place that only we can write, so duplicate keys and long integers are not searched for."""
    if isinstance(data, str):
        text = data
    else:
        try:
            text = bytes(data).decode()
        except UnicodeDecodeError:
            _misread(data, name)
    brackets = text.count("{") + text.count("[")
    if brackets > BRACKETS and _nested(text):
        _misread(text, name)
    start = 0 if text[:1] in ("{", "[") else len(text) - len(text.lstrip(BLANK))
    try:
        document, end = (_scan_ours if ours else _scan)(text, start)
    except (_Stop, StopIteration, ValueError, RecursionError, ImportError, AttributeError, SystemError):
        # bad text: the scanner looks for its exception in json.decoder. 3.13 imports that (ImportError where it can't), 3.11
        # takes what is loaded or returns without an exception (SystemError)
        _misread(text, name)
    if text[end:].strip(BLANK):
        _misread(text, name)
    if brackets > DEPTH and too_deep(document):
        _misread(text, name)
    if "\\u" in text and ("\\ud" in text or "\\uD" in text or "\\u0000" in text):  # the only ways to write them
        _check_strings(document, name)
    return document


def _misread(text: bytes | bytearray | memoryview | str, name: str) -> NoReturn:
    """Raises the Refusal that describes what is wrong and where. The code for it is in a module that is loaded only then."""
    try:
        from pyrunc import json_errors
    except ImportError:  # behind the import barrier
        raise errors.Refusal("not-json", "%s: malformed JSON" % name, "/") from None
    raise json_errors.explain(text, name, DEPTH, DIGITS) from None


def _nested(text: str) -> bool:
    """Whether brackets outside of strings are open more than DEPTH levels deep, found without recursion."""
    depth = 0
    for outside in text.replace("\\\\", "").replace('\\"', "").split('"')[::2]:
        for char in outside:
            if char in "[{":
                depth += 1
                if depth > DEPTH:
                    return True
            elif char in "]}":
                depth -= 1
    return False


def too_deep(document: Json, limit: int = DEPTH) -> bool:
    """Whether lists and objects are nested more than `limit` levels deep. Works level by level, without recursion."""
    level = [document]
    for _ in range(limit):
        below = []
        for node in level:
            kind = type(node)
            if kind is dict:
                node = node.values()
            elif kind is not list:
                continue
            below += [v for v in node if type(v) is dict or type(v) is list]
        if not below:
            return False
        level = below
    return True


def _check_strings(document: Json, name: str) -> None:
    """Refuses lone surrogates that don't represent bytes, and NUL in keys."""
    pending = [("", document)]
    while pending:
        pointer, node = pending.pop()
        if type(node) is str:
            _check_string(node, pointer, name)
        elif type(node) is list:
            pending += [("%s/%d" % (pointer, i), v) for i, v in enumerate(node)]
        elif type(node) is dict:
            for key, value in node.items():
                below = pointer + "/" + errors.escape_pointer(key)
                _check_string(key, below, name)
                if "\0" in key:
                    raise errors.Refusal("nul", "%s: NUL in a key" % name, errors.quote(below))
                pending.append((below, value))


def _check_string(text: str, pointer: str, name: str) -> None:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as e:
        words = "%s: lone surrogate U+%04X in a string" % (name, ord(text[e.start]))
        raise errors.Refusal("lone-surrogate", words, errors.quote(pointer) or "/") from None


# --- writing


def dumps(value: Json, indent: int | str | None = None) -> str:
    """Plain data -> str, on one line or indented (`indent`: a number of blanks, or the text of one level). A string is written unchanged if a
    terminal can show it; one with control characters, also those beyond ASCII (C1, changes of direction, widths of zero), or with
    surrogates (bytes in names) is written with \\uXXXX for everything beyond ASCII."""
    text = _dump(value, indent, encode_basestring)
    if text.isascii() and "\x7f" not in text:  # the encoder escapes every other control character of ASCII
        return text
    plain = text if indent is None else text.replace("\n", "").replace("\t", "")  # inside of strings these two are escaped
    return text if plain.isprintable() else _dump(value, indent, _visible)


def _visible(text: str) -> str:
    return encode_basestring(text) if text.isprintable() else encode_basestring_ascii(text)


def _dump(value: Json, indent: int | str | None, quote: Callable[[str], str]) -> str:
    if indent is None:
        return "".join(_ENCODERS[quote](value, 0))
    out: list[str] = []  # the C encoder has no indentation before Python 3.14
    _indented(value, "\n", indent if isinstance(indent, str) else " " * indent, quote, out.append)
    return "".join(out)


def _indented(value: Json, line: str, step: str, quote: Callable[[str], str], put: Callable[[str], object]) -> None:
    kind = type(value)
    if kind is str:
        put(quote(value))
    elif kind is dict and value:
        before = "{" + line + step
        for key, item in value.items():
            put(before + quote(key if type(key) is str else str(key)) + ": ")
            _indented(item, line + step, step, quote, put)
            before = "," + line + step
        put(line + "}")
    elif (kind is list or kind is tuple) and value:
        before = "[" + line + step
        for item in value:
            put(before)
            _indented(item, line + step, step, quote, put)
            before = "," + line + step
        put(line + "]")
    else:
        put(_dump(value, None, quote))


def _unknown(value: object) -> NoReturn:
    raise TypeError("no JSON form: " + type(value).__name__)


_ENCODERS = {quote: make_encoder(None, _unknown, quote, None, ":", ",", False, False, False) for quote in (encode_basestring, _visible)}
