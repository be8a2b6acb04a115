"""user, capabilities, meta, foreign: plans, table by table."""

import json
import struct

import pytest

from fakes.hand import Ctx, Run, namespaces
from pyrunc.errors import Refusal, StepFailure, Unsupported
from pyrunc.linux import caps
from pyrunc.parts import capabilities, foreign, meta, user

MAPS = {"uid": [[0, 100000, 1000]], "gid": [[0, 200000, 1000]], "setgroups": "allow"}


def refused(function, node, ctx):
    with pytest.raises((Refusal, Unsupported)) as caught:
        function(node, ctx)
    return caught.value


# ---- user


def ids(value=None, ctx=None):
    return user.plan({} if value is None else {"/process/user": value}, ctx or Ctx())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, (0, 0, [], 0o022)),
        ({"uid": 5, "gid": 6, "additionalGids": [7, 8], "umask": 0}, (5, 6, [7, 8], 0)),
        ({"uid": 2147483648, "gid": 4294967294}, (2147483648, 4294967294, [], 0o022)),
        ({"uid": 0, "gid": 0, "umask": 0o777, "additionalGids": []}, (0, 0, [], 0o777)),
        ({"uid": 0, "gid": 0, "additionalGids": [3, 3]}, (0, 0, [3, 3], 0o022)),
        ({"uid": 1, "gid": 1, "username": "root"}, (1, 1, [], 0o022)),
    ],
)
def test_user(value, expected):
    entry = ids(value)
    assert (entry["uid"], entry["gid"], entry["groups"], entry["umask"]) == expected
    assert entry["setgroups"] is True
    assert json.loads(json.dumps(entry)) == entry


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"uid": 4294967295, "gid": 0}, "/process/user/uid"),
        ({"uid": 0, "gid": 4294967295}, "/process/user/gid"),
        ({"uid": None, "gid": 0}, "/process/user/uid"),
        ({"uid": True, "gid": 0}, "/process/user/uid"),
        ({"uid": -1, "gid": 0}, "/process/user/uid"),
        ({"uid": 0, "gid": 0, "umask": 0o1000}, "/process/user/umask"),
        ({"uid": 0, "gid": 0, "umask": 4095}, "/process/user/umask"),
        ({"uid": 0, "gid": 0, "additionalGids": [1, 4294967295]}, "/process/user/additionalGids/1"),
        ({"uid": 0, "gid": 0, "additionalGids": list(range(70000))}, "/process/user/additionalGids/65536"),
    ],
)
def test_user_refused(value, pointer):
    assert refused(user.plan, {"/process/user": value}, Ctx()).pointer == pointer


def test_a_user_without_uid_is_root_with_a_warning():
    ctx = Ctx()
    assert ids({"gid": 3}, ctx)["uid"] == 0
    assert ctx.warnings == [["/process/user", "no uid given: 0"]]


@pytest.mark.parametrize(
    ("value", "words", "pointer"),
    [
        ({"uid": 1000, "gid": 0}, "cannot setuid to unmapped uid 1000 in user namespace", "/process/user/uid"),
        ({"uid": 0, "gid": 1000}, "cannot setgid to unmapped gid 1000 in user namespace", "/process/user/gid"),
        (
            {"uid": 999, "gid": 999, "additionalGids": [5, 4294967294]},
            "cannot set unmapped additional group 4294967294 in user namespace",
            "/process/user/additionalGids/1",
        ),
    ],
)
def test_unmapped_ids_are_refused_with_the_map_in_the_hint(value, words, pointer):
    e = refused(user.plan, {"/process/user": value}, Ctx({"namespaces": namespaces("user"), "idmaps": MAPS}))
    assert (e.words, e.pointer) == (words, pointer)
    assert "00000 1000" in e.hint


def test_groups_where_setgroups_is_denied():
    ctx = Ctx({"namespaces": namespaces("user"), "idmaps": {**MAPS, "setgroups": "deny"}})
    assert ids({"uid": 0, "gid": 0}, ctx)["setgroups"] is False
    e = refused(user.plan, {"/process/user": {"uid": 0, "gid": 0, "additionalGids": [1]}}, ctx)
    assert e.words == "cannot set any additional groups in a rootless container"
    assert e.pointer == "/process/user/additionalGids"


