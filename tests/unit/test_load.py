"""oci.load and oci.normalise: how a bundle's config.json is read before it is validated."""

import copy
import json
import os

import pytest

from pyrunc import errors
from pyrunc.oci import load, normalise, validate, version


def written(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else json.dumps(text).encode())
    return str(tmp_path)


def test_config_by_path_and_by_descriptor(tmp_path):
    bundle = written(tmp_path, {"ociVersion": "1.0.0"})
    fd = os.open(bundle, os.O_RDONLY)
    for way in (bundle, os.fsencode(bundle), fd):
        document, raw = load.config(way)
        assert document == {"ociVersion": "1.0.0"}
        assert json.loads(raw) == document
    os.close(fd)
    os.rename(tmp_path / "config.json", tmp_path / "other.json")
    assert load.config("/nowhere", str(tmp_path / "other.json"))[0] == {"ociVersion": "1.0.0"}
    assert load.file(str(tmp_path / "other.json"))[0] == {"ociVersion": "1.0.0"}


def test_from_a_pipe():
    r, w = os.pipe()
    os.write(w, b'{"pids": {"limit": 5}}')
    os.close(w)
    os.set_blocking(r, False)
    assert load.stream(r, "standard input") == ({"pids": {"limit": 5}}, b'{"pids": {"limit": 5}}')
    os.close(r)


@pytest.mark.parametrize(("text", "found"), [("[]", "a list"), ('"x"', "a string"), ("1", "a number"), ("true", "true"), ("null", "null")])
def test_top_level(tmp_path, text, found):
    with pytest.raises(errors.Refusal, match="must be an object, found " + found) as caught:
        load.config(written(tmp_path, text.encode()))
    assert caught.value.pointer == "/"


def test_nul_anywhere(tmp_path):
    for document, pointer in (
        ({"process": {"args": ["sh", "a\0b"]}}, "/process/args/1"),
        ({"annotations": {"a/b": "\0"}}, "/annotations/a~1b"),
        ({"unknown": [{"x": ["\0"]}]}, "/unknown/0/x/0"),
    ):
        with pytest.raises(errors.Refusal, match="NUL") as caught:
            load.config(written(tmp_path, document))
        assert caught.value.pointer == pointer


def test_large_but_allowed(tmp_path):
    document, raw = load.config(written(tmp_path, {"ociVersion": "1.0.0", "annotations": {"big": "x" * (load.LIMIT - 100)}}))
    assert len(raw) <= load.LIMIT
    normalise.config(document)
    assert validate.check(document) == []
    with pytest.raises(errors.Refusal, match="larger than 16 MiB"):
        load.config(written(tmp_path, {"ociVersion": "1.0.0", "annotations": {"big": "x" * load.LIMIT}}))


FULL = {
    "ociVersion": "1.0.2-dev",
    "root": {"path": "rootfs", "readonly": None},
    "mounts": None,
    "hostname": None,
    "process": {
        "cwd": "/",
        "args": ["sh"],
        "env": [],
        "rlimits": None,
        "consoleSize": None,
        "user": {"uid": 0, "gid": 0, "additionalGids": None, "umask": None},
        "capabilities": {"bounding": None, "effective": []},
    },
    "hooks": {"prestart": None, "poststop": [{"path": "/a", "env": [], "args": None}, {"path": "/b", "env": None}]},
    "annotations": {"k": "v"},
    "linux": {
        "devices": [
            {"path": "/dev/a", "type": "c", "fileMode": 0o020666, "uid": None, "major": 1, "minor": 3},
            {"path": "/dev/b", "type": "b", "fileMode": 0o060600},
            {"path": "/dev/c", "type": "c", "fileMode": 0o21777},
            {"path": "/dev/d", "type": "c", "fileMode": 0o100644},
            {"path": "/dev/e", "type": "c", "fileMode": 0o644},
        ],
        "rootfsPropagation": "rshared",
        "resources": {"blockIO": {}, "devices": [{"allow": False, "access": "rwm", "major": None}], "cpu": None},
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": None, "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]},
        "namespaces": [],
    },
    "windows": {"layerFolders": 7},
    "solaris": None,
    "vm": {},
    "unknown": None,
}
NORMAL = {
    "ociVersion": "1.0.2-dev",
    "root": {"path": "rootfs"},
    "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}, "capabilities": {}},
    "hooks": {"poststop": [{"path": "/a", "env": []}, {"path": "/b"}]},
    "annotations": {"k": "v"},
    "linux": {
        "devices": [
            {"path": "/dev/a", "type": "c", "fileMode": 0o666, "major": 1, "minor": 3},
            {"path": "/dev/b", "type": "b", "fileMode": 0o600},
            {"path": "/dev/c", "type": "c", "fileMode": 0o777},
            {"path": "/dev/d", "type": "c", "fileMode": 0o100644},
            {"path": "/dev/e", "type": "c", "fileMode": 0o644},
        ],
        "rootfsPropagation": "shared",
        "resources": {"blockIO": {}, "devices": [{"allow": False, "access": "rwm"}]},
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]},
    },
    "unknown": None,
}


def test_normal_form():
    got = normalise.config(copy.deepcopy(FULL))
    assert got == NORMAL
    assert normalise.config(copy.deepcopy(got)) == got  # normalising again changes nothing


