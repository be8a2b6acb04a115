"""Every leaf of the config schema belongs to exactly one part: the one with the longest key above it in parts/table.py."""

import ast
import json

import harness
from pyrunc.parts.table import PARTS

SPECS = harness.ROOT / "specs"
KEYS = [(key, part) for part, _always, keys, _needs in PARTS for key in keys]


def resolve(node, here):
    """A schema with its references resolved, and its allOf and anyOf merged."""
    while "$ref" in node:
        name, _, pointer = node["$ref"].partition("#")
        here = name or here
        node = json.loads((SPECS / here).read_text())
        for step in filter(None, pointer.split("/")):
            node = node[step]
    props = {key: (value, here) for key, value in node.get("properties", {}).items()}
    for part in node.get("allOf", []) + node.get("anyOf", []):
        inner, _ = resolve(part, here)
        props.update(inner["properties"])
        node = {**inner["node"], **node}
    return {"properties": props, "node": node}, here


def leaves(schema, here, pointer=""):
    """Pointers of all properties without properties of their own; elements of lists are `*`, keys of free maps `<k>`."""
    found, here = resolve(schema, here)
    node = found["node"]
    if found["properties"]:
        for key, (value, where) in found["properties"].items():
            yield from leaves(value, where, pointer + "/" + key)
        return
    if "items" in node:
        yield from leaves(node["items"], here, pointer + "/*")
        return
    for value in [node.get("additionalProperties"), *node.get("patternProperties", {}).values()]:
        if value:
            yield from leaves(value, here, pointer + "/<k>")
            return
    yield pointer


LEAVES = sorted(set(leaves({"$ref": "config-schema.json"}, "")))


def owners(pointer):
    above = [(len(key), part) for key, part in KEYS if pointer == key or pointer.startswith(key + "/")]
    longest = max((length for length, _ in above), default=0)
    return [part for length, part in above if length == longest]


def test_the_walk_sees_the_schema():
    """If the walk missed a branch, the next test would pass without checking it."""
    assert len(LEAVES) >= 249
    for pointer in (
        "/ociVersion", "/process/user/additionalGids/*", "/linux/resources/blockIO/weightDevice/*/leafWeight", "/annotations/<k>",
        "/linux/seccomp/syscalls/*/args/*/valueTwo", "/linux/resources/rdma/<k>/hcaHandles", "/vm/hwConfig/iomems/*/firstGFN",
        "/linux/timeOffsets/boottime/nanosecs", "/hooks/poststop/*/env/*", "/linux/netDevices/<k>/name",
    ):  # fmt: skip
        assert pointer in LEAVES


def test_every_leaf_has_one_owner():
    without = [p for p in LEAVES if not owners(p)]
    several = {p: owners(p) for p in LEAVES if len(owners(p)) > 1}
    assert without == []
    assert several == {}


def test_every_key_owns_something():
    """A key that covers no leaf of the schema is a typo."""
    for key, part in KEYS:
        if key.startswith("/annotations/"):
            continue  # a single entry of the free map
        assert any(part in owners(p) for p in LEAVES if p == key or p.startswith(key + "/")), key


def test_no_key_is_listed_twice():
    assert len({key for key, _ in KEYS}) == len(KEYS)


def test_each_part_has_a_type():
    """parts/plans.pyi: what `Plans` holds for every part. foreign only warns, so it has no entry."""
    tree = ast.parse((harness.ROOT / "runtime/pyrunc/parts/plans.pyi").read_text())
    plans = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Plans")
    typed = {node.target.id for node in plans.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    assert typed == {part for part, *_rest in PARTS} - {"foreign"}
