"""config-linux.md#configLinuxIntelRdt. Most of it can only be tested on a machine with Resource Director Technology and a mounted
resctrl."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci_conformance import system
from oci_conformance.case import case

if TYPE_CHECKING:
    from oci_conformance.shapes import Json
    from oci_conformance.trial import Trial


def top() -> str:
    """The mount point of resctrl, which exists because of the cases' `needs`."""
    for line in (system.read("/proc/self/mountinfo") or "").splitlines():
        if " - resctrl " in line:
            return line.split()[4]
    raise LookupError("no resctrl file system is mounted")


def with_rdt(**values: Json) -> dict[str, Json]:
    return {"/linux/intelRdt": values}


def line_of(group: str, name: str) -> str | None:
    """A line of a group's current schemata, so that writing it changes nothing."""
    text = system.read(os.path.join(group, "schemata")) or ""
    return next((line.strip() for line in text.splitlines() if line.strip().startswith(name + ":")), None)


@case("rdt.no-resctrl", needs="no-resctrl")
def no_resctrl(t: Trial) -> None:
    """intelRdt without a mounted resctrl gives an error."""
    t.refused(with_rdt(closID="conformance", l3CacheSchema="L3:0=f"))


@case("rdt.newline")
def invalid_schema(t: Trial) -> None:
    """A memBwSchema that begins with something else, or has a newline, gives an error."""
    for text in ("L3:0=f", "MB:0=50\nL3:0=f"):
        t.refused(with_rdt(memBwSchema=text), what="create with the memBwSchema %r gives an error" % text)


@case("rdt.lines")
def invalid_lines(t: Trial) -> None:
    """A line of schemata with a newline in it gives an error."""
    t.refused(with_rdt(schemata=["L3:0=f\nMB:0=50"]))


@case("rdt.unset", needs="resctrl")
def untouched(t: Trial) -> None:
    """Without intelRdt, resctrl is not changed."""
    before = sorted(os.listdir(top()))
    t.created()
    t.equal(sorted(os.listdir(top())), before, "directories")


@case("rdt.own", "rdt.tasks", "rdt.schemata", "rdt.removed", needs="resctrl")
def own_group(t: Trial) -> None:
    """Without closID there is a directory with the container's id, with the process in its tasks; delete removes it."""
    line = line_of(top(), "L3")
    if line is None:
        t.skip("there is no L3 line in resctrl/schemata")
    made = t.created(with_rdt(l3CacheSchema=line))
    group = os.path.join(top(), made.id)
    t.check(os.path.isdir(group), "the directory is there", "rdt.own")
    t.has(str(made.pid), (system.read(group + "/tasks") or "").split(), "tasks", "rdt.tasks")
    t.equal(line_of(group, "L3"), line, "schemata", "rdt.schemata")
    made.start()
    made.finish()
    t.check(not os.path.exists(group), "delete removes it", "rdt.removed")


@case("rdt.created", "rdt.kept", "rdt.mismatch", "rdt.preconfigured", needs="resctrl")
def named_group(t: Trial) -> None:
    """A directory for closID is created if there is a schema, is kept by delete, and refuses a different schema."""
    name, line = t.new_id(), line_of(top(), "L3")
    if line is None:
        t.skip("there is no L3 line in resctrl/schemata")
    group = os.path.join(top(), name)
    t.refused(with_rdt(closID=name), "rdt.preconfigured", what="closID without a directory or a schema gives an error")
    try:
        made = t.created(with_rdt(closID=name, l3CacheSchema=line))
        t.check(os.path.isdir(group), "the directory is made", "rdt.created")
        made.start()
        made.finish()
        t.check(os.path.isdir(group), "delete keeps it", "rdt.kept")
        other = line.partition("=")[0] + "=1"
        t.refused(with_rdt(closID=name, l3CacheSchema=other), "rdt.mismatch", what="another schema gives an error")
        made = t.created(with_rdt(closID=name))
        t.has(str(made.pid), (system.read(group + "/tasks") or "").split(), "tasks of the existing directory", "rdt.preconfigured")
        made.stop()
        made.delete()
    finally:
        if os.path.isdir(group):
            os.rmdir(group)


@case("rdt.root", needs="resctrl")
def root_group(t: Trial) -> None:
    """closID / is the default class."""
    made = t.created(with_rdt(closID="/"))
    t.has(str(made.pid), (system.read(top() + "/tasks") or "").split(), "tasks of the default class")


@case("rdt.monitoring", needs="resctrl")
def monitoring(t: Trial) -> None:
    """enableMonitoring creates a monitoring group, and delete removes it."""
    made = t.created(with_rdt(closID="/", enableMonitoring=True))
    group = os.path.join(top(), "mon_groups", made.id)
    t.check(os.path.isdir(group), "the group is there")
    made.start()
    made.finish()
    t.check(not os.path.exists(group), "delete removes it")
