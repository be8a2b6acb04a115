"""version, --version: prints the version. go-runc, moby and podman parse these lines: only the first may contain the word `version`.
`--licenses` prints the licences of everything in the executable."""

from __future__ import annotations

import sys
from _imp import is_frozen

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
    if options.get("licenses"):
        fileio.write_all(1, _licences().encode())
        return 0
    python = "%d.%d.%d" % sys.version_info[:3]
    if style == "json":
        document = {"name": name, "version": VERSION, "commit": "v" + VERSION, "spec": SPEC, "python": python}
        fileio.write_all(1, (jsonio.dumps(document) + "\n").encode())
        return 0
    fileio.write_all(1, ("%s version %s\ncommit: v%s\nspec: %s\npython: %s\n" % (name, VERSION, VERSION, SPEC, python)).encode())
    return 0


def _licences() -> str:
    """The texts that csrc/link.py freezes into a static launcher. Elsewhere the interpreter and the libraries are the system's."""
    name = "pyrunc.licences"
    if not is_frozen(name):
        return "pyrunc is under the Apache License 2.0. The interpreter and the libraries belong to the system.\n"
    text: str = __import__(name, fromlist=("TEXT",)).TEXT
    return text
