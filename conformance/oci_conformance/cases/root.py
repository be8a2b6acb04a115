"""config.md#configRoot."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from oci_conformance.bundle import ABSENT
from oci_conformance.case import case

if TYPE_CHECKING:
    from oci_conformance.trial import Trial


@case("root.readonly", level="core")
def readonly(t: Trial) -> None:
    """With readonly nothing can be written to the root; mounts in it are not affected."""
    seen = t.observe({"/root/readonly": True}, ["write", "/tmp/x", "1"], "mkdir /new", ["write", "/dev/shm/x", "1"], "open /bin/probe w")
    for line, path in zip(seen[:2], ("/tmp/x", "/new"), strict=True):
        t.equal(line.get("errno"), errno.EROFS, "writing %s" % path)
    t.equal(seen[2].get("errno"), 0, "writing to a mount below")
    t.check(seen[3].get("errno") in (errno.EROFS, errno.ETXTBSY), "opening a file for writing", (), "EROFS", seen[3])


@case("root.writable", level="core")
def writable(t: Trial) -> None:
    """Without readonly, and with readonly false, the root can be written."""
    for changes in (None, {"/root/readonly": False}):
        seen = t.observe(changes, ["write", "/tmp/x", "1"], "mkdir /new")
        t.equal([line.get("errno") for line in seen], [0, 0], "writing with %s" % (changes or "nothing set"))


@case("root.path.relative", level="core")
def relative(t: Trial) -> None:
    """A relative path starts at the bundle, not at the caller's directory."""
    made = t.container({"/root/path": "other/root"}, "stat /mark")
    os.mkdir(os.path.join(made.bundle.path, "other"))
    os.rename(made.bundle.rootfs, os.path.join(made.bundle.path, "other/root"))
    open(os.path.join(made.bundle.path, "other/root/mark"), "w").close()
    made.create()
    made.start()
    t.equal(made.finish()[0].get("type"), "file", "a file of that directory")


@case("root.path.absolute", level="core")
def absolute(t: Trial) -> None:
    """An absolute path is used unchanged."""
    made = t.container(None, "stat /mark")
    target = os.path.join(t.directory, "elsewhere")
    os.rename(made.bundle.rootfs, target)
    open(os.path.join(target, "mark"), "w").close()
    made.bundle.config["root"]["path"] = target
    made.bundle.write()
    made.create()
    made.start()
    t.equal(made.finish()[0].get("type"), "file", "a file of that directory")


@case("root.path.exists", level="core")
def missing(t: Trial) -> None:
    """A path that does not exist, or is a file, gives an error."""
    t.refused({"/root/path": "no-such-directory"}, what="create with a missing root gives an error")
    t.refused({"/root/path": "config.json"}, what="create with a file as root gives an error")


@case("root.required", "root.path.required", level="core")
def incomplete(t: Trial) -> None:
    """A configuration without root, and a root without path, give an error."""
    t.refused({"/root": ABSENT}, "root.required", what="create without root gives an error")
    t.refused({"/root": {"readonly": False}}, "root.path.required", what="create without root.path gives an error")


@case("root.path.absolute", level="core")
def isolated(t: Trial) -> None:
    """The program sees the files of the root and no others: the way up from / leads to /."""
    seen = t.observe(None, "list /", "stat /../../bin/probe", ["stat", "/" + t.directory.strip("/")])
    names = set(seen[0].get("names", ()))
    t.check({"bin", "proc", "tmp"} <= names, "the root's directories", (), "bin, proc, tmp, …", sorted(names))
    t.equal(seen[1].get("type"), "file", "/../../bin/probe is /bin/probe")
    t.equal(seen[2].get("errno"), errno.ENOENT, "a directory of the host")