def test_keep_original_groups():
    ctx = Ctx({"meta": {"keep_groups": True}})
    assert ids({"uid": 0, "gid": 0}, ctx)["setgroups"] is False


def test_keep_original_groups_wins_over_additional_groups():
    """podman's keep-groups sets both; the additional groups are neither set nor checked against the maps."""
    ctx = Ctx({"meta": {"keep_groups": True}, "namespaces": namespaces("user"), "idmaps": {**MAPS, "setgroups": "deny"}})
    entry = ids({"uid": 0, "gid": 0, "additionalGids": [1, 70000]}, ctx)
    assert (entry["groups"], entry["setgroups"]) == ([], False) and user.op_ids(entry, Run())[3] is None
    assert [pointer for pointer, _text in ctx.warnings] == ["/process/user/additionalGids"]


def test_op_ids_always_sets_groups():
    assert user.op_ids(ids({"uid": 5, "gid": 6}), Run()) == ("IDS", 5, 6, b"")
    op = user.op_ids(ids({"uid": 5, "gid": 6, "additionalGids": [7, 4000000000]}), Run())
    assert op == ("IDS", 5, 6, struct.pack("=II", 7, 4000000000))
    assert user.op_umask(ids({"uid": 0, "gid": 0, "umask": 7}), Run()) == ("UMASK", 7)


class Denying:
    def __init__(self, word):
        self.word = word

    def read(self, path, limit=64):
        assert path == "self/setgroups"
        return self.word


def test_op_ids_in_a_joined_user_namespace_that_denies():
    entry = ids({"uid": 0, "gid": 0}, Ctx({"namespaces": namespaces(join={"user": "/x"})}))
    assert user.op_ids(entry, Run(proc=Denying(b"deny\n"))) == ("IDS", 0, 0, None)
    assert user.op_ids(entry, Run(proc=Denying(b"allow\n"))) == ("IDS", 0, 0, b"")
    with pytest.raises(StepFailure, match="cannot set any additional groups"):
        user.op_ids({**entry, "groups": [1]}, Run(proc=Denying(b"deny\n")))


# ---- capabilities

ALL = (1 << 41) - 1


@pytest.fixture
def own(monkeypatch):
    """A process with all capabilities, on a kernel whose last one is 40."""
    monkeypatch.setattr(caps, "last", lambda: 40)
    monkeypatch.setattr(caps, "current", lambda: (ALL, ALL, 0, ALL))
    monkeypatch.setattr(caps, "permitted", lambda: ALL)


def sets(value, ctx=None, nnp=None):
    node = {} if value is None else {"/process/capabilities": value}
    if nnp is not None:
        node["/process/noNewPrivileges"] = nnp
    return capabilities.plan(node, ctx or Ctx())


def test_no_capabilities_at_all_empties_every_set(own):
    ctx = Ctx()
    entry = sets(None, ctx)
    assert [entry[name] for name in capabilities.SETS] == [0] * 5
    assert entry["last"] == 40 and entry["nnp"] is False
    assert ctx.warnings
    assert capabilities.op_bound(entry, None) == ("BOUND", 0, 40)
    assert capabilities.op_caps(entry, None) == ("CAPS", 0, 0, 0, 0)
    assert capabilities.op_nnp(entry, None) is None
    assert capabilities.op_nnp(sets({}, nnp=True), None) == ("NNP",)


def test_no_set_is_copied_from_another(own):
    """CVE-2016-8867 (ambient from bounding), CVE-2022-29162 (inheritable from permitted)."""
    entry = sets({"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"]})
    assert entry["bounding"] == 0b100001 and entry["permitted"] == entry["effective"] == 1
    assert entry["inheritable"] == entry["ambient"] == 0


