"""The tests of the conformance suite: of its tables and reports without root, of the suite itself on real runtimes.

Tables, results and reports are in `make test`. What drives real or broken runtimes is marked long: it takes minutes, and crun wants a
hierarchy that a host may lack.
"""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).parent
QUICK = {"test_conformance_tables.py", "test_conformance_results.py", "test_conformance_reports.py"}
sys.path.insert(0, str(HERE))


def pytest_collection_modifyitems(items):
    for item in items:
        path = pathlib.Path(item.path)
        if HERE in path.parents and path.name not in QUICK:
            item.add_marker(pytest.mark.long)
