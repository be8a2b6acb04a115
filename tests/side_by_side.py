"""How `pytest -n N` (pytest-xdist) distributes the tests: those that share daemons, a guest or the whole host go to one process, the rest
by file.

A group is one process's from its first test to its last. Those that take longest are dealt out first, so that no process is left with one of
them when all others have finished.
"""

from __future__ import annotations

import os
import socket

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

# (group, beginnings of the node ids that belong to it), the longest first
GROUPS = (
    # one set of daemons, and criu, which mounts cgroup hierarchies that containers of these daemons then see (conftest.one_criu)
    ("engines", ("tests/contracts/", "tests/kernel/test_checkpoint")),
    ("guest", ("tests/vm/",)),  # one machine
    # these inspect the whole host, or build in the tree
    ("host", ("tests/cli/test_many.py", "tests/cli/test_first_bundle.py", "tests/cli/test_packaging.py", "tests/cli/test_link.py")),
)
LONG = (
    "tests/conformance/", "tests/cli/test_faults.py", "tests/cli/test_fault_table", "tests/kernel/advisories/", "tests/kernel/test_unwind.py",
    "tests/cli/test_hostile.py", "tests/fuzz/", "tests/cli/",
)  # fmt: skip


def group(nodeid: str) -> str:
    for name, beginnings in GROUPS:
        if nodeid.startswith(beginnings):
            return name
    return nodeid.partition("::")[0]


def rank(nodeid: str) -> int:
    """The sort key: lowest is distributed first."""
    beginnings = [*(beginnings for _, beginnings in GROUPS), *((beginning,) for beginning in LONG)]
    return next((number for number, some in enumerate(beginnings) if nodeid.startswith(some)), len(beginnings))


class Scheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


class SideBySide:
    """The plugin; registered if xdist is installed."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if config.getoption("shuffle") is None and (hasattr(config, "workerinput") or config.getoption("numprocesses", None)):
            items.sort(key=lambda item: rank(item.nodeid))

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: object) -> Scheduling:
        config.option.loadscopereorder = False
        return Scheduling(config, log)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """pytest-rerunfailures sends two small messages about each test to the process that distributes the tests. With Nagle's algorithm
        (tcp(7)), the second one waits 40 ms for the acknowledgement of the first."""
        connection = getattr(getattr(session.config, "failures_db", None), "sock", None)
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def pytest_configure_node(self, node: WorkerController) -> None:
        node.workerinput["supervisor"] = os.getppid()
