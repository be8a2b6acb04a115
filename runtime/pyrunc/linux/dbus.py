"""The part of the D-Bus protocol that systemd's manager needs: one connection, method calls, one kind of signal.

dbus.freedesktop.org/doc/dbus-specification.html. Invariant: every wait has a deadline. Implemented here rather than taken from a library
because it is small and runs in the process that creates containers. Values of variants are (signature, value).
"""

from __future__ import annotations

import errno
import posix
import select
import time
from _socket import AF_UNIX, MSG_DONTWAIT, SO_SNDTIMEO, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket
from _struct import error as StructError  # type: ignore[attr-defined]  # the stubs of _struct lack it
from _struct import pack, unpack_from

from pyrunc.errors import CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    Value: TypeAlias = Any  # what a signature describes: numbers, str, lists, tuples, dicts, (signature, value) for a variant
    Buffer: TypeAlias = bytes | bytearray
    Fields: TypeAlias = dict[int, Value]  # of a header: {code: value}
    Message: TypeAlias = tuple[int, Fields, bytes]

CALL, REPLY, ERROR, SIGNAL = 1, 2, 3, 4
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE = range(1, 9)
FIXED = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "h": "I"}
SIZES = {
    "y": 1,
    "n": 2,
    "q": 2,
    "i": 4,
    "u": 4,
    "x": 8,
    "t": 8,
    "d": 8,
    "h": 4,
    "b": 4,
    "s": 4,
    "o": 4,
    "a": 4,
    "g": 1,
    "v": 1,
    "(": 8,
    "{": 8,
}
LIMIT = 128 << 20  # of a message, from the specification
LINE_LIMIT = 16 << 10  # of a line before the first message
BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class DBusError(Exception):
    """An error reply. `name` is the D-Bus name of the error."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__("%s (%s)" % (text, name) if text else name)
        self.name = name
        self.text = text


# --- values


def split(signature: str) -> list[str]:
    """'sa(sv)u' -> ['s', 'a(sv)', 'u']: the complete types of a signature. ValueError for anything else."""
    out = []
    at = 0
    while at < len(signature):
        end = _end(signature, at)
        out.append(signature[at:end])
        at = end
    return out


def _end(signature: str, at: int) -> int:
    if at >= len(signature):
        raise ValueError("signature ends too early: %s" % signature)
    char = signature[at]
    if char == "a":
        return _end(signature, at + 1)
    if char in "({":
        close = ")" if char == "(" else "}"
        at += 1
        begin, members = at, 0
        while at < len(signature) and signature[at] != close:
            at = _end(signature, at)
            members += 1
        if at >= len(signature):
            raise ValueError("signature is not closed: %s" % signature)
        if not members:  # an array of structures without members would never end
            raise ValueError("empty structure in signature: %s" % signature)
        if char == "{" and (members != 2 or signature[begin] in "av({"):
            raise ValueError("not a key and a value in signature: %s" % signature)
        return at + 1
    if char not in SIZES:
        raise ValueError("unknown type %s in signature %s" % (char, signature))
    return at + 1


def marshal(signature: str, values: Sequence[Value], out: bytearray) -> bytearray:
    """Appends values to the bytearray `out`, little-endian, aligned from its beginning."""
    for kind, value in zip(split(signature), values, strict=True):
        _put(kind, value, out)
    return out


def _pad(out: bytearray, size: int) -> None:
    out.extend(b"\0" * (-len(out) % size))


def _put(kind: str, value: Value, out: bytearray) -> None:
    head = kind[0]
    _pad(out, SIZES[head])
    if head in FIXED:
        out.extend(pack("<" + FIXED[head], value))
    elif head == "b":
        out.extend(pack("<I", 1 if value else 0))
    elif head in "so":
        data = value.encode("utf-8")
        if 0 in data:
            raise ValueError("a string with a NUL byte")
        out.extend(pack("<I", len(data)) + data + b"\0")
    elif head == "g":
        out.extend(pack("<B", len(value)) + value.encode("ascii") + b"\0")
    elif head == "v":
        _put("g", value[0], out)
        _put(value[0], value[1], out)
    elif head == "a":
        _put_array(kind[1:], value, out)
    else:
        for item_kind, item in zip(split(kind[1:-1]), value, strict=True):
            _put(item_kind, item, out)


def _put_array(kind: str, values: Value, out: bytearray) -> None:
    place = len(out)
    out.extend(b"\0\0\0\0")
    _pad(out, SIZES[kind[0]])
    begin = len(out)
    for item in values.items() if isinstance(values, dict) else values:
        _put(kind, item, out)
    out[place : place + 4] = pack("<I", len(out) - begin)


def unmarshal(signature: str, data: Buffer, at: int = 0) -> list[Value]:
    """bytes -> list of values of a message body (little-endian)."""
    out = []
    for kind in split(signature):
        value, at = _get(kind, data, at)
        out.append(value)
    return out


def _get(kind: str, data: Buffer, at: int) -> tuple[Value, int]:
    head = kind[0]
    at += -at % SIZES[head]
    if head in FIXED:
        return unpack_from("<" + FIXED[head], data, at)[0], at + SIZES[head]
    if head == "b":
        return unpack_from("<I", data, at)[0] != 0, at + 4
    if head in "so":
        size = unpack_from("<I", data, at)[0]
        return bytes(data[at + 4 : at + 4 + size]).decode("utf-8", "surrogateescape"), at + 5 + size
    if head == "g":
        size = data[at]
        return bytes(data[at + 1 : at + 1 + size]).decode("ascii"), at + 2 + size
    if head == "v":
        inner, at = _get("g", data, at)
        value, at = _get(inner, data, at)
        return (inner, value), at
    if head == "a":
        return _get_array(kind[1:], data, at)
    values = []
    for item_kind in split(kind[1:-1]):
        value, at = _get(item_kind, data, at)
        values.append(value)
    return tuple(values), at


def _get_array(kind: str, data: Buffer, at: int) -> tuple[Value, int]:
    size = unpack_from("<I", data, at)[0]
    at += 4
    at += -at % SIZES[kind[0]]
    end = at + size
    if size > LIMIT or end > len(data):
        raise ValueError("an array of %d bytes in a message of %d" % (size, len(data)))
    values = []
    while at < end:
        value, at = _get(kind, data, at)
        values.append(value)
    return (dict(values) if kind[0] == "{" else values), at


# --- messages


def message(kind: int, serial: int, fields: dict[int, tuple[str, Value]], signature: str = "", values: Sequence[Value] = ()) -> bytes:
    """The bytes of one message. fields: {code: (signature, value)}."""
    body = marshal(signature, values, bytearray())
    if signature:
        fields = dict(fields)
        fields[SIGNATURE] = ("g", signature)
    out = bytearray(pack("<cBBBII", b"l", kind, 0, 1, len(body), serial))
    _put_array("(yv)", sorted(fields.items()), out)
    _pad(out, 8)
    return bytes(out + body)


def header(data: Buffer) -> tuple[int, Fields, int, int] | None:
    """(kind, fields {code: value}, where the body begins, where it ends) of the first message in `data`, or None if it is incomplete."""
    if len(data) < 16:
        return None
    if data[0:1] != b"l":
        raise ValueError("a message in the other byte order")
    body_size, _serial, fields_size = unpack_from("<III", data, 4)
    body_at = 16 + fields_size + -fields_size % 8
    if body_size > LIMIT or fields_size > LIMIT:
        raise ValueError("a message of %d bytes" % (body_at + body_size))
    if len(data) < body_at + body_size:
        return None
    pairs, _ = _get_array("(yv)", data, 12)
    fields = {code: value[1] for code, value in pairs}
    if not isinstance(fields.get(SIGNATURE, ""), str):
        raise ValueError("a signature that is not a text")
    return data[1], fields, body_at, body_at + body_size


def _values(fields: Fields, body: bytes) -> list[Value]:
    """The values of a body. ValueError if it does not match its signature."""
    try:
        return unmarshal(fields.get(SIGNATURE, ""), body)
    except (IndexError, StructError, RecursionError):
        raise ValueError("a message that does not match its signature") from None


# --- connection


class Connection:
    """A connection to a bus, or to systemd's private socket (is_bus False: no Hello, no match rules, no names of senders). A signal counts
    only if it comes from the owner of the name that was called: on a bus any client may send one. deadline: a time.monotonic(). CallError if
    the socket fails, TimeoutError after the deadline, DBusError for error replies."""

    def __init__(self, path: str, deadline: float, is_bus: bool = True) -> None:
        self.serial = 0
        self.data = bytearray()
        self.signals: list[tuple[Fields, bytes]] = []  # with their bodies, which are decoded only if the signal is the right one
        self.owners: dict[str, str | None] = {}  # {name: the unique name of its owner}
        self.is_bus = is_bus
        self.socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            self._open(path, deadline)
        except BaseException:
            self.close()
            raise

    def _open(self, path: str, deadline: float) -> None:
        left = max(0.0, deadline - time.monotonic())  # connect(2) waits if the queue of the bus is full
        self.socket.setsockopt(SOL_SOCKET, SO_SNDTIMEO, pack("ll", int(left), int(left % 1 * 1e6) + 1))
        try:
            self.socket.connect(path)
        except BlockingIOError:
            raise TimeoutError(errno.ETIMEDOUT, "no answer over D-Bus in time") from None
        except OSError as e:
            raise CallError.of(e, "connect", path=path) from None
        self.socket.setblocking(False)
        # No identity is given, so the bus uses that of the socket. This also works in a user namespace, where our uid differs from the one
        # that the bus sees.
        self._send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n", deadline)
        self._greeting(deadline)
        if self.is_bus:
            self.call(BUS[0], BUS[1], BUS[2], "Hello", deadline=deadline)

    def _greeting(self, deadline: float) -> None:
        lines = 0
        while lines < 2:
            line, found, rest = self.data.partition(b"\r\n")
            if not found:
                if len(line) > LINE_LIMIT:
                    raise ValueError("a greeting of more than %d bytes" % LINE_LIMIT)
                self._receive(deadline)
                continue
            self.data = bytearray(rest)
            lines += 1
            if lines == 1 and not line.startswith(b"DATA") or lines == 2 and not line.startswith(b"OK"):
                raise DBusError("org.freedesktop.DBus.Error.AuthFailed", "the bus answers %r" % bytes(line[:100]))

    def close(self) -> None:
        self.socket.close()

    def _wait(self, event: int, deadline: float) -> None:
        left_ms = int((deadline - time.monotonic()) * 1000)
        poll = select.poll()
        poll.register(self.socket.fileno(), event)
        if left_ms <= 0 or not poll.poll(left_ms):
            raise TimeoutError(errno.ETIMEDOUT, "no answer over D-Bus in time")

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._wait(select.POLLOUT, deadline)
            try:
                view = view[self.socket.send(view, MSG_DONTWAIT) :]
            except BlockingIOError:
                continue

    def _receive(self, deadline: float) -> None:
        self._wait(select.POLLIN, deadline)
        try:
            piece = self.socket.recv(65536)
        except BlockingIOError:
            return
        if not piece:
            raise OSError(errno.ECONNRESET, posix.strerror(errno.ECONNRESET))
        self.data.extend(piece)

    def _next(self, deadline: float) -> Message:
        """The next message: (kind, fields, body)."""
        while True:
            try:
                found = header(self.data)
            except (IndexError, StructError, RecursionError):
                raise ValueError("a message that does not match its signature") from None
            if found is not None:
                kind, fields, begin, end = found
                body = bytes(self.data[begin:end])
                del self.data[:end]
                return kind, fields, body
            self._receive(deadline)

    def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        values: Sequence[Value] = (),
        deadline: float = 0.0,
        answer: str | None = None,
    ) -> list[Value]:
        """A method call; returns the values of its reply. Signals that arrive in the meantime are kept for wait_signal. `answer`: the
        signature that the reply must have, else ValueError; None: any."""
        self.serial += 1
        fields = {PATH: ("o", path), INTERFACE: ("s", interface), MEMBER: ("s", member)}
        if self.is_bus:
            fields[DESTINATION] = ("s", destination)
        self._send(message(CALL, self.serial, fields, signature, values), deadline)
        while True:
            kind, found, body = self._next(deadline)
            if kind == SIGNAL:
                self.signals.append((found, body))
            elif kind in (REPLY, ERROR) and found.get(REPLY_SERIAL) == self.serial:
                got = _values(found, body)
                if kind == ERROR:
                    raise DBusError(found.get(ERROR_NAME, ""), got[0] if got and isinstance(got[0], str) else "")
                if answer is not None and found.get(SIGNATURE, "") != answer:
                    raise ValueError("%s answers with %r instead of %r" % (member, found.get(SIGNATURE, ""), answer))
                self.owners[destination] = found.get(SENDER)
                return got

    def wait_signal(
        self, sender: str, path: str, interface: str, member: str, signature: str, wanted: Callable[[list[Value]], bool], deadline: float
    ) -> list[Value]:
        """The values of the first signal `member` of this object and interface, with values of this signature, from the owner of the name
        `sender`, for which wanted(values) is true. All others are ignored."""
        expected = {PATH: path, INTERFACE: interface, MEMBER: member, SIGNATURE: signature}
        while True:
            while self.signals:
                fields, body = self.signals.pop(0)
                if all(fields.get(code, "") == value for code, value in expected.items()) and self._is_from(sender, fields, deadline):
                    values = _values(fields, body)
                    if wanted(values):
                        return values
            kind, fields, body = self._next(deadline)
            if kind == SIGNAL:
                self.signals.append((fields, body))

    def _is_from(self, name: str, fields: Fields, deadline: float) -> bool:
        """Whether the owner of a name has sent a message. If the sender differs, the bus is asked again: the owner may have reconnected
        (systemctl daemon-reexec)."""
        if not self.is_bus:
            return True
        if fields.get(SENDER) != self.owners.get(name):
            try:
                self.owners[name] = self.call(*BUS, "GetNameOwner", "s", (name,), deadline, "s")[0]
            except DBusError:  # the name has no owner now
                return False
        return fields.get(SENDER) is not None and fields.get(SENDER) == self.owners.get(name)
