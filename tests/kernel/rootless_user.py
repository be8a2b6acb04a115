"""An ordinary user for tests: a uid without an account in the initial user namespace, and its runtime and bundles."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import harness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness import Json
    from workshop import MakeBundle

UID, SUBORDINATE = 4321, 700000
IDS = ["setpriv", "--reuid=%d" % UID, "--regid=%d" % UID, "--clear-groups", "--"]
LENT = 'for name in passwd subuid subgid; do mount --bind "$0/$name" /etc/$name || exit 99; done; exec "$@"'


class UserRuntime(harness.Runtime):
    """The runtime as an ordinary user. prefix: the command that switches to the user."""

    prefix = IDS

    def argv(self, *args: object, globals: Sequence[object] = ()) -> list[str]:
        return [*self.prefix, *super().argv(*args, globals=globals)]


class UserBundles:
    """make(changes, args) -> a bundle that belongs to the user, with the config that `spec --rootless` writes."""

    def __init__(self, make_bundle: MakeBundle, runtime: UserRuntime) -> None:
        self.make_bundle = make_bundle
        self.runtime = runtime

    def __call__(
        self, changes: dict[str, Json] | None = None, args: Sequence[str] | None = None, words: Sequence[str] = ("--rootless",)
    ) -> harness.Bundle:
        made = self.make_bundle()
        (made.path / "config.json").unlink()
        subprocess.run(["chown", "-R", "-h", "--no-dereference", "%d:%d" % (UID, UID), made.path, "--from=0:0"], check=True)
        self.runtime.ok("spec", *words, "--bundle", made)
        config = json.loads((made.path / "config.json").read_text())
        config["process"]["terminal"] = False
        config = harness.patch(config, changes or {})
        if args is not None:
            config["process"]["args"] = list(args)
        return made.write(config)


def mapped() -> dict[str, Json]:
    """The user and its subordinate ids."""
    maps = [{"containerID": 0, "hostID": UID, "size": 1}, {"containerID": 1, "hostID": SUBORDINATE, "size": 65536}]
    return {"/linux/uidMappings": maps, "/linux/gidMappings": maps}
