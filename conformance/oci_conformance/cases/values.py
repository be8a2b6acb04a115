"""config.md#configExtensibility, #valid-values, #configAnnotations: what is ignored, and what is refused."""

from typing import TYPE_CHECKING

from oci_conformance.case import add, case
from oci_conformance.trial import Trial

if TYPE_CHECKING:
    from oci_conformance.case import CaseFunction

UNKNOWN = {"com.example.unknown": {"a": [1, None]}}
WRONG_TYPES: tuple[tuple[str, object], ...] = (
    ("/process/args", "/bin/probe"),
    ("/process/cwd", 7),
    ("/process/env", "A=b"),
    ("/process/user/uid", "0"),
    ("/process/terminal", "yes"),
    ("/root/readonly", "no"),
    ("/mounts", {"destination": "/mnt"}),
    ("/hostname", ["a"]),
    ("/linux/namespaces", "pid"),
    ("/linux/resources/memory/limit", "64M"),
    ("/linux/devices", {}),
    ("/linux/seccomp", "unconfined"),
)
OUT_OF_RANGE = (
    ("/process/user/uid", -1),
    ("/process/user/gid", 1 << 32),
    ("/process/rlimits", [{"type": "RLIMIT_NOFILE", "soft": -1, "hard": 10}]),
    ("/linux/resources/cpu/shares", -5),
    ("/linux/resources/blockIO/weight", 1 << 16),
)


@case("extensibility.unknown", level="core")
def unknown_properties(t: Trial) -> None:
    """Unknown properties are ignored: at the top, in objects, in the entries of lists."""
    config = t.configuration(None, "say ran")
    for node in (config, config["process"], config["process"]["user"], config["root"], config["linux"], config["mounts"][0]):
        node.update(UNKNOWN)
    config["linux"]["namespaces"][0].update(UNKNOWN)
    config["linux"]["resources"] = {"pids": {"limit": 100, **UNKNOWN}, **UNKNOWN}
    config["process"]["capabilities"].update(UNKNOWN)
    config["hooks"] = {"poststop": [{**t.hook("x"), **UNKNOWN}], **UNKNOWN}
    seen = t.observe({"/process/args": ["/bin/probe", "say", "ran"]}, config=config)
    t.equal(seen.get("text"), "ran", "the program runs")


@case("extensibility.unknown", level="core")
def other_platforms(t: Trial) -> None:
    """Sections for other platforms are ignored."""
    changes = {"/solaris": {"milestone": "x"}, "/vm": {"kernel": {"path": "/k"}}, "/zos": {"namespaces": []}, "/process/commandLine": "x"}
    t.equal(t.observe(changes, "say ran").get("text"), "ran", "the program runs")


@case("annotations.unknown", "annotations.value", level="core")
def annotations(t: Trial) -> None:
    """Annotations with any keys, and with empty values, are accepted."""
    changes = {"/annotations": {"com.example.x": "", "org.opencontainers.image.unknown": "1", "no-domain": "ä"}}
    t.equal(t.observe(changes, "say ran").get("text"), "ran", "the program runs")


@case("annotations.stop-signal", level="linux")
def image_annotations(t: Trial) -> None:
    """Annotations about the image are accepted, and do not change what kill sends."""
    made = t.running({"/annotations": {"org.opencontainers.image.stopSignal": "SIGUSR1", "org.opencontainers.image.os": "linux"}})
    made.kill("USR2")
    t.equal(made.line("signal").get("signal"), 12, "the signal that kill sent")


@case("annotations.map", "annotations.key", "annotations.value", level="core")
def invalid_annotations(t: Trial) -> None:
    """Annotations that are not a map, an empty key, and a value that is not a string give an error."""
    t.refused({"/annotations": ["a"]}, "annotations.map", what="a list of annotations gives an error")
    t.refused({"/annotations": {"": "x"}}, "annotations.key", what="an empty key gives an error")
    t.refused({"/annotations": {"com.example.x": 5}}, "annotations.value", what="a number as value gives an error")


def refused(pointer: str, value: object) -> "CaseFunction":
    def run(t: Trial) -> None:
        t.refused({pointer: value}, at="start", what="create with %r as %s gives an error" % (value, pointer))

    run.__doc__ = "%r as %s gives an error." % (value, pointer)
    return run


for requirement, rows in (("values.type", WRONG_TYPES), ("values.range", OUT_OF_RANGE)):
    for pointer, value in rows:
        name = "values.%s_%s" % (requirement.partition(".")[2], pointer.strip("/").replace("/", "_"))
        add(name, refused(pointer, value), (requirement,), "linux")


@case("values.name", level="core")
def unknown_names(t: Trial) -> None:
    """Unknown names, of a namespace or a resource limit, give an error."""
    t.refused({"/linux/namespaces/-": {"type": "nosuch"}}, what="an unknown namespace gives an error")
    limits = [{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]
    t.refused({"/process/rlimits": limits}, at="start", what="an unknown resource limit gives an error")
