"""Annotations with an effect: the code that reads them, rejected values, and that docs/annotations.md names each."""

import re
from types import SimpleNamespace

import pytest

import harness
from fakes.hand import Ctx
from pyrunc.errors import Refusal, Unsupported
from pyrunc.oci import features
from pyrunc.parts import hooks, labels, meta
from pyrunc.parts.cgroups.plan import SUBS
from pyrunc.parts.seccomp import profile

PAGE = harness.ROOT / "docs/annotations.md"
ALL = {*meta.PATHS, *meta.KNOWN, *meta.HANDLERS}


def annotated(values, **options):
    ctx = Ctx(options=options)
    return meta.plan({"/ociVersion": "1.3.0", "/annotations": values}, ctx), ctx.warnings


def test_the_page_names_each():
    named = set(re.findall(r"`((?:run\.oci|org\.criu)\.[a-z0-9_.-]+)`", PAGE.read_text()))
    assert ALL <= named
    assert named - ALL == {"run.oci.systemd.force_cgroup_v1"}


def test_each_reader_knows_its_keys_by_the_same_name():
    readers = {
        *hooks.FILES, *SUBS, labels.CONTEXT_TYPE, profile.FAIL_UNKNOWN, profile.RAW, profile.RECEIVER, profile.PLUGINS,
        meta.RECEIVER,
        "run.oci.keep_original_groups", "org.criu.config", "run.oci.handler",
    }  # fmt: skip
    assert readers == ALL


@pytest.mark.parametrize("key", sorted(ALL))
def test_features_announces_it(key):
    assert any(key == known or (known.endswith(".") and key.startswith(known)) for known in features.UNSAFE)


@pytest.mark.parametrize("key", sorted(set(meta.PATHS) - {"org.criu.config"}))
def test_paths_need_the_option(key):
    entry, warnings = annotated({key: "/x"})
    assert entry["annotations"] == {} and entry["pidfd_receiver"] is None
    assert len(warnings) == 1 and "--allow-annotation-paths" in warnings[0][1]
    assert annotated({key: "/x"}, allow_annotation_paths=True)[0]["annotations"] == {key: "/x"}


@pytest.mark.parametrize("key", ["run.oci.systemd.force_cgroup_v1", "run.oci.nonsense"])
def test_unknown_annotations_are_warned_about(key):
    entry, warnings = annotated({key: "/x"})
    assert entry["annotations"] == {key: "/x"} and "no effect" in warnings[0][1]


@pytest.mark.parametrize("path", ["", "x", "./x"])
def test_receiver_must_be_absolute(path):
    with pytest.raises(Refusal) as e:
        annotated({meta.RECEIVER: path}, allow_annotation_paths=True)
    assert e.value.pointer == "/annotations/run.oci.pidfd_receiver"


def labelled(kind, **node):
    probe = SimpleNamespace(apparmor=lambda: False, selinux=lambda: True)
    ctx = Ctx({"meta": {"annotations": {} if kind is None else {labels.CONTEXT_TYPE: kind}}}, probe=probe)
    return labels.plan({"/linux/mountLabel": "system_u:object_r:x_t:s0", **node}, ctx)


@pytest.mark.parametrize("kind", labels.CONTEXT_TYPES)
def test_context_type(kind):
    assert labelled(kind)["context_type"] == kind
    assert "context_type" not in labelled(None)
    assert labelled("nonsense", **{"/linux/mountLabel": ""}) is None


@pytest.mark.parametrize("kind", ["", "nonsense", "context,size=1"])
def test_no_context_type(kind):
    with pytest.raises(Refusal) as e:
        labelled(kind)
    assert e.value.pointer == "/annotations/run.oci.mount_context_type"


def seccomp(annotations, **options):
    plans = {"meta": {"annotations": annotations}}
    return profile.plan({"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}, Ctx(plans, options))


@pytest.mark.parametrize(("value", "strict"), [(None, False), ("0", False), ("1", True), ("", True)])
def test_fail_at_unknown_calls(value, strict):
    assert seccomp({} if value is None else {profile.FAIL_UNKNOWN: value})["profile"]["strict"] is strict


def test_plugins_are_refused():
    with pytest.raises(Unsupported):
        seccomp({profile.PLUGINS: "/x.so"})
