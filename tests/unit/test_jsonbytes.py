"""jsonbytes: the extension's output is identical to that of the json module, and values that it can't write are left to jsonio."""

import json
import random

import pytest

import harness
from pyrunc import jsonio
from pyrunc.linux import _syscalls, jsonbytes

GOOD = [
    None, True, False, 0, -1, (1 << 63) - 1, -(1 << 63), (1 << 64) - 1, 1 << 63, "", "x", [], {}, (), [[]], {"": {}}, ({"a": ()},),
    "".join(map(chr, range(0x180))), "\u2028\ud7ff\ue000\uffff\U0001f600\U0010ffff", '"\\/\b\t\n\v\f\r\x1f\x7f', "é" * 5000, "\0" * 5000,
    {"a": 1, "é\n\"": [True, None, "x", {"b": -5}], "c": {"d": {}, "e": []}},
    [0] * 3000, {str(i): [i, str(i)] for i in range(3000)},
]  # fmt: skip
LEFT = [["\udc80"], {"\ud800": 1}, 1 << 64, -(1 << 63) - 1, [1, [{"a": 10**30}]], {1: 2}, {"a": {None: 1}}]
REFUSED = [b"x", {"a": {1, 2}}, [object], float("nan")]


@pytest.mark.parametrize("value", GOOD, ids=lambda v: repr(v)[:30])
def test_as_json_writes(value):
    data = _syscalls.json(value, ",")
    assert data == json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    assert data == jsonbytes.dumps(value)


@pytest.mark.parametrize("value", LEFT, ids=lambda v: repr(v)[:30])
def test_left_to_jsonio(value):
    assert _syscalls.json(value, ",") is None
    assert jsonbytes.dumps(value) == jsonio.dumps(value).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("value", REFUSED, ids=lambda v: repr(v)[:30])
def test_values_that_json_lacks(value):
    with pytest.raises((TypeError, ValueError)):
        jsonbytes.dumps(value)


@pytest.mark.parametrize("size", (1, 7, 8, 9, 16, 23))
def test_every_character_at_every_place(size):
    """The extension checks eight bytes at a time."""
    texts = [("a" * at + char + "z" * (size - at - 1)) for at in range(size) for char in (*map(chr, range(0x102)), "\u2028", "\U0001f600")]
    assert _syscalls.json(texts, ",") == json.dumps(texts, separators=(",", ":"), ensure_ascii=False).encode()


def test_subclasses_are_left_to_jsonio():
    """They may represent themselves differently from what the extension reads; True and False are the only ones that it accepts."""

    class Word(str):
        pass

    assert _syscalls.json([Word("x")], ",") is None
    assert jsonbytes.dumps([Word("x"), True]) == b'["x",true]'


def nested(levels):
    value = None
    for _ in range(levels):
        value = [{"a": value}]  # type: ignore[dict-item]
    return value


@pytest.mark.parametrize(("levels", "ours"), [(64, True), (100, True), (101, False), (400, False)])
def test_deep_documents(levels, ours):
    """Documents that are read have at most 128 levels; the extension's stack never overflows."""
    value = nested(levels)
    assert (_syscalls.json(value, ",") is not None) == ours
    assert jsonbytes.dumps(value) == jsonio.dumps(value).encode()


def test_very_deep_documents_are_left_to_jsonio():
    assert _syscalls.json(nested(100_000), ",") is None


def any_text(dice):
    return "".join(
        chr(dice.choice((dice.randrange(32), dice.randrange(32, 127), dice.randrange(0xD800)))) for _ in range(dice.randrange(12))
    )


def any_value(dice, depth=0):
    kind = dice.randrange(6 if depth < 6 else 4)
    if kind == 0:
        return dice.choice((None, True, False))
    if kind == 1:
        return dice.choice((-1, 1)) * dice.randrange(1 << dice.randrange(1, 63))
    if kind < 4:
        return any_text(dice)
    if kind == 4:
        return {any_text(dice): any_value(dice, depth + 1) for _ in range(dice.randrange(6))}
    return [any_value(dice, depth + 1) for _ in range(dice.randrange(6))]


@pytest.mark.parametrize("seed", range(20))
def test_any_document(seed):
    dice = random.Random(seed)
    for _ in range(200):
        value = any_value(dice)
        data = jsonbytes.dumps(value)
        assert data == json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        assert json.loads(data) == value


def test_lines():
    """Only the outermost object is split into lines; each member stays on one line."""
    assert jsonbytes.by_lines({}) == b"{\n}\n"
    document = {"a": {"b": 1, "c": [2, 3]}, "d": "x\n,y", "e": {}}
    assert jsonbytes.by_lines(document) == b'{"a":{"b":1,"c":[2,3]}\n,"d":"x\\n,y"\n,"e":{}\n}\n'
    odd = {**document, "f": "\udc80"}
    assert jsonbytes.by_lines(odd).startswith(jsonbytes.by_lines(document)[:-3])
    for path in sorted(harness.ROOT.glob("bundles/*/config.json")) + sorted(harness.ROOT.glob("tests/vectors/*/good/*.json")):
        document = json.loads(path.read_text())
        if type(document) is dict and document:
            data = jsonbytes.by_lines(document)
            assert json.loads(data) == document
            assert len(data.splitlines()) == len(document) + 1


@pytest.mark.parametrize("value", [1.0, [1, {"a": (2, 0.5)}], {"a": {"b": [float("inf")]}}])
def test_floats_are_refused(value):
    """They could be written, but never read: the document, and with it the container, would be lost."""
    with pytest.raises(TypeError, match="a float in a document of our own"):
        jsonbytes.dumps(value)
    with pytest.raises(TypeError, match="a float in a document of our own"):
        jsonbytes.by_lines({"first": 1, "second": value})
