"""Every property of the schema is explained, and everything explained is a property of the schema."""

import re

import pytest

from pyrunc.engine import cgroup_preview
from pyrunc.oci import glossary
from pyrunc.oci.nearest import distance, nearest
from pyrunc.parts.table import PARTS

PLACES = glossary.all_pointers()
DIRECT = {p for p in PLACES if p in glossary.WORDS or any(glossary._fits(p, k) for k in glossary.WORDS)}


def test_walks_the_schema():
    assert "/mounts/*/options/*" in PLACES and "/linux/resources/memory/limit" in PLACES and "/annotations/*" in PLACES
    assert len(PLACES) == len(set(PLACES)) > 200


@pytest.mark.parametrize("place", [p for p in PLACES if p.count("/") < 4 and not p.endswith("*")])
def test_each_property_is_explained(place):
    """Near the top of the config, each property has its own row, or its parent's row covers its members."""
    text, _calls = glossary.words(place)
    assert text.endswith((".", "…")) and (
        place in DIRECT or place.rpartition("/")[0].replace("/*", "") in glossary.WORDS or glossary.files(place)
    ), place


@pytest.mark.parametrize("key", [key for part, _always, keys, _needs in PARTS for key in keys if key in PLACES and part != "foreign"])
def test_what_a_part_owns_is_explained_by_itself(key):
    """With words and a section, not with those of the object around it."""
    assert key in DIRECT and "#" in glossary.section(key)


def test_nothing_else_is_explained():
    assert [k for k in glossary.WORDS if k not in PLACES and not any(glossary._fits(p, k) for p in PLACES)] == []
    assert [k for k in glossary.FILES if k not in PLACES] == []
    assert [p for p, _ in glossary.SECTIONS if p and p not in PLACES] == []


LIMITS = {
    "memory": {"limit": 1, "reservation": 1, "swap": 2, "swappiness": 1, "oom_off": True, "hierarchy": True},
    "cpu": {"shares": 2, "quota": 1000, "period": 2000, "burst": 1, "cpus": "0", "mems": "0", "rt_runtime": 1, "rt_period": 2, "idle": 0},
    "pids": {"limit": 1},
    "blkio": {
        "weight": 10,
        "leaf_weight": 10,
        "devices": [[8, 0, 10, 10]],
        "throttle": [["rbps", 8, 0, 1, ""], ["wbps", 8, 0, 1, ""], ["riops", 8, 0, 1, ""], ["wiops", 8, 0, 1, ""]],
    },
    "hugetlb": [["2MB", 1]],
    "network": {"class": 1, "priorities": [["lo", 1]]},
    "rdma": [["mlx", 1, 1]],
}


@pytest.mark.parametrize("version, column", [(1, 0), (2, 1)])
def test_files_are_those_that_the_drivers_write(version, column):
    """The drivers list the files that they write for a full set of limits."""
    keys = ("cpuset", "memory", "cpu", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "rdma")
    paths = {"unified": "/none"} if version == 2 else {key: "/none" for key in keys}
    found = cgroup_preview.files({"cgroups": {"paths": paths, "version": version}, "resources": LIMITS})
    names = {re.sub(r"\.[0-9]+[KMG]B\.", ".SIZE.", row["file"].rpartition("/")[2]) for row in found} | {
        "cgroup.procs",
        "devices.allow",
        "devices.deny",
    }
    told = {name for row in glossary.FILES.values() for name in re.findall(r"\b[a-z_]+\.[a-zSIZE_.]+", row[column])}
    assert told - names - {"io.bfq.weight"} == set(), "no driver writes them"
    beside = {"hugetlb.SIZE.rsvd.max", "hugetlb.SIZE.rsvd.limit_in_bytes", "blkio.leaf_weight_device", "devices.allow", "devices.deny"}
    assert names - told - beside == set(), "the glossary does not mention them"


def test_canonical():
    assert glossary.canonical("/mounts/3/options/0")[0] == "/mounts/*/options/*"
    assert glossary.canonical("/annotations/a~1b")[0] == "/annotations/*"
    assert glossary.canonical("/linux/nothing") is None and glossary.canonical("/mounts/x") is None


def test_by_name():
    assert glossary.by_name("noNewPrivileges") == ["/process/noNewPrivileges"]
    assert glossary.by_name("memory.limit") == ["/linux/resources/memory/limit"]
    assert "/mounts/*/options" in glossary.by_name("options") and glossary.by_name("nothing") == []


def test_nearest():
    assert distance("kitten", "sitting") == 3 and distance("ab", "ba") == 1 and distance("", "abc") == 3
    assert nearest("memroy", ["memory", "mounts", "cpu"]) == ["memory"]
    assert nearest("zzzzzz", ["memory", "cpu"]) == [] and nearest("memory", ["memory", "memory"]) == ["memory"]
