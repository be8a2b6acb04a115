"""The main program of the helper process: /usr/bin/python3 -I -S …/helper/main.py NAME, started by helper_process.py.

Standard input: "LENGTH\\n" and that many bytes of JSON {"paths": [...], "refused": [...], "payload": ...}. The pipe then stays open: when its other end closes,
the caller is dead, and the kernel kills the helper (SIGIO). Standard output: one letter and its content, J with JSON, B with bytes, E with the
record of a PyruncError. A module of this package has one entry, `run(payload)`, may use the whole standard library, and must not write to
standard output.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from pyrunc import errors
    from pyrunc.helper.shapes import Json

LIBRARIES = {  # import name -> (package of Debian, name for pip)
    "jsonschema": ("python3-jsonschema", "jsonschema"),
    "referencing": ("python3-referencing", "jsonschema"),
    "rpds": ("python3-rpds-py", "jsonschema"),
    "attr": ("python3-attr", "jsonschema"),
    "attrs": ("python3-attr", "jsonschema"),
    "seccomp": ("python3-seccomp", "pyseccomp"),
    "pyseccomp": (None, "pyseccomp"),
}


def read_request() -> bytes:
    """The bytes of the request."""
    length = b""
    while not length.endswith(b"\n"):
        digit = os.read(0, 1)
        if not digit:
            raise SystemExit("helper: no request")
        length += digit
    left = int(length)
    chunks = []
    while left:
        chunk = os.read(0, min(left, 1 << 20))
        if not chunk:
            raise SystemExit("helper: the request is incomplete")
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


def die_with_caller() -> None:
    """From now on this process ends when standard input does: the default action of SIGIO is to terminate."""
    import fcntl
    import select

    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    if poll.poll(0):  # it ended before that took effect
        os._exit(1)


class Trusted:
    """Finds modules as usual, and refuses what users other than root and the caller can change: the caller may be root."""

    def __init__(self, untrusted: Callable[[str], str | None]) -> None:
        self.untrusted = untrusted

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        files = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or ())
        if spec.cached and os.path.exists(spec.cached):
            files.append(spec.cached)
        for file in files:
            reason = self.untrusted(os.path.abspath(file))
            if reason is not None:
                raise ImportError("%s is not used: %s" % (file, reason), name=name)
        return spec


def carry_out(name: str, request: dict[str, Json]) -> bytes:
    """The reply."""
    import json

    from pyrunc import errors, install_paths

    if not name.isidentifier() or name == "main":
        return failure(errors.Bug("no such helper: %r" % name))
    sys.path += [p for p in request["paths"] if p not in sys.path]
    trusted = Trusted(install_paths.untrusted)
    sys.meta_path[:] = [trusted if finder is PathFinder else finder for finder in sys.meta_path]
    try:
        module = __import__("pyrunc.helper." + name, fromlist=["run"])
        result = module.run(request["payload"])
    except ImportError as e:
        return failure(missing(e, request.get("refused", [])))
    except errors.PyruncError as e:
        return failure(e)
    if isinstance(result, bytes | bytearray | memoryview):
        return b"B" + bytes(result)
    return b"J" + json.dumps(result).encode()


def missing(e: ImportError, refused: Sequence[str] = ()) -> errors.PyruncError:
    """The error for a missing library, which names the package to install, and what was not searched for it."""
    from pyrunc import errors

    library = (e.name or "").partition(".")[0]
    if library not in LIBRARIES:
        return errors.Bug("helper: %s" % e)
    debian, pip = LIBRARIES[library]
    where = "apt install %s, or " % debian if debian else ""
    hint = "; ".join(["%spip install %s into the environment that pyrunc is installed in" % (where, pip), *map(errors.quote, refused)])
    return errors.Unsupported(
        "no-library", "the Python library %s cannot be loaded: %s" % (library, errors.quote(str(e))), None, library, hint
    )


def failure(e: errors.PyruncError) -> bytes:
    import json

    record = {"needs": getattr(e, "needs", None), "call": None, "errno": None, "path": None, **e.record()}
    return b"E" + json.dumps(record).encode()


def main(argv: list[str]) -> int:
    import json

    # without -I this directory would come first in sys.path, and its modules have names of libraries
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    sys.dont_write_bytecode = True
    request = json.loads(read_request())
    die_with_caller()
    reply = memoryview(carry_out(argv[1], request))
    while reply:
        reply = reply[os.write(1, reply) :]
    return 0


if __name__ == "__main__":
    code = main(sys.argv)
    sys.stderr.flush()
    os._exit(code)  # skips the exit handlers of libraries
