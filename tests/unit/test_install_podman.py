"""install --podman: lists that the installed version of podman understands."""

from __future__ import annotations

import pathlib
import tomllib
from typing import TYPE_CHECKING

import pytest

from pyrunc.commands import install
from pyrunc.helper import engines

if TYPE_CHECKING:
    from typing import Any

WANT: dict[str, Any] = {"name": "pyrunc", "runtime": "/usr/bin/pyrunc", "default": True, "uninstall": False}
SAID = {
    "podman version 5.4.2": True,
    "podman version 10.0.0-dev": True,
    "podman version 4.9.3": False,
    "podman version 4.3.1": False,
    "podman version 3.4.4": False,
    "Error: toml: cannot load": False,
    "": False,
}


@pytest.mark.parametrize("said", SAID)
def test_the_version_decides(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    podman = tmp_path / "podman"
    podman.write_text('#!/bin/sh\n[ "$*" = --version ] && echo "%s"\n' % said)
    podman.chmod(0o755)
    monkeypatch.setattr(install, "PODMAN", (str(tmp_path / "absent"), str(podman)))
    assert install._podman_appends() is SAID[said]


def test_without_podman(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "PODMAN", (str(tmp_path / "absent"),))
    assert install._podman_appends()


def test_without_append() -> None:
    """podman 4 refuses its whole configuration if a list has something that is not a string."""
    text = engines.podman_text({**WANT, "podman_appends": False})
    engine = tomllib.loads(text)["engine"]
    for key, names in engines.PODMAN_OWN.items():
        assert engine[key] == [*names, "pyrunc"]
    assert engine["runtime"] == "pyrunc" and engine["runtimes"] == {"pyrunc": ["/usr/bin/pyrunc"]}
    assert engines.podman("/x", text, {**WANT, "uninstall": True, "podman_appends": True}) is None and engines.podman_made(text)
    assert not engines.podman_made(text + "# a note\n")


def test_with_append() -> None:
    text = engines.podman_text({**WANT, "podman_appends": True})
    assert tomllib.loads(text)["engine"]["runtime_supports_json"] == ["pyrunc", {"append": True}]
    assert engines.podman_made(text)
