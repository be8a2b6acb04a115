"""Writes JSON for our own use, as bytes: state, plan, config, messages between the sides. jsonio.loads reads it.

The extension does the work (csrc/json.c), in a third of the time of jsonio.dumps and an encode. It leaves to jsonio: names that are not
UTF-8 (lone surrogates), numbers of more than 64 bits, keys that are not str.
"""

from __future__ import annotations

from pyrunc import jsonio
from pyrunc.linux import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.jsonio import Json


def dumps(value: Json) -> bytes:
    """Plain data → one line in UTF-8, without a newline. For our own files: nothing is escaped for terminals."""
    data = _syscalls.json(value, ",")
    return _by_python(value).encode("utf-8", "surrogateescape") if data is None else data


def by_lines(document: dict[str, Json]) -> bytes:
    """An object → lines, each key except the first on a separate line, so that a reader can skip some of them."""
    data = _syscalls.json(document, "\n,")
    if data is None:
        text = "\n,".join(["%s:%s" % (_by_python(key), _by_python(value)) for key, value in document.items()])
        data = ("{%s}" % text).encode("utf-8", "surrogateescape")
    return data[:-1] + b"\n}\n"


def _by_python(value: Json) -> str:
    """TypeError for a float: jsonio.loads refuses it, so the document could be written but never read."""
    left = [value]
    while left:
        one = left.pop()
        if type(one) is float:
            raise TypeError("a float in a document of our own: %r" % one)
        if isinstance(one, dict):
            left += one.values()
        elif isinstance(one, (list, tuple)):
            left += one
    return jsonio.dumps(value)
