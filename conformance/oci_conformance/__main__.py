"""python3 -m oci_conformance: the command line of the suite."""

import sys

from oci_conformance.cli import main

sys.exit(main(sys.argv[1:]))
