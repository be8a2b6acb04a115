"""features: prints what this runtime supports, as the JSON document of features.md. --deviations lists where it differs from runc on purpose.

It works for every user and without a state root, because dockerd asks every configured runtime at its start. Nothing else goes to stdout, and
nothing at all to stderr: CRI-O reads both as one document.
"""

from __future__ import annotations

import posix

from pyrunc import fileio, jsonio
from pyrunc.commands.version import VERSION
from pyrunc.errors import UsageError, quote
from pyrunc.oci import features

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options


LIBSECCOMP = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib64", "/lib")


def main(options: Options, args: list[str]) -> int:
    style = options.get("format", "text" if options.get("deviations") else "json")
    if style not in ("text", "json") or style == "text" and not options.get("deviations"):
        raise UsageError(
            "bad-format", "invalid format option: %s" % quote(style), "features", "format", "use json; with --deviations also text"
        )
    if options.get("deviations"):
        from pyrunc.oci import deviations

        text = jsonio.dumps(deviations.document(), indent=2) + "\n" if style == "json" else deviations.text()
        fileio.write_all(1, text.encode())
        return 0
    from pyrunc.linux import caps
    from pyrunc.parts.mounts import options as words

    names = {*words.FLAGS, *words.PROPAGATION, *words.RECURSIVE, *words.EXTENSIONS}
    checkpoint, libseccomp = has_checkpoint(), libseccomp_version()
    document = features.document(VERSION, names, caps.NAMES, supported_flags(), checkpoint, libseccomp)
    fileio.write_all(1, (jsonio.dumps(document, indent=4) + "\n").encode())
    return 0


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
