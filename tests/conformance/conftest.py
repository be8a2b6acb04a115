"""The tests of the conformance suite: of its tables and reports without root, of the suite itself on real runtimes."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))


def pytest_collection_modifyitems(items):
    """Whole runs of the suite belong to `make test-all`: they take minutes, and crun wants hierarchies that a host may lack."""
    here = pathlib.Path(__file__).parent
    for item in items:
        if here in pathlib.Path(item.path).parents:
            item.add_marker(pytest.mark.long)
