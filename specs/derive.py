#!/usr/bin/env python3
"""Generates runtime/pyrunc/oci/schema_table.py, the fast validator's table, from the JSON schemas in this directory.

    specs/derive.py             writes the table
    specs/derive.py --check checks whether the table in the tree is up to date

The schemas are authoritative and kept verbatim; put new ones here, then run this. It supports the part of draft-04 that they use and stops
at anything else, so that no rule is silently lost. `pattern` becomes a list of character classes that oci/validate.py matches itself: `re`
is too slow to load for a runtime. Sections for other platforms become "an object": normalisation drops them before validation, and
`validate --schema-only` still checks them with jsonschema.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shapes import Json

    Unit = tuple[str, int, int | None, bool]  # characters, least, most, whether they are the ones excluded


HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE.parent / "runtime/pyrunc/oci/schema_table.py"
FOREIGN = ("solaris", "windows", "vm", "zos", "freebsd")
IGNORED = {"description", "$schema", "definitions"}
ANY_KEY = ".{1,}"

HEAD = '''"""The JSON schemas of the runtime-spec as one table. Made by specs/derive.py; not to be edited.

A rule is a tuple, its kind first:
  ("s",) string   ("b",) true or false   ("i", low, high) integer in a range   ("n", low or None) integer   ("e", words) one of these
  ("p", pattern, units) string: units are (characters, least, most or None, whether these are the ones excluded)
  ("o", required, properties, rest) object: rest is the rule for values of all other keys, or None
  ("a", rule, least) list   ("x",) anything
