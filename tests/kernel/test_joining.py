"""exec into a hostile container: what its processes see of the one that joins, and what they can do to it."""

from __future__ import annotations

import os
import threading

import pytest

import harness

pytestmark = pytest.mark.kernel

PTRACE = 1 << 19
KILL = 1 << 5
SETS = ("bounding", "effective", "permitted")
CAPS = {"/process/capabilities": {name: ["CAP_SYS_PTRACE", "CAP_KILL"] for name in SETS}}
ALLOW = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}
ROUNDS = 20


class Watcher(threading.Thread):
    """Notes the capabilities of each process that a container's own procfs shows, as fast as it can: {name: sets that were seen}."""

    def __init__(self, init: int) -> None:
        super().__init__(daemon=True)
        self.root = "/proc/%d/root/proc" % init
        self.seen: dict[str, set[tuple[int, int]]] = {}
        self.over = False

    def run(self) -> None:
        while not self.over:
            for name in os.listdir(self.root):
                if name.isdigit() and name != "1":
                    self.look(name)

    def look(self, name: str) -> None:
        try:
            with open("%s/%s/status" % (self.root, name)) as file:
                fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        except OSError:
            return
        self.seen.setdefault(fields["Name"], set()).add((int(fields["CapBnd"], 16), int(fields["CapPrm"], 16)))

    def end(self) -> dict[str, set[tuple[int, int]]]:
        self.over = True
        self.join()
        return self.seen


@pytest.mark.parametrize("changes", [{}, {"/process/noNewPrivileges": False, "/linux/seccomp": ALLOW}], ids=["plain", "filter"])
def test_the_container_never_sees_more_than_its_own_rights(pyrunc, make_bundle, changes):
    """A process with CAP_SYS_PTRACE takes over whatever it sees."""
    id = pyrunc.started(make_bundle({**CAPS, **changes}, args=["/bin/sleep", "1000"]))
    watcher = Watcher(pyrunc.state(id)["pid"])
    watcher.start()
    for _ in range(ROUNDS):
        pyrunc.ok("exec", id, "/bin/sleep", "0.01")
    seen = watcher.end()
    assert (PTRACE | KILL, PTRACE | KILL) in seen["sleep"], "the watcher sees what is executed"
    assert {sets for found in seen.values() for sets in found} == {(PTRACE | KILL, PTRACE | KILL)}, seen


def test_a_filter_that_bars_the_way_is_a_failure(pyrunc, make_bundle):
    """It would have to be loaded by a process that the container sees, with CAP_SYS_ADMIN. Without CAP_SYS_PTRACE that is no danger."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["clone", "clone3", "fork", "vfork"], "action": "SCMP_ACT_ERRNO"}],
    }
    changes = {"/process/noNewPrivileges": False, "/linux/seccomp": profile}
    id = pyrunc.started(make_bundle({**CAPS, **changes}, args=["/bin/sleep", "1000"]))
    failed = pyrunc.call("exec", id, "/bin/true")
    assert failed.code == 255 and "seccomp.op_early" in failed.err and "CAP_SYS_PTRACE" in failed.err, failed
    id = pyrunc.started(
        make_bundle({**changes, "/process/capabilities": {name: ["CAP_KILL"] for name in SETS}}, args=["/bin/sleep", "1000"])
    )
    assert pyrunc.ok("exec", id, "/bin/echo", "works").out == "works\n"
    id = pyrunc.started(make_bundle({**CAPS, **changes, "/process/noNewPrivileges": True}, args=["/bin/sleep", "1000"]))
    assert pyrunc.ok("exec", id, "/bin/echo", "works").out == "works\n"
