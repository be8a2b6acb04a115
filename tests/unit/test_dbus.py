"""linux/dbus.py: values to bytes and back, and a conversation with a fake bus."""

import contextlib
import os
import select
import socket
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import harness
from pyrunc.errors import CallError
from pyrunc.linux import dbus


def parse(data):
    """(kind, fields {code: value}, body values, length) of the first message in `data`, or None if it is incomplete."""
    found = dbus.header(data)
    if found is None:
        return None
    kind, fields, begin, end = found
    return kind, fields, dbus.unmarshal(fields.get(dbus.SIGNATURE, ""), data[begin:end]), end


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


@pytest.mark.parametrize("signature", ["a", "(", "(s", "z", "a{su", ")", "()", "a()", "a{}", "a{s}", "a{suu}", "a{avs}", "a{vs}"])
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


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(texts, variants), max_size=5), texts)
def test_messages_survive_a_round_trip(properties, name):
    data = dbus.message(dbus.CALL, 3, {dbus.PATH: ("o", "/a"), dbus.MEMBER: ("s", "M")}, "ssa(sv)", [name, "replace", properties])
    for cut in range(0, len(data), 7):
        assert parse(data[:cut]) is None
    kind, fields, values, size = parse(data + b"more")
    assert kind == dbus.CALL and fields[dbus.MEMBER] == "M" and size == len(data)
    assert values == [name, "replace", properties]


class Bus(threading.Thread):
    """A bus that answers from a script: {member: function(fields, values) -> list of message arguments}."""

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
                found = parse(data)
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
                        fields.setdefault(dbus.SENDER, ("s", OWNER))
                    link.sendall(dbus.message(kind, serial, fields, signature, values))


SYSTEMD = "org.freedesktop.systemd1"
OBJECT = "/org/freedesktop/systemd1"
MANAGER = SYSTEMD + ".Manager"
OWNER = ":1.5"


def removed(job, result="done", **other):
    """The signal that a job has finished; `other` values make it a signal for another caller."""
    given = {"member": "JobRemoved", "path": OBJECT, "interface": MANAGER, "sender": OWNER, **other}
    fields = {dbus.MEMBER: ("s", given["member"]), dbus.PATH: ("o", given["path"]), dbus.INTERFACE: ("s", given["interface"])}
    if given["sender"]:
        fields[dbus.SENDER] = ("s", given["sender"])
    return (dbus.SIGNAL, fields, "uoss", (1, job, "x.scope", result))


def wait_removed(link, wanted, deadline):
    return link.wait_signal(SYSTEMD, OBJECT, MANAGER, "JobRemoved", "uoss", wanted, deadline)


@pytest.fixture
def bus(tmp_path):
    def make(script, **kw):
        path = str(tmp_path / ("bus%d" % len(os.listdir(tmp_path))))
        return Bus(path, script, **kw), path

    return make


def soon():
    return time.monotonic() + harness.WATCHDOG


def test_a_call_and_a_signal_that_overtakes_the_reply(bus):
    script = {"Start": lambda f, v: [removed("/other"), removed("/job/7"), (dbus.REPLY, {}, "o", ("/job/7",))]}
    thread, path = bus(script)
    link = dbus.Connection(path, soon())
    assert link.call(SYSTEMD, "/x", "org.x.M", "Start", "s", ("n",), soon()) == ["/job/7"]
    assert wait_removed(link, lambda v: v[1] == "/job/7", soon())[3] == "done"
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
        wait_removed(link, lambda v: True, time.monotonic() + 0.02)
    link.close()
    _thread, path = bus({}, silent=True)
    with pytest.raises(TimeoutError):
        dbus.Connection(path, time.monotonic() + 0.02)


def test_no_bus(tmp_path):
    with pytest.raises(CallError) as e:
        dbus.Connection(str(tmp_path / "none"), soon())
    assert e.value.call == "connect"


FORGED = [
    {"sender": ":1.66"},
    {"sender": None},
    {"path": "/org/example"},
    {"interface": "org.example.Manager"},
    {"member": "JobNew"},
]


@pytest.mark.parametrize("other", FORGED, ids=lambda other: "-".join(other))
def test_a_signal_from_another_sender_is_ignored(bus, other):
    """Anyone on a bus may send a signal to anyone; only the owner of the name counts."""
    owner = lambda f, v: [(dbus.REPLY, {dbus.SENDER: ("s", "org.freedesktop.DBus")}, "s", (OWNER,))]  # noqa: E731
    start = [removed("/job/7", "failed", **other), (dbus.REPLY, {}, "o", ("/job/7",)), removed("/job/7")]
    _thread, path = bus({"Start": lambda f, v: start, "GetNameOwner": owner})
    link = dbus.Connection(path, soon())
    link.call(SYSTEMD, "/x", "org.x.M", "Start", deadline=soon())
    assert wait_removed(link, lambda v: v[1] == "/job/7", soon())[3] == "done"
    link.close()