"""

'''


class Derived:
    """Reads the schemas and gives each distinct rule a name."""

    def __init__(self) -> None:
        self.files: dict[str, Json] = {}
        self.names: dict[str, str] = {}  # text of a rule -> its name in the table
        self.lines: list[str] = []

    def load(self, name: str) -> Json:
        if name not in self.files:
            self.files[name] = json.loads((HERE / name).read_text())
        return self.files[name]

    def resolve(self, ref: str, here: str) -> tuple[Json, str]:
        name, _, pointer = ref.partition("#")
        node = self.load(name or here)
        for step in pointer.strip("/").split("/"):
            node = node[step]
        return node, name or here

    def flat(self, node: Json, here: str) -> tuple[Json, str]:
        """-> (schema without $ref, allOf and anyOf, the file that contains it)."""
        while True:
            if "$ref" in node:  # draft-04: keywords next to a $ref are ignored
                node, here = self.resolve(node["$ref"], here)
            elif "anyOf" in node:
                known(node, {"anyOf"})
                (node,) = node["anyOf"]
            elif "allOf" in node:
                node = self.merged(node, here)
            else:
                return node, here

    def merged(self, node: Json, here: str) -> Json:
        known(node, {"allOf", "type"})
        out: Json = {"type": "object", "properties": {}, "required": []}
        for part in node["allOf"]:
            part, where = self.flat(part, here)
            known(part, {"type", "properties", "required"})
            assert part["type"] == "object"
            out["required"] += part.get("required", [])
            for key, value in part.get("properties", {}).items():
                out["properties"][key] = {"$ref": value["$ref"] if where == here or "#" != value["$ref"][0] else where + value["$ref"]}
        return out

    def rule(self, node: Json, here: str, top: str = "") -> str:
        """-> the text of the rule: a name of the table."""
        node, here = self.flat(node, here)
        kind = node.get("type")
        if kind is None:
            known(node, set())
            return self.name(show(("x",)))
        text: str = getattr(self, "on_" + kind)(node, here, top)  # by the name of the type in the schema
        return self.name(text)

    def on_string(self, node: Json, here: str, top: str) -> str:
        known(node, {"type", "enum", "pattern"})
        if "enum" in node:
            return show(("e", tuple(node["enum"])))
        if "pattern" in node:
            return show(("p", node["pattern"], units(node["pattern"])))
        return show(("s",))

    def on_boolean(self, node: Json, here: str, top: str) -> str:
        known(node, {"type"})
        return show(("b",))

    def on_integer(self, node: Json, here: str, top: str) -> str:
        known(node, {"type", "minimum", "maximum"})
        low, high = node.get("minimum"), node.get("maximum")
        if high is None:
            return show(("n", low))
        return show(("i", low, high))

    def on_array(self, node: Json, here: str, top: str) -> str:
        known(node, {"type", "items", "minItems"})
        return '("a", %s, %d)' % (self.rule(node["items"], here), node.get("minItems", 0))

    def on_object(self, node: Json, here: str, top: str) -> str:
        known(node, {"type", "properties", "required", "additionalProperties", "patternProperties"})
        rest = "None"
        if "patternProperties" in node:
            ((pattern, value),) = node["patternProperties"].items()
            assert pattern == ANY_KEY and not node.get("properties")
            rest = self.rule(value, here)
        if "additionalProperties" in node:
            rest = self.rule(node["additionalProperties"], here)
        props = []
        for key, value in node.get("properties", {}).items():
            rule = self.name('("o", (), {}, None)') if top == "config" and key in FOREIGN else self.rule(value, here)
            props.append("%s: %s" % (show(key), rule))
        return '("o", %s, {%s}, %s)' % (show(tuple(node.get("required", ()))), ", ".join(props), rest)

    def name(self, text: str) -> str:
        if text not in self.names:
            self.names[text] = "_%d" % len(self.names)
            self.lines.append("%s = %s\n" % (self.names[text], text))
        return self.names[text]


def show(value: object) -> str:
    """repr with double quotes."""
    if isinstance(value, tuple):
        return "(%s%s)" % (", ".join(map(show, value)), "," if len(value) == 1 else "")
    return json.dumps(value) if isinstance(value, str) else repr(value)


def known(node: Json, keys: set[str]) -> None:
    """Stops at an unsupported keyword."""
    more = set(node) - keys - IGNORED
    if more:
        raise SystemExit("derive: unknown keywords %s in %s" % (sorted(more), json.dumps(node)[:200]))


def units(pattern: str) -> tuple[Unit, ...]:
    """An anchored pattern of plain characters and classes -> ((characters, least, most, excluded), …). Each unit matches greedily, so
    neighbours of variable length must not share characters: then the result is the same as with `re`."""
    if pattern[0] != "^" or pattern[-1] != "$":
        raise SystemExit("derive: pattern %r is not anchored" % pattern)
    body, at = pattern[1:-1], 0
    out: list[Unit] = []
    while at < len(body):
        excluded = False
        if body[at] == "[":
            end = body.index("]", at + 1)
            chars = body[at + 1 : end]
            if chars[0] == "^":
                excluded, chars = True, chars[1:]
            chars, at = spread(chars.replace("\\n", "\n")), end + 1
        else:
            assert body[at] not in "\\.(){}|*+?", pattern
            chars, at = body[at], at + 1
        least: int = 1
        most: int | None = 1
        if body[at : at + 1] in ("*", "+"):
            least, most, at = int(body[at] == "+"), None, at + 1
        if out and out[-1][2] is None:
            assert not excluded and not out[-1][3] and not set(chars) & set(out[-1][0]), pattern
        out.append((chars, least, most, excluded))
    return tuple(out)


def spread(chars: str) -> str:
    """'A-Z_' -> all the characters; a '-' at an end is literal."""
    out, at = "", 0
    while at < len(chars):
        if chars[at + 1 : at + 2] == "-" and at + 2 < len(chars):
            out += "".join(map(chr, range(ord(chars[at]), ord(chars[at + 2]) + 1)))
            at += 3
        else:
            out += chars[at]
            at += 1
    return out


def table() -> str:
    """The text of schema_table.py."""
    made = Derived()
    config = made.load("config-schema.json")
    roots = {what: made.rule(made.load(what + "-schema.json"), what + "-schema.json", what) for what in ("config", "state", "features")}
    roots["process"] = made.rule(config["properties"]["process"], "config-schema.json")
    roots["resources"] = made.rule(made.load("config-linux.json")["linux"]["properties"]["resources"], "config-linux.json")
    tail = "\nROOTS = {%s}\nFOREIGN = %s\n" % (", ".join("%s: %s" % (show(k), v) for k, v in roots.items()), show(FOREIGN))
    return HEAD + "# fmt: off\n# ruff: noqa\n# mypy: ignore-errors\n" + "".join(made.lines) + tail


def main(args: list[str]) -> int:
    text = table()
    if args == ["--check"]:
        same = TARGET.exists() and TARGET.read_text() == text
        print("up to date" if same else "out of date: run specs/derive.py")
        return 0 if same else 1
    TARGET.write_text(text)
    print("%s: %d bytes" % (TARGET, len(text)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
