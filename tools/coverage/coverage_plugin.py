"""The pytest plugin that records a map for each test: `-p coverage_plugin`, with COVERAGE_TREE in the environment.

Rule: a test's map is emptied before its set-up and read after its clean-up. Session fixtures count for the first test that uses them.
Forked or executed processes of the tree record to the same map.
"""

from __future__ import annotations

import mmap
import os
import pickle
import sys
import time
import zlib
from collections.abc import Generator
from pathlib import Path

import line_recorder
import pytest

FOLDER = Path(os.environ["COVERAGE_TREE"])


def mapped(name: str) -> mmap.mmap:
    with open(FOLDER / name, "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


class Maps:
    """The maps of the tests so far: {node id: (seconds, outcome, packed map, packed map of the C extension)}."""

    def __init__(self) -> None:
        self.maps = mapped("map"), mapped("c-map")
        self.found: dict[str, tuple[float, str, bytes, bytes]] = {}
        self.outcomes: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        for memory in self.maps:
            memory[:] = bytes(len(memory))
        sys.monitoring.restart_events()
        begin = time.monotonic()
        try:
            return (yield)
        finally:
            packed = [zlib.compress(memory[:], 1) for memory in self.maps]
            self.found[item.nodeid] = (time.monotonic() - begin, self.outcomes.get(item.nodeid, ""), packed[0], packed[1])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed or report.nodeid not in self.outcomes or report.when == "call":
            self.outcomes[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        with open(FOLDER / ("tests-%d" % os.getpid()), "wb") as file:
            pickle.dump(self.found, file)


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.collectonly:
        line_recorder.start(str(FOLDER), str(FOLDER / "runtime"))
        config.pluginmanager.register(Maps(), "coverage-maps")
