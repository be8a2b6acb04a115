"""config-linux.md#configLinuxUnified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oci_conformance import system
from oci_conformance.case import case

if TYPE_CHECKING:
    from oci_conformance.trial import Trial


@case("unified.written", "unified.controllers", needs="v2")
def written(t: Trial) -> None:
    """Keys are written to their files, and their controllers enabled, even if the runtime does not know the key."""
    values = {"pids.max": "77", "memory.high": str(64 << 20), "cgroup.max.depth": "5"}
    made = t.created({"/linux/resources": {"unified": values}})
    for name, value in values.items():
        seen = system.read("%s/%s/%s" % (t.machine.unified, made.id, name))
        t.equal((seen or "").strip(), value, name, "unified.written", "unified.controllers")


@case("unified.missing", needs="unified")
def missing(t: Trial) -> None:
    """A key of a missing controller gives an error."""
    t.refused({"/linux/resources": {"unified": {"nosuchcontroller.max": "1"}}})


@case("unified.conversion", needs="v1")
def on_version_1(t: Trial) -> None:
    """Keys of version 2 on a host whose controllers are of version 1 give an error."""
    t.refused({"/linux/resources": {"unified": {"memory.max": str(64 << 20)}}})


@case("unified.conversion", needs="v2")
def not_convertible(t: Trial) -> None:
    """A setting of version 1 that version 2 does not have gives an error."""
    t.refused({"/linux/resources/memory/swappiness": 10}, what="create with memory.swappiness gives an error")
