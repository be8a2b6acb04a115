"""linux/procevents.py: the exit status of one process and no other."""

import os
import select
import signal

import pytest

from pyrunc.linux import procevents

pytestmark = pytest.mark.kernel


class Held:
    """A child that exits on request."""

    def __init__(self, code):
        hold, self.release = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.release)
            os.read(hold, 1)
            os._exit(code)
        os.close(hold)

    def end(self):
        os.close(self.release)
        return os.waitpid(self.pid, 0)[1]


@pytest.fixture
def watch():
    opened = []

    def make(pid):
        try:
            opened.append(procevents.Watch(pid))
        except OSError as e:
            pytest.skip("this machine does not report exits: %s" % e)
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def heard(watch):
    poll = select.poll()
    poll.register(watch.sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def test_status_is_there_before_the_parent_has_it(watch):
    child, other = Held(37), Held(1)
    one = watch(child.pid)
    other.end()
    assert one.status() is None and not heard(one), "exits of other processes are not reported"
    status = child.end()
    found = one.status()
    if found is None:
        pytest.skip("this kernel does not report exits here (CONFIG_PROC_EVENTS, or not in the initial namespaces)")
    assert found == status and os.waitstatus_to_exitcode(found) == 37


def test_exits_while_a_watch_is_made(watch, monkeypatch):
    """If somebody else listens, too, the kernel reports events from the moment the socket is bound: the filter is there by then."""
    _another = watch(os.getpid())
    attach = procevents.Watch._filter

    def attach_later(self, pid):
        Held(9).end()
        attach(self, pid)

    monkeypatch.setattr(procevents.Watch, "_filter", attach_later)
    child = Held(37)
    one = watch(child.pid)
    found = one.status()
    child.end()
    assert found is None


def test_signal(watch):
    child = Held(0)
    one = watch(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    child.end()
    found = one.status()
    assert found is None or os.waitstatus_to_exitcode(found & ~0x80) == -9
