"""--version: lines that go-runc, moby and podman read; no second line may hold the word `version`."""

import sys

from pyrunc import lean

VERSION = "0.1.0"
SPEC = "1.3.0"


def main(options, args):
    name = "runc" if sys.argv and sys.argv[0].rpartition("/")[2] == "runc" else "pyrunc"
    python = "%d.%d.%d" % sys.version_info[:3]
    lean.write_all(1, ("%s version %s\ncommit: v%s\nspec: %s\npython: %s\n" % (name, VERSION, VERSION, SPEC, python)).encode())
    return 0
