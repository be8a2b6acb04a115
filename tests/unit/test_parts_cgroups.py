"""parts/cgroups: the location of the container's cgroups, for every form of cgroupsPath."""

import pytest

import cgroup_tools as tools
from pyrunc.cgroup import hierarchies
from pyrunc.errors import Refusal, Unsupported
from pyrunc.parts import cgroups
from pyrunc.parts.cgroups import verbs

SLICE = "/user.slice/user-1000.slice/user@1000.service/app.slice"


@pytest.fixture
def plan(monkeypatch):
    def call(path=None, kind="hybrid", **kw):
        monkeypatch.setattr(hierarchies, "layout", lambda: tools.layout(kind))
        return cgroups.plan({} if path is None else {"/linux/cgroupsPath": path}, tools.make_ctx(**kw))

    return call


@pytest.mark.parametrize(
    "given, memory, unified",
    [
        ("/x/y", "/sys/fs/cgroup/memory/x/y", "/sys/fs/cgroup/unified/x/y"),
        ("//x/./y//", "/sys/fs/cgroup/memory/x/y", "/sys/fs/cgroup/unified/x/y"),
        ("x/y", "/sys/fs/cgroup/memory/a/b/x/y", "/sys/fs/cgroup/unified/user.slice/s/x/y"),
        ("", "/sys/fs/cgroup/memory/a/b/c1", "/sys/fs/cgroup/unified/user.slice/s/c1"),
        (None, "/sys/fs/cgroup/memory/a/b/c1", "/sys/fs/cgroup/unified/user.slice/s/c1"),
        ("a:b:c", "/sys/fs/cgroup/memory/a/b/a:b:c", "/sys/fs/cgroup/unified/user.slice/s/a:b:c"),
    ],
)
def test_paths_on_v1_and_hybrid(plan, given, memory, unified):
    entry = plan(given)
    assert entry["paths"]["memory"] == memory
    assert entry["paths"]["unified"] == unified
    assert entry["explicit"] == bool(given)
    assert plan(given, "v1")["paths"].get("unified") is None


@pytest.mark.parametrize(
    "given, path", [("/x/y", "/x/y"), ("x", SLICE + "/x"), (None, SLICE + "/c1"), ("", SLICE + "/c1"), ("/a b", "/a b"), ("/é", "/é")]
)
def test_paths_on_v2_stand_beside_our_own(plan, given, path):
    entry = plan(given, "v2")
    assert entry["paths"] == {"unified": "/sys/fs/cgroup" + path}
    assert entry["version"] == 2


@pytest.mark.parametrize(
    "given", ["../x", "/a/../b", "..", "/a/..", "a\nb", "a\tb", "a\x7fb", "/", "//", "/./", ".", "x" * 256, "/x" * 2000, "a\ud800b"]
)
@pytest.mark.parametrize("kind", ["hybrid", "v2"])
def test_refused(plan, given, kind):
    with pytest.raises(Refusal) as e:
        plan(given, kind)
    assert e.value.pointer == "/linux/cgroupsPath"


def test_longest_name(plan):
    assert plan("/" + "x" * 255)["paths"]["pids"].endswith("x" * 255)


def test_dots_inside_of_names_are_fine(plan):
    assert plan("/a..b/...")["paths"]["pids"] == "/sys/fs/cgroup/pids/a..b/..."


def test_disabled_manager_has_no_paths(plan):
    entry = plan("/x", cgroup_manager="disabled")
    assert entry["manager"] == "disabled" and entry["paths"] == {}


def test_no_hierarchy(plan):
    with pytest.raises(Unsupported):
        plan("/x", "none")
    with pytest.raises(Unsupported):
        plan(None, "none")
    assert plan(None, "none", euid=1000)["paths"] == {}


@pytest.mark.parametrize(
    "kw, rootless",
    [
        ({}, False), ({"euid": 1000}, True), ({"in_userns": True}, True), ({"euid": 1000, "rootless": "false"}, False),
        ({"rootless": "true"}, True),
    ],
)  # fmt: skip
def test_rootless(plan, kw, rootless):
    assert plan("/x", **kw)["rootless"] is rootless


@pytest.mark.parametrize(
    "plans, wanted",
    [
        ({}, False),
        ({"namespaces": {"new": ["cgroup"]}, "mounts": {"list": [{"type": "cgroup", "destination": "/sys/fs/cgroup", "flags": 0}]}}, True),
        ({"namespaces": {"new": ["cgroup"]}, "mounts": {"list": [{"type": "cgroup", "destination": "/sys/fs/cgroup", "flags": 1}]}}, False),
        ({"namespaces": {"new": ["pid"]}, "mounts": {"list": [{"type": "cgroup", "destination": "/sys/fs/cgroup", "flags": 0}]}}, False),
        ({"namespaces": {"new": ["cgroup"]}, "mounts": {"list": [{"type": "bind", "destination": "/sys/fs/cgroup", "flags": 0}]}}, False),
    ],
)
def test_delegation_needs_a_namespace_and_a_writable_mount(plans, wanted):
    assert verbs._wants_delegation(plans) is wanted


@pytest.mark.parametrize(
    "annotations, kind, systemd, sub",
    [
        ({}, "v2", False, None),
        ({"run.oci.delegate-cgroup": "work"}, "v2", False, "work"),
        ({"run.oci.delegate-cgroup": "/a//b"}, "v2", False, "a/b"),
        ({"run.oci.delegate-cgroup": "work"}, "v1", False, None),
        ({"run.oci.systemd.subgroup": "container"}, "v2", False, None),
        ({"run.oci.systemd.subgroup": "container", "run.oci.delegate-cgroup": "work"}, "v2", True, "container/work"),
        ({"run.oci.systemd.subgroup": ""}, "v2", True, None),
    ],
)
def test_sub_cgroups(plan, annotations, kind, systemd, sub):
    assert plan(None, kind, plans={"meta": {"annotations": annotations}}, systemd_cgroup=systemd).get("sub") == sub


@pytest.mark.parametrize("text", ["../x", "a/../../b", "a\nb", "x" * 256])
def test_sub_cgroups_stay_below(plan, text):
    with pytest.raises(Refusal) as e:
        plan(None, "v2", plans={"meta": {"annotations": {"run.oci.delegate-cgroup": text}}})
    assert e.value.pointer == "/annotations/run.oci.delegate-cgroup"
