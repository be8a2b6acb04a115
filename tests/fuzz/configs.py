"""Configs made up by hypothesis: such as fit the schema of the specification, and good ones with something turned over.

The schema is made one document (hypothesis-jsonschema follows no references to other files). Objects get no unknown keys but now and then,
and texts are drawn from words that mean something to some part; otherwise nearly all would be refused at the first letter.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis_jsonschema import from_schema

import harness
import make_rootfs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Json


SPECS = harness.ROOT / "specs"
DROPPED = ("$schema", "id", "$id", "definitions")
WORDS = [
    "", "/", "/proc", "/sys", "/dev/null", "/proc/self/fd/7", "..", "a/../b", "rootfs", "/bin/true", "x" * 300, "\n", "\x1b[2J", "ü", "\udc80",
    "pid", "mount", "user", "cgroup", "bind", "rbind", "tmpfs", "proc", "cgroup2", "ro", "size=1", "mode=1777", "idmap", "tmpcopyup", "CAP_KILL",
    "CAP_SYS_ADMIN", "RLIMIT_NOFILE", "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_NOTIFY", "SCMP_CMP_MASKED_EQ", "SCMP_ARCH_X86_64", "read",
    "memory.max", "net.ipv4.ip_forward", "kernel.msgmax", "0-3", "banana", "2MB", "c", "b", "rwm", "A=1", "HOME=/", "eth0", "a:b:c", "1.2.0",
]  # fmt: skip
NUMBERS = [0, 1, -1, 7, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**19, -(2**63)]


def inline(node: Json, here: str = "config-schema.json", closed: bool = True) -> Json:
    """The schema without references; `closed`: objects take no keys that it does not name."""
    if isinstance(node, list):
        return [inline(item, here, closed) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name, _, pointer = node["$ref"].partition("#")
        here = name or here
        found = json.loads((SPECS / here).read_text())
        for step in filter(None, pointer.split("/")):
            found = found[step]
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return {**inline(found, here, closed), **inline(rest, here, closed)}
    kept = {key: inline(value, here, closed) for key, value in node.items() if key not in DROPPED and type(key) is str}
    if closed and "properties" in kept and "allOf" not in kept and "anyOf" not in kept:
        kept.setdefault("additionalProperties", False)
    return kept


@functools.cache
def section(pointer: str) -> Json:
    """Values that fit the schema at a pointer of the config, like /process."""
    node = inline({"$ref": "config-schema.json"})
    for step in pointer.split("/")[1:]:
        node = node["properties"][step]
    return from_schema(node)


SECTIONS = (
    "/process", "/mounts", "/hooks", "/root", "/linux/resources", "/linux/seccomp", "/linux/devices", "/linux/namespaces", "/linux/uidMappings",
    "/linux/sysctl", "/linux/intelRdt", "/linux/memoryPolicy", "/linux/timeOffsets", "/linux/netDevices", "/linux/maskedPaths", "/annotations",
    "/process/user", "/process/rlimits", "/process/scheduler", "/process/capabilities", "/linux/personality", "/linux/cgroupsPath",
)  # fmt: skip


@functools.cache
def good() -> Json:
    """Configs that are known to be good: the examples and the base of the tests."""
    found = [harness.BASE]
    for name in make_rootfs.bundles():
        found.append(json.loads((harness.ROOT / "bundles" / name / "config.json").read_text()))
    return found


@st.composite
def fitting(draw: Json) -> Json:
    """A good config with one to three sections from the schema."""
    config = draw(st.sampled_from(good()))
    for pointer in draw(st.lists(st.sampled_from(SECTIONS), min_size=1, max_size=3, unique=True)):
        config = harness.patch(config, {pointer: draw(section(pointer))})
    return config


def places(node: Json, pointer: str = "") -> Iterator[str]:
    """Pointers of all values below a node."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        here = "%s/%s" % (pointer, str(key).replace("~", "~0").replace("/", "~1"))
        yield here
        yield from places(value, here)


values = st.one_of(
    st.sampled_from(WORDS), st.sampled_from(NUMBERS), st.none(), st.booleans(), st.text(max_size=20), st.integers(), st.just([]), st.just({}),
    st.lists(st.sampled_from(WORDS), max_size=4), st.dictionaries(st.sampled_from(WORDS), st.sampled_from(WORDS), max_size=3),
    st.just(harness.ABSENT),
)  # fmt: skip


@st.composite
def mutated(draw: Json) -> Json:
    """A config with one to five of its values replaced by something else, left out, or given a neighbour."""
    config = draw(st.one_of(st.sampled_from(good()), fitting()))
    for _ in range(draw(st.integers(1, 5))):
        found = list(places(config))
        if not found:
            break
        where = draw(st.sampled_from(found))
        if draw(st.integers(0, 5)) == 0:
            where = where.rpartition("/")[0] + "/" + draw(st.sampled_from(["-", "unknown", "UID", "size"]))
        try:
            config = harness.patch(config, {where: draw(values)})
        except (ValueError, TypeError, IndexError, AttributeError):
            continue  # a name below a list
    return config


def document(config: Json) -> bytes:
    """bytes as they would stand in config.json."""
    return json.dumps(config).encode("utf-8", "surrogateescape")
