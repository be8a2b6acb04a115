"""version, --version: prints the version. go-runc, moby and podman parse these lines: only the first may contain the word `version`."""

from __future__ import annotations

import sys

from pyrunc import fileio, jsonio
from pyrunc.commands import choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options


VERSION = "0.1.0"
SPEC = "1.3.0"


def main(options: Options, args: list[str]) -> int:
    name = "runc" if sys.argv and sys.argv[0].rpartition("/")[2] == "runc" else "pyrunc"
    style = choice.format_of(options, "version", "text", "json")
    python = "%d.%d.%d" % sys.version_info[:3]
    if style == "json":
        document = {"name": name, "version": VERSION, "commit": "v" + VERSION, "spec": SPEC, "python": python}
        fileio.write_all(1, (jsonio.dumps(document) + "\n").encode())
        return 0
    fileio.write_all(1, ("%s version %s\ncommit: v%s\nspec: %s\npython: %s\n" % (name, VERSION, VERSION, SPEC, python)).encode())
    return 0
