"""runtime.md#runtimeLifecycle, bundle.md, glossary.md: the configuration file and its effect over time."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from oci_conformance.bundle import ABSENT, patch
from oci_conformance.case import case

if TYPE_CHECKING:
    from oci_conformance.trial import Trial


@case("lifecycle.config-fixed", level="core")
def changed_config(t: Trial) -> None:
    """Changing config.json after create does not affect start and delete."""
    hooks = {"poststop": [t.hook("old")]}
    made = t.created({"/hostname": "before", "/hooks": hooks}, "self")
    made.bundle.config = patch(
        made.bundle.config,
        {"/hostname": "after", "/process/args": ["/bin/probe", "say", "changed"], "/hooks/poststop": [t.hook("new")]},
    )
    made.bundle.write()
    made.start()
    seen = made.finish()
    t.equal([line["op"] for line in seen], ["self"], "start runs the program as it was at create")
    t.equal(seen[-1].get("hostname"), "before", "the host name is the one of create")
    t.equal(t.labels(), ["old"], "the hooks are those of create")


@case("lifecycle.config-fixed", level="core")
def removed_config(t: Trial) -> None:
    """start, state, kill and delete work after config.json has been removed."""
    made = t.created(None, "wait")
    os.remove(os.path.join(made.bundle.path, "config.json"))
    made.start()
    made.line("wait")
    t.equal(made.status, "running", "status")
    made.kill("TERM")
    t.check(made.ended(), "kill works")
    t.check(made.try_delete().code == 0, "delete works", (), "exit 0", made.last)


@case("lifecycle.environment", "lifecycle.program", level="core")
def environment(t: Trial) -> None:
    """The program runs in the environment that the configuration describes."""
    seen = t.observe({"/hostname": "inside", "/process/cwd": "/tmp", "/process/env": ["PATH=/bin", "A=b"]}, "self", "stat /bin/probe")
    t.equal(seen[0].get("hostname"), "inside", "host name")
    t.equal(seen[0].get("cwd"), "/tmp", "working directory")
    t.equal(seen[0].get("pid"), 1, "pid in a new pid namespace")
    t.equal(seen[1].get("type"), "file", "the root is that of the bundle")


@case("json.syntax", level="core")
def no_json(t: Trial) -> None:
    """Text that is not JSON gives an error."""
    for raw in (b"", b"{", b"[]", b'{"ociVersion": "1.0.2",}', b"null"):
        t.refused(None, raw=raw, what="create with %r gives an error" % raw.decode())


@case("json.utf8", level="full")
def no_utf8(t: Trial) -> None:
    """A configuration that is not UTF-8 gives an error."""
    text = json.dumps(t.configuration({"/annotations": {"com.example.name": "MARK"}}, "say ran")).encode()
    t.refused(None, raw=text.replace(b"MARK", b"\xff\xfe"))


@case("json.duplicates", level="full")
def duplicates(t: Trial) -> None:
    """A duplicate name in an object gives an error."""
    text = json.dumps(t.configuration(None, "say ran")).encode()
    t.refused(None, raw=b'{"hostname": "one", "hostname": "two", ' + text[1:])


@case("oci-version.required", level="core")
def no_version(t: Trial) -> None:
    """A configuration without ociVersion gives an error."""
    t.refused({"/ociVersion": ABSENT})


@case("oci-version.semver", level="core")
def no_semver(t: Trial) -> None:
    """An ociVersion that is not a version gives an error."""
    for version in ("junk", "1", ""):
        t.refused({"/ociVersion": version}, what="ociVersion %r gives an error" % version)


@case("oci-version.unsupported", level="core")
def other_major(t: Trial) -> None:
    """An ociVersion with another major version gives an error."""
    t.refused({"/ociVersion": "9.9.9"})


@case("oci-version.compatible", level="core")
def earlier(t: Trial) -> None:
    """Configurations for 1.0.0 and for a pre-release are accepted."""
    for version in ("1.0.0", "1.0.2-dev"):
        seen = t.observe({"/ociVersion": version}, "say ran")
        t.equal(seen.get("text"), "ran", "a container with ociVersion %s runs" % version)
