"""The tests in inside/ run in the machine of tools/vmlab: they are collected here, run there, and reported here as if they had run here.

Their files are ordinary pytest files, so -k, -m and node ids select them as usual. Before the first of them, the guest is built (if
necessary) and started. It gets one pytest run as root and one, for tests marked vm_user, as its uid 1000. There, this file is a conftest too:
it sends each report to the host as a line of JSON. Without a guest the tests are skipped with the reason; if a guest dies, tests that it had
not reported fail.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import lab
    from harness import Json


HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
INSIDE = str(HERE / "inside") + os.sep
IN_GUEST = "PYRUNC_IN_GUEST"
REPORT_FD = 3
TIMEOUT = 3600  # seconds for the tests of one user; only a watchdog
# the pytest of the tree; its output goes to stderr, and the reports to the original stdout
COMMAND = ["sh", "-c", 'exec .venv/bin/python -m pytest -p no:cacheprovider --color=no "$@" 3>&1 1>&2', "pytest"]
MARKERS = (
    "vm: runs in the guest (given to all of tests/vm/inside)",
    "vm_short(*words): of the guest's tests, those that `make test` runs; with words, the variants that have one in their ids",
    "vm_user: runs in the guest as uid 1000 in its user manager",
    "vm_selinux: runs in a guest of its own, where SELinux is enforcing",
    "long: for `make test-all`",
)


def pytest_configure(config: pytest.Config) -> None:
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    if IN_GUEST in os.environ:
        config.pluginmanager.register(Reporter(config), "vm")
        return
    config.pluginmanager.register(Machine(config), "vm")
    config.pluginmanager.register(WithSELinux(config), "vm_selinux")


def is_inside(item: pytest.Item) -> bool:
    return str(item.path).startswith(INSIDE)


def is_short(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("vm_short")
    return marker is not None and (not marker.args or any(word in vars(item)["callspec"].id for word in marker.args))


class Reporter:
    """In the guest: sends every report to the host."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        os.set_inheritable(REPORT_FD, False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        line = json.dumps(data, default=str).encode() + b"\n"
        while line:
            line = line[os.write(REPORT_FD, line) :]


