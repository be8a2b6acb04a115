"""features: prints what this runtime supports, as the JSON document of features.md. --deviations lists where it differs from runc on purpose.

It works for every user and without a state root, because dockerd asks every configured runtime at its start. Nothing else goes to stdout, and
nothing at all to stderr: CRI-O reads both as one document.
"""

from __future__ import annotations

import posix

from pyrunc import fileio, jsonio
from pyrunc.commands import choice
from pyrunc.commands.version import VERSION
from pyrunc.oci import features

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Output


LIBSECCOMP = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib64", "/lib")


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "features", *(("text", "json") if options.get("deviations") else ("json", "text")))
    if options.get("deviations"):
        from pyrunc.oci import deviations

        text = jsonio.dumps(deviations.document(), indent=2) + "\n" if style == "json" else _deviations()
        fileio.write_all(1, text.encode())
        return 0
    from pyrunc.linux import caps
    from pyrunc.parts.mounts import options as words

    names = {*words.FLAGS, *words.PROPAGATION, *words.RECURSIVE, *words.EXTENSIONS}
    checkpoint, libseccomp = has_checkpoint(), libseccomp_version()
    document = features.document(VERSION, names, caps.NAMES, supported_flags(), checkpoint, libseccomp)
    text = jsonio.dumps(document, indent=4) + "\n" if style == "json" else _text(document)
    fileio.write_all(1, text.encode())
    return 0


def _text(document: Output) -> str:
    """The document as indented lines; lists of words are wrapped."""
    from pyrunc import render

    columns = render.width(1) or 100
    lines = []
    for key, value in document.items():
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            lines += render.wrapped(" ".join(value), columns, key + ": ", "  ")
        else:
            for line in render.outline(value, key, columns):
                pad = " " * (len(line) - len(line.lstrip(" ")) + 2)
                lines += render.wrapped(line.replace('","', '", "'), columns, "", pad)
    return "\n".join(lines) + "\n"


def _deviations() -> str:
    """The table of deviations, wrapped at a terminal."""
    from pyrunc import render
    from pyrunc.oci import deviations

    columns = render.width(1)
    lines = [row for line in deviations.text().splitlines() for row in render.wrapped(line, columns, "", "    ")]
    return "\n".join(lines) + "\n"


def supported_flags() -> list[str]:
    """Which flags of seccomp filters this kernel knows."""
    from pyrunc.linux import filters

    return [name for name, flag in features.FLAGS.items() if filters.supports_flag(flag)]


def has_checkpoint() -> bool:
    """Whether the checkpoint command exists; podman and CRI-O read it in this document."""
    try:
        __import__("pyrunc.commands.checkpoint")
    except ImportError:
        return False
    return True


def libseccomp_version() -> str | None:
    """The version, such as '2.6.0', of the library that is linked in, or from the name of the library's file; None if there is none."""
    try:
        from pyrunc.linux import _libseccomp

        return _libseccomp.version()
    except ImportError:
        pass
    for place in LIBSECCOMP:
        try:
            name = posix.readlink(place + "/libseccomp.so.2")
        except OSError:
            continue
        number = name.rpartition("/")[2].partition(".so.")[2]
        if number.count(".") == 2:
            return number
    return None
