"""The tests of the conformance suite: of its tables and reports without root, of the suite itself on real runtimes."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
