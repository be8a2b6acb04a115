"""Fixtures of the kernel tests."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from dumping import Counter
from mounting import World
from rootless_user import IDS, LENT, SUBORDINATE, UID, UserBundles, UserRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Json, Option, Runtime
    from workshop import MakeBundle


@pytest.fixture
def world(scratch: pathlib.Path) -> Iterator[World]:
    """A bundle and a directory outside of it (mounting.World); the test fails if it has changed the host."""
    made = World(pathlib.Path(tempfile.mkdtemp(prefix="w", dir=scratch)))
    yield made
    made.close()


@pytest.fixture
def counter(criu: None, runtime: Runtime, make_bundle: MakeBundle) -> Callable[..., Counter]:
    """counter(changes, say=…) -> a program that counts, and its checkpoints (dumping.Counter)."""

    def make(changes: dict[str, Json] | None = None, **kw: Option) -> Counter:
        return Counter(runtime, make_bundle, changes, **kw)

    return make


# ---- an ordinary user (rootless_user.py)


@pytest.fixture
def home(scratch: pathlib.Path) -> pathlib.Path:
    """A directory that belongs to the user."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="home", dir=scratch))
    os.chown(made, UID, UID)
    return made


@pytest.fixture
def rootless(runtime: Runtime, home: pathlib.Path, no_leaks: object) -> Iterator[UserRuntime]:
    if subprocess.run([*IDS, runtime.path, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("an ordinary user can't read the directory of the runtime")
    made = UserRuntime(runtime.path, home / "state", runtime.token, None)
    made.env = {**runtime.env, "XDG_RUNTIME_DIR": str(home)}
    yield made
    made.clean()


@pytest.fixture
def subordinate(rootless: UserRuntime, home: pathlib.Path) -> UserRuntime:
    """The same user with 65536 subordinate ids."""
    for name in ("newuidmap", "newgidmap"):
        if shutil.which(name) is None:
            pytest.skip("not installed: uidmap")
    for name in ("subuid", "subgid"):
        (home / name).write_text("lent:%d:65536\n" % SUBORDINATE)
    (home / "passwd").write_text("root:x:0:0::/:/bin/sh\nlent:x:%d:%d::/:/bin/sh\n" % (UID, UID))
    rootless.prefix = ["unshare", "--mount", "--", "sh", "-c", LENT, str(home), *IDS]
    return rootless


@pytest.fixture
def make(make_bundle: MakeBundle, rootless: UserRuntime) -> UserBundles:
    return UserBundles(make_bundle, rootless)
