"""linux/dbus.py: values to bytes and back, and a conversation with a bus of our own."""

import os
import select
import socket
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrunc.linux import dbus


@pytest.mark.parametrize(
    "signature, value, data",
    [
        ("y", 7, "07"),
        ("b", True, "01000000"),
        ("n", -2, "feff"),
        ("u", 5, "05000000"),
        ("t", 2**64 - 1, "ff" * 8),
        ("x", -1, "ff" * 8),
        ("s", "ab", "02000000616200"),
        ("o", "/", "010000002f00"),
        ("g", "su", "02737500"),
        ("as", ["a"], "06000000010000006100"),
        ("ay", [1, 2], "020000000102"),
        ("at", [1], "08000000000000000100000000000000"),  # the padding before the first item is not counted
        ("at", [], "0000000000000000"),
        ("v", ("u", 1), "0175000001000000"),
        ("(yu)", (1, 2), "0100000002000000"),
        ("a{su}", {"a": 9}, "0c00000000000000010000006100000009000000"),
    ],
)
def test_wire_form(signature, value, data):
    out = dbus.marshal(signature, [value], bytearray())
    assert out.hex() == data
    assert dbus.unmarshal(signature, out) == [value]


@pytest.mark.parametrize("signature", ["a", "(", "(s", "z", "a{su", ")"])
def test_bad_signatures(signature):
    with pytest.raises(ValueError):
        dbus.split(signature)


def test_split():
    assert dbus.split("sa(sv)a{s(uu)}at") == ["s", "a(sv)", "a{s(uu)}", "at"]
    with pytest.raises(ValueError):
        dbus.marshal("s", ["a\0b"], bytearray())


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)  # type: ignore[arg-type]
variants = st.one_of(
    st.tuples(st.just("u"), st.integers(0, 2**32 - 1)), st.tuples(st.just("s"), texts),
    st.tuples(st.just("as"), st.lists(texts, max_size=3)),
    st.tuples(st.just("a(ss)"), st.lists(st.tuples(texts, texts), max_size=3)),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.tuples(texts, variants), max_size=5), texts)
def test_messages_survive_the_way_there_and_back(properties, name):
    data = dbus.message(dbus.CALL, 3, {dbus.PATH: ("o", "/a"), dbus.MEMBER: ("s", "M")}, "ssa(sv)", [name, "replace", properties])
    for cut in range(0, len(data), 7):
        assert dbus.parse(data[:cut]) is None
    kind, fields, values, size = dbus.parse(data + b"more")
    assert kind == dbus.CALL and fields[dbus.MEMBER] == "M" and size == len(data)
    assert values == [name, "replace", properties]


class Bus(threading.Thread):
    """A bus that answers from a script: {member: function(fields, values) -> list of messages' arguments}."""

    def __init__(self, path, script, silent=False):
        super().__init__(daemon=True)
        self.script, self.silent = script, silent
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen()
        self.seen = []
        self.start()

    def run(self):
        link, _ = self.server.accept()
        with link:
            if self.silent:
                select.select([link], [], [])
                while link.recv(4096):
                    continue
                return
            data = b""
            while b"BEGIN\r\n" not in data:
                data += link.recv(4096)
            link.sendall(b"DATA\r\nOK 1234\r\n")
            data = data.partition(b"BEGIN\r\n")[2]
            serial = 100
            while True:
                found = dbus.parse(data)
                if found is None:
                    piece = link.recv(4096)
                    if not piece:
                        return
                    data += piece
                    continue
                number = int.from_bytes(data[8:12], "little")
                data = data[found[3] :]
                member = found[1][dbus.MEMBER]
                self.seen.append((member, found[2]))
                for kind, fields, signature, values in self.script.get(member, lambda *a: [(dbus.REPLY, {}, "", ())])(found[1], found[2]):
                    serial += 1
                    fields = dict(fields)
                    if kind != dbus.SIGNAL:
                        fields[dbus.REPLY_SERIAL] = ("u", number)
                    link.sendall(dbus.message(kind, serial, fields, signature, values))


def removed(job, result="done"):
    return (dbus.SIGNAL, {dbus.MEMBER: ("s", "JobRemoved")}, "uoss", (1, job, "x.scope", result))


@pytest.fixture
def bus(tmp_path):
    def make(script, **kw):
        path = str(tmp_path / ("bus%d" % len(os.listdir(tmp_path))))
        return Bus(path, script, **kw), path

    return make


def soon():
    return time.monotonic() + 10


def test_a_call_and_a_signal_that_overtakes_the_reply(bus):
    script = {"Start": lambda f, v: [removed("/other"), removed("/job/7"), (dbus.REPLY, {}, "o", ("/job/7",))]}
    thread, path = bus(script)
    link = dbus.Connection(path, soon())
    assert link.call("org.x", "/x", "org.x.M", "Start", "s", ("n",), soon()) == ["/job/7"]
    assert link.wait_signal("JobRemoved", lambda v: v[1] == "/job/7", soon())[3] == "done"
    link.close()
    thread.join(10)
    assert thread.seen == [("Hello", []), ("Start", ["n"])]


def test_an_error_reply(bus):
    script = {"Start": lambda f, v: [(dbus.ERROR, {dbus.ERROR_NAME: ("s", "org.x.Bad")}, "s", ("why",))]}
    _thread, path = bus(script)
    link = dbus.Connection(path, soon())
    with pytest.raises(dbus.DBusError, match="why") as e:
        link.call("org.x", "/x", "org.x.M", "Start", deadline=soon())
    assert e.value.name == "org.x.Bad"
    link.close()


def test_deadlines(bus):
    _thread, path = bus({"Start": lambda f, v: []})
    link = dbus.Connection(path, soon())
    with pytest.raises(TimeoutError):
        link.call("org.x", "/x", "org.x.M", "Start", deadline=time.monotonic() + 0.02)
    with pytest.raises(TimeoutError):
        link.wait_signal("JobRemoved", lambda v: True, time.monotonic() + 0.02)
    link.close()
    _thread, path = bus({}, silent=True)
    with pytest.raises(TimeoutError):
        dbus.Connection(path, time.monotonic() + 0.02)


def test_no_bus(tmp_path):
    with pytest.raises(OSError) as e:
        dbus.Connection(str(tmp_path / "none"), soon())
    assert e.value.call == "connect"  # type: ignore[attr-defined]
