"""python3 -m oci_conformance: the command line of the suite."""

import os
import sys

from oci_conformance.cli import main


def run() -> None:
    """The console script. Handles a reader of our output that has exited, and a full disk."""
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    except OSError as e:  # the disk that it goes to is full
        print("oci-conformance: the standard output cannot be written: %s" % e.strerror, file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    run()
