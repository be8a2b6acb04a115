"""python3 -m oci_conformance: the command line of the suite."""

import sys

from oci_conformance.cli import main


def run():
    """The console script."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
