"""Helpers shared by the command line tests: descriptors with holes, and bundles with a user namespace."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import harness

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping, Sequence

    from harness import Bundle, Json
    from workshop import MakeBundle

# A shell script: 9, 40 and 41 are open on the files of files_with_holes(), the other descriptors from 3 on are closed.
WITH_HOLES = 'exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9<nine 40<forty 41<beyond; exec "$@"'


def files_with_holes(folder: pathlib.Path) -> None:
    for name in ("nine", "forty", "beyond"):
        (folder / name).write_text(name + "\n")


def mapped(
    make_bundle: MakeBundle,
    changes: Mapping[str, Json] | None = None,
    args: Sequence[str] = harness.WAIT_FOR_TERM,
    first: int = 100000,
    joined: Mapping[str, str] | None = None,
) -> Bundle:
    """A bundle with a user namespace whose ids start at `first`; joined: {type: path} of namespaces that it joins instead of new ones."""
    joined = joined or {}
    kinds = ("user", "pid", "network", "ipc", "uts", "mount")
    spaces = [{"type": kind, **({"path": joined[kind]} if kind in joined else {})} for kind in kinds]
    more: dict[str, Json] = {"/linux/namespaces": spaces}
    if "user" not in joined:
        maps = [{"containerID": 0, "hostID": first, "size": 65536}]
        more.update({"/linux/uidMappings": maps, "/linux/gidMappings": maps})
    if "uts" in joined:
        more["/hostname"] = harness.ABSENT
    if "network" in joined:
        more["/mounts/4"] = harness.ABSENT  # sysfs shows devices of the network namespace, and needs its user namespace
    bundle = make_bundle({**more, **(changes or {})}, args=args)
    os.chmod(bundle.path, 0o755)
    subprocess.run(["chown", "-R", "%d:%d" % (first, first), bundle.rootfs], check=True)
    return bundle
