#!/usr/bin/python3
"""Large numbers of configs in one process, generated from the schema and by mutating good configs, with a simple generator.

    many.py [--count 1000000] [--seed 1] [--status FILE]

hypothesis (configs.py) finds small examples, but uses most of the time itself. This program spends nearly all of it on the code under test: a
config is a good one with up to three sections generated from the schema and up to six changes, and goes through load, validate and plan. The
n-th config of a seed is always the same. The first one that crashes, hangs or breaks a rule of targets.py is printed, and the exit status is
1.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from harness import Json

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
for folder in ("runtime", "bundles", "tests", "tests/fuzz"):
    if str(ROOT / folder) not in sys.path:
        sys.path.insert(0, str(ROOT / folder))
import configs  # noqa: E402
import targets  # noqa: E402

SECONDS = 2  # seconds of processor time that one config may take
HANG = 60  # seconds of wall clock time
DEEPEST = 6
EACH = 10_000  # configs between two updates of the status file


class Hang(BaseException):
    """Not an Exception, so that no handler of the package catches it."""


class Maker:
    """Configs from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.schema = configs.inline({"$ref": "config-schema.json"}, closed=False)
        self.good = configs.good()

    def config(self) -> Json:
        draw = self.random
        made = copied(draw.choice(self.good))
        for _ in range(draw.choice((0, 1, 1, 2, 3))):
            self.replace_section(made)
        for _ in range(draw.choice((0, 0, 0, 1, 1, 2, 4))):
            self.change(made)
        return made

    # -- from the schema

    def replace_section(self, config: Json) -> None:
        """Replaces one section of configs.SECTIONS with a value that matches the schema."""
        node, place = self.schema, config
        *above, last = self.random.choice(configs.SECTIONS).split("/")[1:]
        for name in above:
            node = node["properties"][name]
            place = place.setdefault(name, {}) if type(place) is dict else {}
        if type(place) is dict:
            place[last] = self.value(node["properties"][last])

    def value(self, node: Json, depth: int = 0) -> Json:
        draw = self.random
        if draw.random() < 0.004:
            return self.anything()
        for key in ("oneOf", "anyOf"):
            if key in node:
                return self.value({**node, **draw.choice(node[key]), key: ()} if node[key] else {}, depth)
        for more in node.get("allOf", ()):
            node = {**node, **more}
        if "enum" in node:
            return draw.choice(node["enum"])
        kind = node.get("type", "object" if "properties" in node else "string")
        kind = draw.choice(kind) if type(kind) is list else kind
        if kind == "object":
            return self.object(node, depth)
        if kind == "array":
            items = node.get("items", {})
            count = draw.choice((0, 1, 1, 2, 3)) if depth < DEEPEST else 0
            return [self.value(items, depth + 1) for _ in range(max(count, node.get("minItems", 0)))]
        if kind in ("integer", "number"):
            return self.number(node)
        return draw.random() < 0.5 if kind == "boolean" else self.text()

    def object(self, node: Json, depth: int) -> Json:
        draw, made = self.random, {}
        required = node.get("required", ())
        for name, below in node.get("properties", {}).items():
            if name in required or (depth < DEEPEST and draw.random() < 0.5):
                made[name] = self.value(below, depth + 1)
        more = node.get("additionalProperties") or next(iter(node.get("patternProperties", {}).values()), None)
        if type(more) is dict and depth < DEEPEST:
            for _ in range(draw.randrange(3)):
                made[self.text()] = self.value(more, depth + 1)
        return made

    def number(self, node: Json) -> int:
        draw = self.random
        low, high = int(node.get("minimum", -(2**63))), int(node.get("maximum", 2**63 - 1))
        if draw.random() < 0.1:
            return draw.choice(configs.NUMBERS)
        return draw.choice((low, high, max(low, 0) + draw.randrange(100), draw.randint(low, max(low, high))))

    # -- mutations

    def change(self, config: Json) -> None:
        """Replaces or removes a value somewhere, or adds a sibling to it."""
        draw, node, key = self.random, config, None
        while True:  # goes down; may stop at each level
            keys = list(node) if type(node) is dict else range(len(node))
            if not keys:
                return
            key = draw.choice(keys)
            if type(node[key]) not in (dict, list) or draw.random() < 0.2:
                break
            node = node[key]
        what = draw.randrange(8)
        if what == 0:
            del node[key]
        elif what == 1 and type(node) is list:
            node.append(copied(node[key]))
        elif what == 1:
            node[draw.choice(("unknown", "UID", "size", str(key).upper(), self.text()))] = copied(node[key])
        elif what == 2 and type(node[key]) is str:
            node[key] = self.torn(node[key])
        elif what == 3 and type(node[key]) is int:
            node[key] = draw.choice((node[key] + 1, -node[key], node[key] << 32, float(node[key]), str(node[key])))
        else:
            node[key] = self.anything()

    def torn(self, text: str) -> str:
        draw = self.random
        at = draw.randrange(len(text) + 1)
        return text[:at] + draw.choice((*configs.WORDS, chr(draw.randrange(1, 0x10FFFF)))) + text[at + draw.randrange(3) :]

    def text(self) -> str:
        return self.random.choice(configs.WORDS) if self.random.random() < 0.9 else self.torn(self.random.choice(configs.WORDS))

    def anything(self) -> Json:
        draw = self.random
        return draw.choice((
            self.text(), self.text(), draw.choice(configs.NUMBERS), None, True, False, [], {}, 1e300, -0.5, [self.text()],
            {self.text(): self.text()}, [[]], {"path": self.text()}, [draw.choice(configs.NUMBERS)],
        ))  # fmt: skip


def copied(node: Json) -> Json:
    if type(node) is dict:
        return {key: copied(value) for key, value in node.items()}
    return [copied(value) for value in node] if type(node) is list else node


def expired(_number: int, _frame: FrameType | None) -> None:
    raise Hang("took longer than %d s" % SECONDS)


def run(count: int, seed: int, status: str | None = None) -> int:
    """Returns the number of configs tried. Raises the exception of the first failing one, with the config in a note."""
    maker, target, began = Maker(seed), targets.TARGETS["loader"], time.monotonic()
    before = [(number, signal.signal(number, expired)) for number in (signal.SIGPROF, signal.SIGALRM)]
    try:
        for number in range(count):
            document = configs.document(maker.config())
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            if number % 256 == 0:  # the wall clock limit is for 256 configs together, which saves a system call for each of them
                signal.alarm(HANG)
            try:
                target(document)
            except BaseException as e:
                e.add_note("config %d of seed %d: %s" % (number, seed, document.decode("utf-8", "backslashreplace")))
                raise
            if status and (number + 1) % EACH == 0:
                pathlib.Path(status).write_text("%d configs of seed %d in %d s\n" % (number + 1, seed, time.monotonic() - began))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in before:
            signal.signal(number, handler)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--status", help="a file that says from time to time how far it is")
    asked = parser.parse_args()
    began = time.monotonic()
    run(asked.count, asked.seed, asked.status)
    print("%d configs of seed %d in %d s, none of them wrong" % (asked.count, asked.seed, time.monotonic() - began))


if __name__ == "__main__":
    main()