def test_problems_stay_problems():
    """Errors are not hidden: a required null, a null user id, an empty list of names, the mode of a regular file."""
    pointers = [p for p, *_ in validate.check(normalise.config(copy.deepcopy(FULL)), all=True)]
    assert pointers == ["/linux/devices/3/fileMode", "/linux/seccomp/syscalls/0/names"]
    broken = {"ociVersion": None, "process": {"cwd": None, "user": {"uid": None}}, "annotations": {"a": None}}
    pointers = [p for p, *_ in validate.check(normalise.config(broken), all=True)]
    assert pointers == ["/ociVersion", "/process/cwd", "/process/user/uid", "/annotations/a"]


def test_null_sections_are_absent():
    document = {"ociVersion": "1.0.0", "linux": None, "process": None, "mounts": None, "root": None, "hooks": None}
    assert normalise.config(document) == {"ociVersion": "1.0.0"}


@pytest.mark.parametrize("section", ["windows", "solaris", "vm", "zos", "freebsd"])
def test_other_platforms(section):
    assert normalise.config({"ociVersion": "1.0.0", section: {"anything": [1]}}) == {"ociVersion": "1.0.0"}
    for value in (7, "x", [], True):
        with pytest.raises(errors.Refusal, match="must be an object") as caught:
            normalise.config({"ociVersion": "1.0.0", section: value})
        assert caught.value.pointer == "/" + section


@pytest.mark.parametrize(
    ("document", "pointer", "name"),
    [
        ({"Process": {}}, "/Process", "process"),
        ({"process": {"NONEWPRIVILEGES": False}}, "/process/NONEWPRIVILEGES", "noNewPrivileges"),
        ({"process": {"noNewPrivileges": True, "NoNewPrivileges": False}}, "/process/NoNewPrivileges", "noNewPrivileges"),
        ({"linux": {"seccomp": {"syscalls": [{"names": ["a"], "Action": "x"}]}}}, "/linux/seccomp/syscalls/0/Action", "action"),
        ({"proce\u017f\u017f": {}}, "/proce\u017f\u017f", "process"),  # long s, which Go folds too
        ({"linux": {"netDevices": {"eth0": {"NAME": "x"}}}}, "/linux/netDevices/eth0/NAME", "name"),
    ],
)
def test_known_key_in_another_case(document, pointer, name):
    with pytest.raises(errors.Refusal) as caught:
        normalise.config(document)
    assert caught.value.pointer == pointer
    assert caught.value.hint == 'did you mean "%s"? Case matters' % name


def test_unknown_keys_and_free_maps_are_left_alone():
    document = {"ociVersion": "1.0.0", "x": {"Process": 1}, "annotations": {"Process": "1", "process": "2"}, "linux": {"foo": None}}
    assert normalise.config(copy.deepcopy(document)) == document


@pytest.mark.parametrize("where", [("annotations",), ("linux", "sysctl"), ("linux", "resources", "unified"), ("linux", "netDevices")])
def test_empty_key_of_a_free_map(where):
    document = {"": {}}
    for key in reversed(where):
        document = {key: document}
    with pytest.raises(errors.Refusal, match="an empty key"):
        normalise.config(document)


def test_wrong_types_pass_through():
    """The normalisation never fails on a wrong type; the validator reports it."""
    for value in (7, "x", [1], True, [[]], {"a": 1}):
        for key in ("linux", "process", "mounts", "hooks", "annotations", "root"):
            normalise.config({key: value})
        normalise.config({"linux": {"devices": value, "rootfsPropagation": value, "seccomp": value}})
        normalise.part(value, "process")
    assert normalise.config([]) == []


def test_parts_of_a_config_as_documents():
    process = normalise.part({"cwd": "/", "args": None, "user": {"uid": 1, "gid": None}}, "process")
    assert process == {"cwd": "/", "user": {"uid": 1, "gid": None}}
    assert [p for p, *_ in validate.check(process, "process")] == ["/user/gid"]
    assert normalise.part({"cpu": {"shares": None}, "devices": []}, "resources") == {"cpu": {}}
    with pytest.raises(errors.Refusal):
        normalise.part({"CPU": {}}, "resources")


def test_linear():
    """A large config is processed in linear time: a hundred thousand unknown keys, mounts and variables."""
    document = {"ociVersion": "1.0.0", **{"k%d" % i: i for i in range(100000)}}
    document["mounts"] = [{"destination": "/%d" % i} for i in range(100000)]
    document["process"] = {"cwd": "/", "env": ["A=%d" % i for i in range(100000)]}
    assert validate.check(normalise.config(document)) == []


@pytest.mark.parametrize(
    ("text", "parsed", "exact"),
    [
        ("1.0.0", (1, 0, 0, "", ""), True),
        ("1.2.0-rc.1+dev", (1, 2, 0, "rc.1", "dev"), True),
        ("1.0.2-dev", (1, 0, 2, "dev", ""), True),
        ("1.1.0+dev", (1, 1, 0, "", "dev"), True),
        ("1.0", (1, 0, None, "", ""), False),
        ("9.9.9", (9, 9, 9, "", ""), True),
        ("1.0.0--", (1, 0, 0, "-", ""), True),
        ("", None, False),
        ("1", None, False),
        ("banana", None, False),
        ("1.0.0.0", None, False),
        ("1.02.0", None, False),
        ("1.0.0-", None, False),
        ("1.0.0-01", None, False),
        ("1.0.0-a..b", None, False),
        ("1.0.0+", None, False),
        (" 1.0.0", None, False),
        ("v1.0.0", None, False),
        ("1.\u0663.0", None, False),
        ("1.0.0\n", None, False),
        (1, None, False),
    ],
)
def test_versions(text, parsed, exact):
    assert version.parse(text) == parsed
    assert version.semver(text) == exact
