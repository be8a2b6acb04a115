"""--log=journald:NAME and --log=syslog:NAME, with fake sockets."""

import os
import re
import socket

import pytest

from pyrunc import log
from pyrunc.errors import Refusal, UsageError


@pytest.fixture
def heard(tmp_path, monkeypatch):
    """heard(kind) -> a listening socket in place of the real one."""
    opened = []
    monkeypatch.setattr(log, "_config", log._Config())

    def listen(kind):
        path = tmp_path / kind
        monkeypatch.setattr(log, {"journald": "JOURNAL", "syslog": "SYSLOG"}[kind], str(path))
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(str(path))
        opened.append(sock)
        return sock

    yield listen
    for sock in opened:
        sock.close()
    if log._config.fd >= 0:
        os.close(log._config.fd)


def test_journal(heard, capfd):
    sock = heard("journald")
    log.configure({"log": "journald:me"})
    assert log.fail(Refusal("bad", "bad\nthing", "/mounts/0"), "create") == 1
    lines = sock.recv(65536).decode().splitlines()
    assert lines[:3] == ["MESSAGE=create failed: bad\\nthing (/mounts/0)", "PRIORITY=3", "SYSLOG_IDENTIFIER=me"]
    assert "PYRUNC_CODE=PYR-2130" in lines and "PYRUNC_KIND=refused" in lines and "PYRUNC_POINTER=/mounts/0" in lines
    assert capfd.readouterr().err == "create failed: bad\\nthing (/mounts/0)\n"


def test_syslog(heard):
    sock = heard("syslog")
    log.configure({"log": "syslog:me"})
    log.fail(Refusal("bad", "bad", "/x"), "create")
    text = sock.recv(65536).decode()
    assert re.fullmatch(r"<27>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d me\[%d\]: create failed: bad \(/x\)" % os.getpid(), text), text


def test_debug_messages_are_logged_only_with_debug(heard):
    sock = heard("journald")
    sock.setblocking(False)
    log.configure({"log": "journald:"})
    log.debug("unheard")
    with pytest.raises(BlockingIOError):
        sock.recv(100)
    log._config.debug = True
    log.debug("one\ntwo")
    assert sock.recv(65536).decode().splitlines()[:3] == ["MESSAGE=one\\ntwo", "PRIORITY=7", "SYSLOG_IDENTIFIER=pyrunc"]


def test_a_name_forges_no_fields(heard):
    sock = heard("journald")
    log.configure({"log": "journald:a\nMESSAGE=forged"})
    log.fail(Refusal("bad", "bad", "/x"), "create")
    assert [line for line in sock.recv(65536).decode().splitlines() if line.startswith("MESSAGE=")] == ["MESSAGE=create failed: bad (/x)"]


def test_a_record_that_is_too_long_is_cut(heard):
    sock = heard("journald")
    log.configure({"log": "journald:me"})
    log.fail(Refusal("bad", "x" * 100000, "/x"), "create")
    assert len(sock.recv(1 << 20).split(b"\n")[0]) == len("MESSAGE=") + log.LONGEST


@pytest.mark.parametrize("kind", ["journald", "syslog"])
def test_nobody_listens(heard, kind):
    heard(kind).close()
    with pytest.raises(UsageError) as e:
        log.configure({"log": kind + ":me"})
    assert "cannot open log %s" % kind in e.value.words and "no such file" not in e.value.sentence()


def test_file(tmp_path, heard):
    log.configure({"log": "file:%s" % (tmp_path / "log")})
    log.fail(Refusal("bad", "bad", "/x"), "create")
    assert "create failed: bad" in (tmp_path / "log").read_text()
