"""Bind mounts whose source or destination contains the host path of the rootfs are handled as in runc. Only the command line is used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import hoststate

if TYPE_CHECKING:
    import pathlib

    from harness import Runtime
    from workshop import MakeBundle


@pytest.mark.parametrize("links", [False, True])
def test_a_destination_that_begins_with_the_path_of_the_root(
    runtime: Runtime, make_bundle: MakeBundle, tmp_path: pathlib.Path, links: bool
) -> None:
    (tmp_path / "file").write_text("bound")
    bundle = make_bundle(args=["/bin/cat", "/data/file"])
    target = os.path.realpath(bundle.rootfs) if links else str(bundle.rootfs)
    bundle.patch({"/mounts/-": {"destination": target + "/data", "type": "bind", "source": str(tmp_path), "options": ["bind"]}})
    assert runtime.run(bundle).out == "bound"
    assert not os.path.exists(str(bundle.rootfs) + os.path.realpath(bundle.rootfs))


@pytest.mark.parametrize("mapped", [False, True])
def test_a_source_below_the_root_shows_earlier_mounts(
    runtime: Runtime, make_bundle: MakeBundle, tmp_path: pathlib.Path, mapped: bool
) -> None:
    """Also if its ids are mapped, which used to be done from the host's point of view."""
    if mapped and not hoststate.has_id_maps(tmp_path):
        pytest.skip("the file system of TMPDIR has no id-mapped mounts")
    (tmp_path / "file").write_text("bound")
    os.chown(tmp_path / "file", 7, 8)
    tmp_path.chmod(0o755)
    bundle = make_bundle(args=["/bin/sh", "-c", "stat -c '%u %g' /second/file"])
    (bundle.rootfs / "first").mkdir()
    maps = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    more = {"uidMappings": maps, "gidMappings": maps} if mapped else {}
    bundle.patch({"/mounts/-": {"destination": "/first", "type": "bind", "source": str(tmp_path), "options": ["bind"]}})
    second = {"destination": "/second", "type": "bind", "source": str(bundle.rootfs / "first"), "options": ["rbind"], **more}
    bundle.patch({"/mounts/-": second})
    result = runtime.call("run", "--bundle", bundle, runtime.new_id())
    if mapped and not runtime.is_pyrunc and "id-mapped mounts" in result.err:
        pytest.skip("this runtime has no id-mapped mounts")
    assert result.out == ("100007 100008\n" if mapped else "7 8\n"), result
