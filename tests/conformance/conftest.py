"""The tests of the conformance suite: of its tables and reports without root, of the suite itself on real runtimes.

In `make test` they take about a minute: one run of level core on each runtime, a few mutants, broken runtimes. The whole suite and all
mutants are marked long."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
