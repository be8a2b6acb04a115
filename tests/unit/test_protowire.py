"""The protocol buffers codec: bytes from the documentation of the format, round trips, and truncated or invalid input."""

import random

import pytest

from pyrunc.linux import protowire
from pyrunc.linux.protowire import BOOL, INT, TEXT, decode, encode

INNER = {"key": (1, TEXT), "value": (2, INT)}
FIELDS = {"a": (1, INT), "b": (2, TEXT), "c": (3, INNER), "on": (16, BOOL), "many": (37, TEXT), "far": (2047, INT)}


@pytest.mark.parametrize(
    ("values", "wire"),
    [
        ({"a": 150}, "08 96 01"),
        ({"b": "testing"}, "12 07 74 65 73 74 69 6e 67"),
        ({"c": {"value": 150}}, "1a 03 10 96 01"),
        ({"a": 0}, "08 00"),
        ({"a": -1}, "08 ff ff ff ff ff ff ff ff ff 01"),
        ({"on": True}, "80 01 01"),
        ({"on": False}, "80 01 00"),
        ({"many": ["x", "yz"]}, "aa 02 01 78 aa 02 02 79 7a"),
        ({"far": 1}, "f8 7f 01"),
        ({"b": ""}, "12 00"),
        ({}, ""),
    ],
)
def test_known_bytes(values, wire):
    assert encode(FIELDS, values) == bytes.fromhex(wire)


def test_absent():
    """None and empty lists are not sent; empty texts, zero and false are."""
    assert encode(FIELDS, {"a": None, "many": [], "c": None}) == b""


def test_order_is_that_of_the_values():
    assert encode(FIELDS, {"b": "x", "a": 1}) == b"\x12\x01x\x08\x01"


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31 - 1, -1, -(2**31), 2**63 - 1, -(2**63)])
def test_numbers_come_back(number):
    assert decode(FIELDS, encode(FIELDS, {"a": number})) == {"a": number}


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
def test_numbers_that_do_not_fit(number):
    with pytest.raises(ValueError, match="64 bits"):
        encode(FIELDS, {"a": number})


def test_unsigned_numbers_keep_their_bits():
    assert encode(FIELDS, {"a": 2**64 - 1}) == encode(FIELDS, {"a": -1})


def test_names_that_are_not_utf8():
    name = b"/caf\xe9".decode("utf-8", "surrogateescape")
    wire = encode(FIELDS, {"b": name})
    assert wire == b"\x12\x05/caf\xe9"
    assert decode(FIELDS, wire) == {"b": name}
    assert encode(FIELDS, {"b": b"/caf\xe9"}) == wire


def test_unknown_fields_are_skipped():
    """One of each wire type: number, eight bytes, text, four bytes."""
    wire = bytes.fromhex("28 01 31 0102030405060708 3a 02 6869 45 01020304") + encode(FIELDS, {"a": 7})
    assert decode(FIELDS, wire) == {"a": 7}


def test_the_last_of_several_counts():
    assert decode(FIELDS, encode(FIELDS, {"a": 1}) + encode(FIELDS, {"a": 2})) == {"a": 2}


def test_repeated_fields():
    fields = {"all": (1, [INNER]), "words": (2, [TEXT]), "n": (3, INT)}
    values = {"all": [{"key": "a"}, {"value": 2}], "words": ["x", "y"], "n": 1}
    assert decode(fields, encode(fields, values)) == values
    assert decode(fields, encode(fields, {"n": 1})) == {"n": 1}


def test_messages_in_messages():
    values = {"c": {"key": "k", "value": -5}, "b": "x"}
    assert decode(FIELDS, encode(FIELDS, values)) == values


@pytest.mark.parametrize(
    "wire",
    [
        "08",  # the number is missing
        "08 ff",  # the number continues
        "08 ff ff ff ff ff ff ff ff ff ff 01",  # more than 64 bits need
        "12 05 61",  # shorter than it says
        "12 ff ff ff ff ff ff ff ff 7f 61",  # far shorter
        "31 01 02",
        "45 01",
        "0b",  # groups are not used
        "0f",  # no such wire type
        "1a 02 08",  # the inner message is truncated
    ],
)
def test_broken(wire):
    with pytest.raises(ValueError):
        decode(FIELDS, bytes.fromhex(wire))


@pytest.mark.parametrize("wire", ["0a 01 31", "10 01", "18 01", "82 01 01 31"])
def test_another_type_than_described(wire):
    with pytest.raises(ValueError, match="another type"):
        decode(FIELDS, bytes.fromhex(wire))


def test_truncated_messages():
    """A message that is truncated anywhere is an error or a shorter message, and never anything else."""
    wire = encode(FIELDS, {"a": 150, "b": "testing", "c": {"key": "k", "value": 1}, "on": True, "many": ["x"]})
    whole = decode(FIELDS, wire)
    for size in range(len(wire)):
        try:
            part = decode(FIELDS, wire[:size])
        except ValueError:
            continue
        assert part.items() <= whole.items()


def test_noise():
    """Random bytes: a dict or a ValueError."""
    dice = random.Random(1)
    for _ in range(3000):
        wire = dice.randbytes(dice.randrange(40))
        try:
            assert isinstance(decode(FIELDS, wire), dict)
        except ValueError:
            continue


def test_nothing_is_imported():
    """Importing it imports no other module."""
    assert not [name for name in vars(protowire) if hasattr(vars(protowire)[name], "__path__")]