def test_a_manager_that_has_reconnected_is_accepted(bus):
    owner = lambda f, v: [(dbus.REPLY, {dbus.SENDER: ("s", "org.freedesktop.DBus")}, "s", (":1.66",))]  # noqa: E731
    start = [(dbus.REPLY, {}, "o", ("/job/7",)), removed("/job/7", sender=":1.66")]
    thread, path = bus({"Start": lambda f, v: start, "GetNameOwner": owner})
    link = dbus.Connection(path, soon())
    link.call(SYSTEMD, "/x", "org.x.M", "Start", deadline=soon())
    assert wait_removed(link, lambda v: v[1] == "/job/7", soon())[3] == "done"
    assert thread.seen[-1] == ("GetNameOwner", [SYSTEMD])
    link.close()


def test_bodies_of_other_signals_are_not_decoded(bus):
    """Anyone may send them: neither their size nor what is in them matters."""
    kind, fields, _signature, _values = removed("/job/7", path="/org/example")
    other = (kind, fields, "a(yv)", ([(1, ("as", ["x" * 1000] * 3000))],))
    damaged = (kind, {**fields, dbus.SIGNATURE: ("g", "aaas")}, "", ())
    start = [other, damaged, (dbus.REPLY, {}, "o", ("/job/7",)), other, damaged, removed("/job/7")]
    _thread, path = bus({"Start": lambda f, v: start})
    link = dbus.Connection(path, soon())
    link.call(SYSTEMD, "/x", "org.x.M", "Start", deadline=soon())
    assert wait_removed(link, lambda v: v[1] == "/job/7", soon())[3] == "done"
    link.close()


def test_a_greeting_without_an_end_is_an_error(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "bus"))
        server.listen()

        def endless():
            with server.accept()[0] as link, contextlib.suppress(OSError):
                while True:
                    link.sendall(b"x" * 4096)

        threading.Thread(target=endless, daemon=True).start()
        with pytest.raises(ValueError, match="a greeting of more than"):
            dbus.Connection(str(tmp_path / "bus"), soon())


def test_a_signal_without_values_is_skipped(bus):
    kind, fields, _signature, _values = removed("/job/7")
    start = [(dbus.REPLY, {}, "o", ("/job/7",)), (kind, fields, "", ()), (kind, fields, "u", (1,)), removed("/job/7")]
    _thread, path = bus({"Start": lambda f, v: start})
    link = dbus.Connection(path, soon())
    link.call(SYSTEMD, "/x", "org.x.M", "Start", deadline=soon())
    assert wait_removed(link, lambda v: v[1] == "/job/7", soon())[3] == "done"
    link.close()


@pytest.mark.parametrize("body, wanted", [(("", ()), "o"), (("s", ("x",)), "o"), (("o", ("/x",)), "")])
def test_a_reply_with_another_signature_is_an_error(bus, body, wanted):
    _thread, path = bus({"Start": lambda f, v: [(dbus.REPLY, {}, *body)]})
    link = dbus.Connection(path, soon())
    with pytest.raises(ValueError, match="Start answers with"):
        link.call(SYSTEMD, "/x", "org.x.M", "Start", deadline=soon(), answer=wanted)
    assert link.call(SYSTEMD, "/x", "org.x.M", "Start", deadline=soon(), answer=body[0]) == list(body[1])
    link.close()


def test_a_message_that_ends_within_its_values_is_an_error(bus):
    """The lengths of header and body are correct, but the body is shorter than its signature requires."""
    whole = dbus.message(dbus.REPLY, 1, {dbus.REPLY_SERIAL: ("u", 1)}, "s", ("abcdefgh",))
    cut = bytearray(whole[:-13])
    cut[4:8] = (0).to_bytes(4, "little")
    ours, theirs = socket.socketpair()
    link = dbus.Connection.__new__(dbus.Connection)
    link.socket, link.data, link.signals, link.owners, link.serial, link.is_bus = ours, bytearray(), [], {}, 0, False
    theirs.sendall(bytes(cut))
    with ours, theirs, pytest.raises(ValueError, match="does not match its signature"):
        link.call(SYSTEMD, "/x", "org.x.M", "Start", deadline=soon())
