"""Helpers shared by the tests of advisories: mounts, links, the runtime as an ordinary user. They only use the command line."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

import harness

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Mapping, Sequence

    from harness import Bundle, Json, Option, Result, Runtime
    from workshop import MakeBundle


SECRET = "the host's secret"
UID = 4321  # an ordinary user without an account


def mount(destination: str, kind: str = "tmpfs", source: str = "tmpfs", *options: str) -> Json:
    return {"destination": destination, "type": kind, "source": str(source), "options": list(options)}


def bind(source: str, destination: str) -> Json:
    return mount(destination, "bind", source, "bind")


def replace(path: pathlib.Path, target: str) -> None:
    """Replaces a path in the image with a link."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


class Tried(harness.Result):
    """The result of a harmless twin of a bundle, and that twin."""

    def __init__(self, result: Result, bundle: Bundle) -> None:
        super().__init__(result.argv, result.code, result.out, result.err)
        self.bundle = bundle


class Harmless:
    """The positive control: the same bundle without the harm works. Otherwise a test would pass with a runtime that rejects everything."""

    def __init__(self, runtime: Runtime, make_bundle: Callable[..., Bundle]) -> None:
        self.runtime = runtime
        self.make_bundle = make_bundle

    def by(self, runtime: Runtime, make: Callable[..., Bundle]) -> Harmless:
        """The same control for the result of ordinary_user."""
        return Harmless(runtime, make)

    def __call__(
        self,
        bundle: Bundle,
        changes: Mapping[str, Json] | None = None,
        prepare: Callable[[Bundle], object] | None = None,
        **kw: Option,
    ) -> Tried:
        """Runs a twin of the bundle with `changes` to its config, after prepare(twin) has changed its image. Its program must run and succeed.
        Call it before the image becomes hostile, or with changes that make it harmless. Returns the Result, with `bundle`."""
        config = harness.patch(bundle.config, {"/linux/cgroupsPath": harness.ABSENT, **(changes or {})})
        config["process"]["args"] = ["/bin/sh", "-c", '"$@" && echo works', "sh", *config["process"]["args"]]
        twin = self.make_bundle(config=config)
        if prepare is not None:
            prepare(twin)
        result = self.runtime.run(twin, **kw)
        assert result.code == 0 and result.out.endswith("works\n"), "not even a harmless bundle works: %s" % result
        return Tried(result, twin)

    def exec(self, id: str, *options: str, args: Sequence[str] = ("/bin/echo", "works"), **kw: Option) -> str:
        """Checks that exec works in a container. Returns the output of the program."""
        result = self.runtime.call("exec", *options, id, *args, **kw)
        assert result.code == 0 and result.out, "not even a harmless exec works: %s" % result
        return result.out


def ordinary_user(runtime: Runtime, make_bundle: MakeBundle, scratch: pathlib.Path) -> tuple[Runtime, Callable[..., Bundle]]:
    """(the runtime as an ordinary user without subordinate ids, make(changes, args, config) -> a bundle that belongs to the user)"""
    prefix = ["setpriv", "--reuid=%d" % UID, "--regid=%d" % UID, "--clear-groups", "--"]
    if subprocess.run([*prefix, runtime.path, "--version"], capture_output=True).returncode:
        pytest.skip("an ordinary user can't read the directory of the runtime")
    home = scratch / "advisories"
    home.mkdir(exist_ok=True)
    os.chown(home, UID, UID)
    made = harness.Runtime(runtime.path, home / "state", runtime.token + "u", "")
    argv = made.argv
    vars(made)["argv"] = lambda *args, globals=(): [*prefix, *argv(*args, globals=globals)]  # replaces the method
    made.env = {**runtime.env, "XDG_RUNTIME_DIR": str(home)}

    def make(changes: Mapping[str, Json] | None = None, args: Sequence[str] | None = None, config: Json = None) -> Bundle:
        bundle = make_bundle()
        maps = [{"containerID": 0, "hostID": UID, "size": 1}]
        rootless = {
            "/linux/namespaces/-": {"type": "user"},
            "/linux/uidMappings": maps,
            "/linux/gidMappings": maps,
            "/mounts/2/options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        }
        if config is None:
            config = harness.patch(harness.patch(harness.BASE, rootless), changes or {})
            config["process"]["args"] = args or ["/bin/true"]
        (bundle.path / "config.json").unlink()
        bundle.write(config)
        subprocess.run(["chown", "-R", "-h", "--from=0:0", "%d:%d" % (UID, UID), bundle.path], check=True)
        return bundle

    return made, make