class Machine:
    """On the host: replaces the protocol of pytest for the items in inside/."""

    words = ""  # kernel parameters; with any, the guest is booted

    def is_ours(self, item: pytest.Item) -> bool:
        return is_inside(item) and item.get_closest_marker("vm_selinux") is None

    def prepare(self, tmp: str) -> None:
        """The preparations before the tests. LabError: there is no guest."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.guest: lab.Guest | None = None
        self.thread: threading.Thread | None = None
        self.changed = threading.Condition()
        self.reports: dict[str, list[pytest.TestReport]] = {}  # node id -> reports so far
        self.ended: set[str] = set()  # users whose run has finished
        self.reason: str | None = None  # why there is no guest
        self.log = {"root": bytearray(), "user": bytearray()}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in filter(self.is_ours, items):
            item.add_marker(pytest.mark.vm)
            if not is_short(item):
                item.add_marker(pytest.mark.long)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Json:
        if not self.is_ours(item):
            return None
        if self.thread is None:
            self._begin(item.session)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports_of(item):
            item.ihook.pytest_runtest_logreport(report=report)
        # nothing is set up on the host for this item, but an earlier one may have left what the next one does not need
        item.session._setupstate.teardown_exact(nextitem)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_unconfigure(self) -> None:
        if self.guest is not None:
            self.guest.process.kill()
        if self.thread is not None:
            self.thread.join(10)

    # -- the guest, in a separate thread that must live as long as the machine: the machine is killed when the thread that started it ends

    def _begin(self, session: pytest.Session) -> None:
        chosen: dict[str, list[str]] = {"root": [], "user": []}
        for item in filter(self.is_ours, session.items):
            chosen["user" if item.get_closest_marker("vm_user") else "root"].append(item.nodeid)
        self.thread = threading.Thread(target=self._live, args=(chosen,), daemon=True)
        self.thread.start()

    def _say(self, text: str) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(text)

    def _live(self, chosen: Json) -> None:
        sys.path.insert(0, str(PROJECT / "tools/vmlab"))
        import build
        import lab

        try:
            try:
                build.build(self._say)
            except lab.LabError as e:
                self.reason = str(e)
                return
            with lab.folder() as tmp, lab.Guest(tmp, PROJECT, words=self.words) as self.guest:
                try:
                    self.prepare(tmp)
                except lab.LabError as e:
                    self.reason = str(e)
                    return
                for user, ids in chosen.items():
                    if ids:
                        self._run(user, ids)
                    self._end(user)
        except Exception as e:  # would be lost in a thread, so each test without a report shows it
            for log in self.log.values():
                log += ("\n%s: %s" % (type(e).__name__, e)).encode()
        finally:
            self._end("root", "user")

    def _run(self, user: str, ids: Sequence[str]) -> None:
        assert self.guest is not None  # _live() has created it
        watchdog = threading.Timer(TIMEOUT, self.guest.process.kill)
        watchdog.daemon = True
        watchdog.start()
        options = ["--runtime", self.config.getoption("--runtime")]
        rest = bytearray()

        def take(data: bytes) -> None:
            rest.extend(data)
            *lines, left = bytes(rest).split(b"\n")
            rest[:] = left
            for line in lines:
                self._take(line)

        try:
            self.guest.run(
                [*COMMAND, *options, *ids],
                user,
                {IN_GUEST: "1", "PYTHONDONTWRITEBYTECODE": "1"},
                on_output=take,
                on_error=self.log[user].extend,
            )
        finally:
            watchdog.cancel()

    def _take(self, line: bytes) -> None:
        report = self.config.hook.pytest_report_from_serializable(config=self.config, data=json.loads(line))
        if isinstance(report.longrepr, list):  # a skip's (path, line, reason)
            report.longrepr = tuple(report.longrepr)
        with self.changed:
            self.reports.setdefault(report.nodeid, []).append(report)
            self.changed.notify_all()

    def _end(self, *users: str) -> None:
        with self.changed:
            self.ended.update(users)
            self.changed.notify_all()

    # -- reports

    def _reports_of(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """The reports of an item as they arrive; the last one is that of its teardown."""
        user = "user" if item.get_closest_marker("vm_user") else "root"
        given = 0
        while True:
            with self.changed:
                while len(self.reports.get(item.nodeid, ())) == given and user not in self.ended:
                    self.changed.wait(1)
                new = self.reports.get(item.nodeid, [])[given:]
            if not new:
                yield self._missing(item, user)
                return
            for report in new:
                given += 1
                yield report
                if report.when == "teardown":
                    return

    def _missing(self, item: pytest.Item, user: str) -> pytest.TestReport:
        """Without a guest: a skip. If the guest has not reported this test: a failure with the guest's last output."""
        where: Json = {"nodeid": item.nodeid, "location": item.location, "keywords": {}, "when": "setup"}
        if self.reason is not None:
            reason = "no guest to test in: %s" % self.reason
            return pytest.TestReport(**where, outcome="skipped", longrepr=(str(item.path), item.location[1] or 0, reason))
        tail = bytes(self.log[user][-6000:]).decode("utf-8", "replace")
        return pytest.TestReport(**where, outcome="failed", longrepr="the guest sent no report of this test; its last words:\n%s" % tail)


class WithSELinux(Machine):
    """The second guest. Its policy is loaded after everything has been started; on a host with SELinux, init loads it."""

    words = "security=selinux selinux=1 enforcing=0"
    LOAD = (
        "import os, sys; data = sys.stdin.buffer.read(); fd = os.open('/sys/fs/selinux/load', os.O_WRONLY); "
        "assert os.write(fd, data) == len(data); open('/sys/fs/selinux/enforce', 'w').write('1')"
    )

    def is_ours(self, item: pytest.Item) -> bool:
        return is_inside(item) and item.get_closest_marker("vm_selinux") is not None

    def prepare(self, tmp: str) -> None:
        import lab
        import selinux_policy

        assert self.guest is not None
        lab.done("tools/setup.sh", ["sh", str(PROJECT / "tools/setup.sh"), "vm"])
        said = bytearray()
        data = selinux_policy.compiled(pathlib.Path(tmp))
        if self.guest.run(["python3", "-c", self.LOAD], stdin=data, on_output=said.extend, on_error=said.extend):
            raise lab.LabError("the policy could not be loaded: %s" % said.decode("utf-8", "replace")[-1000:])
