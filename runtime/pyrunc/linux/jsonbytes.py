"""What we write for ourselves as JSON, in bytes: state, plan, config, messages between the sides. jsonio.loads reads it.

The extension does it (csrc/json.c), in a third of the time that jsonio.dumps and an encode take. What it leaves to jsonio: names that are not
UTF-8 (lone surrogates), numbers beyond 64 bits, keys that are no str.
"""

from __future__ import annotations

from pyrunc import jsonio
from pyrunc.linux import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def dumps(value: Any) -> bytes:
    """Plain data → one line without a newline, in UTF-8. For files of our own: nothing is escaped for terminals."""
    data = _syscalls.json(value, ",")
    return jsonio.dumps(value).encode("utf-8", "surrogateescape") if data is None else data


def by_lines(document: dict[str, Any]) -> bytes:
    """An object → lines, each key but the first on one of its own, so that a reader can leave some out."""
    data = _syscalls.json(document, "\n,")
    if data is None:
        text = "\n,".join(["%s:%s" % (jsonio.dumps(key), jsonio.dumps(value)) for key, value in document.items()])
        data = ("{%s}" % text).encode("utf-8", "surrogateescape")
    return data[:-1] + b"\n}\n"
