"""JSON pointers (RFC 6901) and functions that use them. For slow paths and small lookups; the fast validator builds pointers only for
errors."""

from __future__ import annotations

from pyrunc.errors import escape_pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyrunc.jsonio import Json
    from pyrunc.oci.schema_table import Rule


def join(*steps: str | int) -> str:
    """('process', 'env', 3) -> '/process/env/3'"""
    return "".join("/" + (escape_pointer(s) if isinstance(s, str) else str(s)) for s in steps)


def split(pointer: str) -> list[str]:
    """'/annotations/a~1b' -> ['annotations', 'a/b']"""
    return [s.replace("~1", "/").replace("~0", "~") for s in pointer.split("/")[1:]]


def get(document: Json, pointer: str, default: Json = None) -> Json:
    """The value that a pointer leads to, through objects and lists."""
    node = document
    for step in split(pointer):
        if type(node) is dict and step in node:
            node = node[step]
        elif type(node) is list and step.isascii() and step.isdecimal() and int(step) < len(node):
            node = node[int(step)]
        else:
            return default
    return node


def strings(document: Json) -> Iterator[tuple[str, str]]:
    """Yields (pointer, text) for each string value, but not for keys, in document order. Not recursive."""
    pending = [("", document)]
    while pending:
        pointer, node = pending.pop()
        kind = type(node)
        if kind is str:
            yield pointer, node
        elif kind is dict:
            pending += [(pointer + "/" + escape_pointer(k), v) for k, v in reversed(node.items())]
        elif kind is list:
            pending += [("%s/%d" % (pointer, i), node[i]) for i in range(len(node) - 1, -1, -1)]


def unknown(document: Json, rule: Rule) -> list[str]:
    """Pointers of keys that the schema does not know, for `validate --strict`. `rule` is one of schema_table."""
    out = []
    pending = [("", document, rule)]
    while pending:
        pointer, node, rule = pending.pop()
        if rule[0] == "o" and type(node) is dict:
            for key, value in node.items():
                below = rule[2].get(key) or rule[3]
                if below is None:
                    if rule[2]:  # objects without known keys are not checked
                        out.append(pointer + "/" + escape_pointer(key))
                else:
                    pending.append((pointer + "/" + escape_pointer(key), value, below))
        elif rule[0] == "a" and type(node) is list:
            pending += [("%s/%d" % (pointer, i), value, rule[1]) for i, value in enumerate(node)]
    return sorted(out)
