"""Rootless bundles for uid 1000 in the guest: the output of `spec --rootless` with changes, and its id maps."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import harness

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness import Bundle, Json, Runtime
    from workshop import Workshop


SUBORDINATE = 100000  # in /etc/subuid and /etc/subgid


def mapped(size: int = 65536) -> dict[str, Json]:
    """Changes that also map all subordinate ids."""
    maps = [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": SUBORDINATE, "size": size}]
    return {"/linux/uidMappings": maps, "/linux/gidMappings": maps}


def environment() -> dict[str, str]:
    kept = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **{name: os.environ[name] for name in kept if name in os.environ}}


def bundle(
    workshop: Workshop,
    runtime: Runtime,
    changes: Mapping[str, Json] | None = None,
    args: Sequence[str] | None = None,
    caps: Sequence[str] = (),
) -> Bundle:
    """A busybox root with the config of `spec --rootless`, without a terminal, and with changes."""
    made = workshop.bundle()
    (made.path / "config.json").unlink()
    runtime.ok("spec", "--rootless", "--bundle", made)
    config = json.loads((made.path / "config.json").read_text())
    config["process"]["terminal"] = False
    for kind in ("bounding", "effective", "permitted"):
        config["process"]["capabilities"][kind] += caps
    config = harness.patch(config, changes or {})
    if args is not None:
        config["process"]["args"] = list(args)
    return made.write(config)
