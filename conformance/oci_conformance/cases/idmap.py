"""config.md#configLinuxMountOptions: idmap, ridmap; #configPOSIXMounts: uidMappings, gidMappings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci_conformance import system
from oci_conformance.case import case

if TYPE_CHECKING:
    from oci_conformance.shapes import Json, Line
    from oci_conformance.trial import Trial


OWN = [{"containerID": 3000, "hostID": 5000, "size": 100}]


def source(t: Trial) -> str:
    """A tmpfs of the host with a file of 3007:3008, and a tmpfs below it with one too."""
    outer = os.path.join(t.directory, "outer")
    os.makedirs(outer)
    system.mount("tmpfs", outer, "tmpfs")
    inner = os.path.join(outer, "inner")
    os.mkdir(inner)
    system.mount("tmpfs", inner, "tmpfs")
    for directory in (outer, inner):
        path = os.path.join(directory, "file")
        open(path, "w").close()
        os.chown(path, 3007, 3008)
    return outer


def mount(t: Trial, *options: str, **more: object) -> dict[str, Json]:
    return {"destination": "/mnt", "type": "none", "source": source(t), "options": list(options), **more}


def owner(line: Line) -> tuple[Json, Json]:
    return (line.get("uid"), line.get("gid"))


@case("option.idmap", "option.idmap.mapped", "option.idmap.own", "option.idmap.not-data", needs="idmap", level="full")
def idmap(t: Trial) -> None:
    """idmap maps the ids with the mount's mappings; mounts below are not mapped."""
    seen = t.observe({"/mounts/-": mount(t, "rbind", "idmap", uidMappings=OWN, gidMappings=OWN)}, "stat /mnt/file", "stat /mnt/inner/file")
    t.equal(owner(seen[0]), (5007, 5008), "owner of a file")
    t.equal(owner(seen[1]), (3007, 3008), "owner of a file of the mount below")


@case("option.ridmap", "option.ridmap.own", "option.idmap.not-data", needs="idmap", level="full")
def ridmap(t: Trial) -> None:
    """ridmap also maps the mounts below."""
    seen = t.observe({"/mounts/-": mount(t, "rbind", "ridmap", uidMappings=OWN, gidMappings=OWN)}, "stat /mnt/file", "stat /mnt/inner/file")
    t.equal(owner(seen[0]), (5007, 5008), "owner of a file")
    t.equal(owner(seen[1]), (5007, 5008), "owner of a file of the mount below")


@case("option.idmap.none", "option.ridmap.none", needs="idmap", level="full")
def without_mappings(t: Trial) -> None:
    """idmap and ridmap without mappings and without a user namespace give an error."""
    changes = {"/mounts/-": mount(t, "bind", "idmap")}
    t.refused(changes, "option.idmap.none", what="create with idmap alone gives an error")
    changes["/mounts/-"]["options"] = ["rbind", "ridmap"]
    t.refused(changes, "option.ridmap.none", what="create with ridmap alone gives an error")


@case("mounts.mappings.both", needs="idmap", level="full")
def half(t: Trial) -> None:
    """uidMappings without gidMappings, and vice versa, give an error."""
    entry = mount(t, "bind", "idmap", uidMappings=OWN)
    t.refused({"/mounts/-": entry}, what="create with uidMappings alone gives an error")
    del entry["uidMappings"]
    entry["gidMappings"] = OWN
    t.refused({"/mounts/-": entry}, what="create with gidMappings alone gives an error")