@pytest.mark.parametrize("name", ["CAP_BOGUS", "cap_chown", "CHOWN", "", "CAP_CHOWN ", "CAP_\n"])
def test_unknown_names_are_dropped_with_a_warning(own, name):
    ctx = Ctx()
    entry = sets({"bounding": [name, "CAP_KILL"], "permitted": [name]}, ctx)
    assert (entry["bounding"], entry["permitted"]) == (0b100000, 0)
    (warning,) = [text for _pointer, text in ctx.warnings if text.startswith("ignoring unknown or unavailable capabilities: [")]
    assert "\n" not in warning


def test_what_the_kernel_or_we_lack_is_dropped_with_a_warning(own, monkeypatch):
    monkeypatch.setattr(caps, "current", lambda: (1, 1, 0, 1))
    monkeypatch.setattr(caps, "permitted", lambda: 1)
    value = {name: ["CAP_CHOWN", "CAP_SYS_RESOURCE"] for name in ("bounding", "permitted", "effective")}
    ctx = Ctx()
    assert sets(value, ctx)["permitted"] == 1
    assert ctx.warnings[0][1] == "ignoring unknown or unavailable capabilities: [CAP_SYS_RESOURCE]"
    inside = Ctx({"namespaces": namespaces("user")})
    assert sets(value, inside)["permitted"] == 1 | 1 << 24
    monkeypatch.setattr(caps, "last", lambda: 23)
    assert sets(value, inside)["permitted"] == 1


