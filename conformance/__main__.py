"""python3 -m conformance: the suite from the source tree, without installing it."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from oci_conformance.cli import main  # noqa: E402

sys.exit(main(sys.argv[1:]))
