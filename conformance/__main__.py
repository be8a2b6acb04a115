"""python3 -m conformance: the suite from the source tree, without installing it."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from oci_conformance.__main__ import run  # noqa: E402

run()