@pytest.mark.parametrize(
    ("value", "pointer", "missing"),
    [
        ({"bounding": ["CAP_KILL"], "effective": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"]}, "effective", "CAP_CHOWN"),
        ({"bounding": ["CAP_KILL"], "inheritable": ["CAP_KILL", "CAP_BPF"]}, "inheritable", "CAP_BPF"),
        ({"effective": ["CAP_MKNOD"]}, "effective", "CAP_MKNOD"),
    ],
)
def test_sets_that_capset_would_refuse(own, value, pointer, missing):
    e = refused(capabilities.plan, {"/process/capabilities": value}, Ctx())
    assert e.pointer == "/process/capabilities/" + pointer
    assert e.words.endswith(": " + missing)


def test_ambient_outside_permitted_and_inheritable_is_not_raised(own):
    ctx = Ctx()
    both = ["CAP_CHOWN", "CAP_KILL"]
    entry = sets({"bounding": both, "permitted": both, "inheritable": ["CAP_KILL"], "ambient": both}, ctx)
    assert entry["ambient"] == 0b100000
    assert ctx.warnings == [["/process/capabilities/ambient", "can't raise ambient capability CAP_CHOWN: operation not permitted"]]


def test_permitted_outside_bounding_causes_a_warning(own):
    ctx = Ctx()
    assert sets({"permitted": ["CAP_CHOWN"]}, ctx)["permitted"] == 1
    assert ctx.warnings[0][0] == "/process/capabilities/permitted"


def test_names_and_numbers():
    assert caps.NAMES[0] == "CAP_CHOWN" and caps.NAMES[40] == "CAP_CHECKPOINT_RESTORE" and len(caps.NAMES) == 41
    assert caps.names(1 << 24 | 1) == ["CAP_CHOWN", "CAP_SYS_RESOURCE"]
    assert caps.names(1 << 50) == ["CAP_50"]


def test_last_capability_is_the_kernels():
    with open("/proc/sys/kernel/cap_last_cap") as f:
        assert caps.last() == int(f.read())


def test_names_agree_with_python_prctl():
    prctl = pytest.importorskip("prctl")
    theirs = {
        name: getattr(prctl, name)
        for name in dir(prctl)
        if name.startswith("CAP_") and name not in ("CAP_EFFECTIVE", "CAP_PERMITTED", "CAP_INHERITABLE")
    }
    wrong = {name: number for name, number in theirs.items() if name in caps.NUMBERS and caps.NUMBERS[name] != number}
    assert wrong == {} and len(theirs) > 30


# ---- meta


@pytest.mark.parametrize("version", ["1.0.0", "1.3.0", "1.0", "1.0.2-dev", "1.2.0-rc1+dev", "1.99.0", "1.0.0+banana.2"])
def test_versions(version):
    assert meta.plan({"/ociVersion": version}, Ctx())["ociVersion"] == version


@pytest.mark.parametrize(
    "version", [None, "", "banana", "1", "2.0.0", "0.9.0", "1.x.0", "1.2.3.4", "1..0", "1.0.0 ", "１.0.0", "1.-1.0", "9.9.9"]
)
def test_versions_refused(version):
    assert refused(meta.plan, {} if version is None else {"/ociVersion": version}, Ctx()).pointer == "/ociVersion"


def test_a_newer_version_causes_a_warning():
    ctx = Ctx()
    meta.plan({"/ociVersion": "1.4.0"}, ctx)
    assert "newer" in ctx.warnings[0][1]


def annotated(values, **options):
    ctx = Ctx(options=options)
    return meta.plan({"/ociVersion": "1.3.0", "/annotations": values}, ctx), ctx.warnings


def test_annotations_that_name_host_paths_have_no_effect():
    values = {name: "/etc/shadow" for name in meta.PATHS}
    entry, warnings = annotated({**values, "my.own": ""})
    assert entry["annotations"] == {"my.own": ""}
    assert len(warnings) == len(values)
    assert annotated(values, allow_annotation_paths=True)[0]["annotations"] == values


@pytest.mark.parametrize(("value", "kept"), [("1", True), ("true", True), ("0", False), ("", True), ("yes", True)])
def test_keep_groups(value, kept):
    values = {"run.oci.keep_original_groups": value}
    assert annotated(values, allow_annotation_paths=True)[0]["keep_groups"] is kept
    for other in (Ctx(in_userns=True), Ctx()):
        other.euid = 0 if other.in_userns else 1000
        assert meta.plan({"/ociVersion": "1.3.0", "/annotations": values}, other)["keep_groups"] is kept and not other.warnings


def test_roots_groups_need_permission():
    entry, warnings = annotated({"run.oci.keep_original_groups": "1"})
    assert entry["keep_groups"] is False and entry["annotations"] == {} and "--allow-annotation-paths" in warnings[0][1]


@pytest.mark.parametrize("name", ["ExecStartPre", "Conflicts", "OnFailure", "SuccessAction", "Slice", "after", "Before", "PartOf"])
def test_properties_that_reach_other_units_need_permission(name):
    """The class of CVE-2024-3154: an annotation of a tenant starts programs, or stops other units or the machine."""
    values = {"org.systemd.property." + name: "['x']"}
    entry, warnings = annotated(values)
    assert entry["annotations"] == {} and "--allow-annotation-paths" in warnings[0][1]
    assert annotated(values, allow_annotation_paths=True)[0]["annotations"] == values


def test_properties_that_engines_set_need_no_permission():
    values = {
        "org.systemd.property." + name: text
        for name, text in (
            ("CollectMode", "'inactive-or-failed'"), ("DefaultDependencies", "true"), ("After", "['crio.service']"),
            ("TimeoutStopUSec", "uint64 10000000"), ("KillSignal", "15"),
        )
    }  # fmt: skip
    entry, warnings = annotated(values)
    assert entry["annotations"] == values and not warnings


@pytest.mark.parametrize("key", ["", "a\nb", "\x1b[2J", "\x00x"])
def test_annotation_keys_refused(key):
    e = refused(meta.plan, {"/ociVersion": "1.3.0", "/annotations": {key: "x"}}, Ctx())
    assert e.pointer.startswith("/annotations/") and e.pointer.isprintable()


def test_other_executors_are_refused():
    e = refused(meta.plan, {"/ociVersion": "1.3.0", "/annotations": {"run.oci.handler": "wasm"}}, Ctx())
    assert isinstance(e, Unsupported) and e.pointer == "/annotations/run.oci.handler"


def test_foreign_properties_are_named_and_change_nothing():
    ctx = Ctx()
    assert foreign.plan({"/windows": {"layerFolders": 7}, "/process/commandLine": "x"}, ctx) is None
    assert [pointer for pointer, _text in ctx.warnings] == ["/windows", "/process/commandLine"]
