"""The part of the protocol buffer wire format that small messages need (protobuf.dev, "Encoding").

A message is described by a dict {name: (number, kind)}: kind is INT (int32, int64, uint32 and enumerations), BOOL, TEXT, a dict for a
nested message, or a list of one of these for a repeated field. Invariant: input is not trusted. Lengths are checked before they are used,
fields that are not described are skipped, and a field whose type differs from the description is an error (ValueError).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeAlias

    Kind: TypeAlias = Any  # INT, BOOL, TEXT, Fields, or a list of one of them: the type would contain itself
    Fields: TypeAlias = Mapping[str, tuple[int, Kind]]
    Value: TypeAlias = Any  # of a field's kind, which only the description of the message knows
    Message: TypeAlias = dict[str, Value]

INT, BOOL, TEXT = "int", "bool", "text"
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MASK, SIGN = (1 << 64) - 1, 1 << 63
VARINT_BYTES = 10


# -- encoding


def encode(fields: Fields, values: Mapping[str, Value]) -> bytes:
    """{name: value} -> bytes, in the order of `values`. A list is a repeated field; None and the empty list are absent."""
    out = bytearray()
    for name, value in values.items():
        number, kind = fields[name]
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                _field(out, number, kind[0] if isinstance(kind, list) else kind, one)
    return bytes(out)


def _field(out: bytearray, number: int, kind: Kind, value: Value) -> None:
    if kind == INT or kind == BOOL:
        _varint(out, number << 3 | VARINT)
        _varint(out, int(value))
        return
    if isinstance(kind, dict):
        body = encode(kind, value)
    else:
        body = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    _varint(out, number << 3 | LENGTH)
    _varint(out, len(body))
    out += body


def _varint(out: bytearray, value: int) -> None:
    """Seven bits per byte, the lowest first; a negative number is encoded as its 64-bit complement."""
    if not -SIGN <= value <= MASK:
        raise ValueError("%d does not fit into 64 bits" % value)
    value &= MASK
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


# -- decoding


def decode(fields: Fields, data: bytes) -> Message:
    """bytes -> {name: value} of the described fields; if one is repeated unexpectedly, the last one is used. ValueError."""
    names = {number: (name, kind) for name, (number, kind) in fields.items()}
    found: Message = {}
    at = 0
    while at < len(data):
        key, at = _take_varint(data, at)
        body, at = _take(data, at, key & 7)
        if key >> 3 not in names:
            continue
        name, kind = names[key >> 3]
        if isinstance(kind, list):
            found.setdefault(name, []).append(_value(name, kind[0], body))
        else:
            found[name] = _value(name, kind, body)
    return found


def _take_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count in range(VARINT_BYTES):
        if at >= len(data):
            raise ValueError("the message ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value & MASK, at
    raise ValueError("a number of more than %d bytes" % VARINT_BYTES)


def _take(data: bytes, at: int, wire: int) -> tuple[int | bytes, int]:
    """(an int, or the bytes of anything else; the offset after it)."""
    if wire == VARINT:
        return _take_varint(data, at)
    if wire == LENGTH:
        size, at = _take_varint(data, at)
    elif wire in (FIXED64, FIXED32):
        size = 8 if wire == FIXED64 else 4
    else:
        raise ValueError("unknown wire type %d" % wire)
    if size > len(data) - at:
        raise ValueError("the message ends within a field")
    return bytes(data[at : at + size]), at + size


def _value(name: str, kind: Kind, body: int | bytes) -> Value:
    if (kind == INT or kind == BOOL) != isinstance(body, int):
        raise ValueError("%s is of another type than expected" % name)
    if isinstance(body, int):
        if kind == BOOL:
            return body != 0
        return body - (1 << 64) if body & SIGN else body
    if isinstance(kind, dict):
        return decode(kind, body)
    return body.decode("utf-8", "surrogateescape")
