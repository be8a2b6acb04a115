"""parts/paths: plans for maskedPaths and readonlyPaths."""

import json

import pytest

from fakes.hand import Ctx, namespaces
from pyrunc.errors import Refusal
from pyrunc.parts import paths


def plan(masked=None, readonly=None, spaces=("mount",), **plans):
    node = {}
    if masked is not None:
        node["/linux/maskedPaths"] = masked
    if readonly is not None:
        node["/linux/readonlyPaths"] = readonly
    return paths.plan(node, Ctx({"namespaces": namespaces(*spaces), **plans}))


def refused(*args, **more):
    with pytest.raises(Refusal) as caught:
        plan(*args, **more)
    return caught.value


def test_nothing():
    assert plan() is None and plan([], []) is None and plan([], [], spaces=()) is None


def test_both():
    entry = plan(["/proc/kcore", "/proc//keys/"], ["/proc/sys"])
    assert entry["masked"] == [["/proc/kcore", "/linux/maskedPaths/0"], ["/proc/keys", "/linux/maskedPaths/1"]]
    assert entry["readonly"] == [["/proc/sys", "/linux/readonlyPaths/0"]] and entry["label"] is None
    assert json.loads(json.dumps(entry)) == entry
    assert plan(["/a"], labels={"mount": "x"})["label"] == "x"


def test_each_once():
    assert plan(["/a", "/a/", "/b", "//a"])["masked"] == [["/a", "/linux/maskedPaths/0"], ["/b", "/linux/maskedPaths/2"]]


@pytest.mark.parametrize("lists", [(["/a"], None), (None, ["/a"])])
def test_without_a_mount_namespace(lists):
    e = refused(*lists, spaces=("pid", "user"))
    assert e.words == "unable to restrict sys entries without a private MNT namespace"
    assert e.pointer == ("/linux/maskedPaths" if lists[0] else "/linux/readonlyPaths")


@pytest.mark.parametrize("path", ["", "a", "./a", "/", "//", "/.", "/a/../b", "..", "/a\0"])
def test_bad_paths(path):
    assert refused(["/ok", path]).pointer == "/linux/maskedPaths/1"
    assert refused(None, [path]).pointer == "/linux/readonlyPaths/0"
