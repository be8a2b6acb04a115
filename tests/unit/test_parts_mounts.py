"""parts/mounts: plans for /mounts, and each error with its pointer."""

import errno
import json

import pytest

from fakes.hand import Ctx, namespaces
from pyrunc.errors import CallError, Refusal
from pyrunc.linux import constants as c
from pyrunc.linux import mount, mountinfo
from pyrunc.parts import mounts
from pyrunc.parts.mounts import filesystems

BIND = {"destination": "/v", "source": "/src", "options": ["bind"]}
MAPS = {"uid": [[0, 100000, 1000]], "gid": [[0, 100000, 1000]]}


def ctx(*spaces, plans=None, **more):
    return Ctx({"namespaces": namespaces(*(spaces or ("mount",))), **(plans or {})}, **more)


def planned(*listed, **more):
    return mounts.plan({"/mounts": list(listed)}, more.pop("with_ctx", None) or ctx(**more))["list"]


def refused(*listed, **more):
    with pytest.raises(Refusal) as caught:
        planned(*listed, **more)
    return caught.value


def entry(destination="/t", type="tmpfs", **more):
    return {"destination": destination, "type": type, **more}


def test_nothing_to_mount():
    assert mounts.plan({}, ctx()) is None and mounts.plan({"/mounts": []}, ctx()) is None
    assert mounts.plan({"/mounts": []}, Ctx()) is None
    given = {"destination": "/run/notify", "type": "bind", "source": "/r/c1/notify", "options": ["bind", "ro"]}
    (only,) = mounts.plan({}, ctx(plans={"notify": {"mount": given}}))["list"]
    assert (only["pointer"], only["source"], only["kind"]) == ("/mounts/0", "/r/c1/notify", "bind"), "the notify part has a mount"


def test_without_a_mount_namespace():
    with pytest.raises(Refusal) as caught:
        mounts.plan({"/mounts": [entry()]}, ctx("user"))
    assert caught.value.pointer == "/mounts/0"
    assert mounts.plan({"/mounts": [entry()]}, Ctx())["list"], "these are mounts of the host, see host_mounts"
    with pytest.raises(Refusal) as caught:
        mounts.plan({"/mounts": [entry(options=["remount", "ro"])]}, Ctx())
    assert caught.value.pointer == "/mounts/0/options"
    joined = Ctx({"namespaces": namespaces(join={"mount": "/x"})})
    assert mounts.plan({"/mounts": [entry()]}, joined)["list"]


def test_the_entry_is_plain_data():
    plan = mounts.plan({"/mounts": [BIND, entry(options=["size=1m", "ro"]), entry("/proc", "proc")]}, ctx())
    assert json.loads(json.dumps(plan)) == plan
    assert [item["kind"] for item in plan["list"]] == ["bind", "fs", "own"]
    assert [item["pointer"] for item in plan["list"]] == ["/mounts/0", "/mounts/1", "/mounts/2"]
    assert not plan["userns"] and not plan["cgroupns"]
    plan = mounts.plan({"/mounts": [BIND]}, ctx("mount", "user", "cgroup"))
    assert plan["userns"] and plan["cgroupns"]
    assert mounts.plan({"/mounts": [BIND]}, ctx(in_userns=True))["userns"]


@pytest.mark.parametrize(
    ("mount_entry", "kind"),
    [
        (entry("/sys", "sysfs"), "own"),
        (entry("/sys/fs/cgroup", "cgroup"), "cgroup"),
        (entry("/c", "cgroup2"), "fs"),
        (entry("/x", "none", source="/s", options=["rbind", "rro"]), "bind"),
        (entry("/x", "proc", source="/s", options=["bind"]), "bind"),
        ({"destination": "/x", "options": ["remount", "ro"]}, "remount"),
        (entry("/x", source="/s", options=["bind", "remount"]), "remount"),
    ],
)
def test_kinds(mount_entry, kind):
    assert planned(mount_entry)[0]["kind"] == kind


def test_relative_paths():
    context = ctx()
    item = planned({"destination": "rel/../x//y/", "source": "vol", "options": ["bind"]}, with_ctx=context)[0]
    assert item["destination"] == "/x/y" and item["source"] == "/bundle/vol"
    assert context.warnings[0][0] == "/mounts/0/destination"
    assert planned(entry("/../../a"))[0]["destination"] == "/a"


@pytest.mark.parametrize("destination", ["", "/", "//", "/.", "/a/..", "/x\0y", "/x\ny", "/" + "x" * 256, "/x" * 2100])
def test_bad_destinations(destination):
    e = refused(entry("/t"), entry(destination))
    assert e.pointer == "/mounts/1/destination"


def test_on_top_of_the_root():
    assert 'mountpoint "/" is on the top of rootfs' in refused(entry("/")).words


@pytest.mark.parametrize("where", ["source", "type"])
def test_nul_bytes(where):
    assert refused({**entry(), where: "a\0b"}).pointer == "/mounts/0/" + where


@pytest.mark.parametrize("word", ["size=1\0m", "size=1m\nro"])
def test_line_breaks_in_options(word):
    assert refused(entry(options=["ro", word])).pointer == "/mounts/0/options/1"


def test_types_that_are_missing():
    assert refused({"destination": "/x", "source": "/s"}).pointer == "/mounts/0/type"
    e = refused(entry("/x", "bind", source="/s", options=["ro"]))
    assert "no such device" in e.words and e.pointer == "/mounts/0/type" and '"bind"' in e.hint


def test_binds():
    assert refused({"destination": "/x", "options": ["bind"]}).pointer == "/mounts/0/source"
    e = refused({**BIND, "options": ["bind", "ro", "size=1m"]})
    assert "bind mounts cannot have any filesystem-specific options applied" in e.words and e.pointer == "/mounts/0/options/2"
    assert planned({**BIND, "options": ["ro", "", "rprivate", "rbind", "rro", "nosymfollow"]})


@pytest.mark.parametrize("where", ["/proc/sys", "/proc/self/attr", "/proc/foo", "/proc//sys/kernel/", "/x/../proc/sys"])
def test_inside_proc(where):
    for given in (entry(where), {**BIND, "destination": where}):
        e = refused(given)
        assert "cannot be mounted because it is inside /proc" in e.words and e.pointer == "/mounts/0/destination"


def test_on_proc():
    assert "not of type proc" in refused(entry("/proc")).words
    assert planned({**BIND, "destination": "/proc", "source": "/proc"}), "the source of the bind is checked when it is opened"
    for name in (
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    ):
        assert planned({**BIND, "destination": "/proc/" + name})
    assert planned(entry("/process", "tmpfs")), "a name that merely starts with proc"


def test_propagation():
    assert planned(entry(options=["private", "rprivate"]))[0]["propagation"] == [c.MS_PRIVATE, c.MS_PRIVATE | c.MS_REC]
    assert refused(entry(options=["shared", "private"])).pointer == "/mounts/0/options"


def test_copyup_is_for_tmpfs():
    assert planned(entry(options=["tmpcopyup"]))[0]["copyup"]
    for given in (entry("/x", "overlay", options=["tmpcopyup"]), {**BIND, "options": ["bind", "tmpcopyup"]}):
        assert "tmpcopyup" in refused(given).words


def test_options_about_links_are_for_binds():
    assert refused(entry(options=["src-nofollow"])).pointer == "/mounts/0/options"
    assert planned({**BIND, "options": ["bind", "copy-symlink"]})[0]["links"] == ["copy-symlink"]


@pytest.mark.parametrize(
    ("given", "late"),
    [
        (entry(options=["ro"]), True),
        (entry(), False),
        (entry("/dev", "devtmpfs", options=["ro"]), True),
        (entry("/x", "devtmpfs", options=["ro"]), False),
        (entry("/sys", "sysfs", options=["ro"]), False),
        ({**BIND, "destination": "/dev", "options": ["bind", "ro"]}, False),
    ],
)
def test_mounts_that_become_read_only_at_the_end(given, late):
    assert planned(given)[0]["late"] is late


def test_more_data_than_the_kernel_takes():
    assert planned(entry(options=["huge=" + "x" * 200] * 50)), "each of them fits alone"
    e = refused(entry(options=["size=1m", "mpol=" + "x" * 5000]))
    assert e.pointer == "/mounts/0/options/1" and '"/t"' in e.words
    assert refused(entry(options=["iversion", *["o=" + "x" * 200] * 50])).pointer == "/mounts/0/options/1"
    layers = "lowerdir=" + ":".join(["/l" * 50] * 100)
    assert planned(entry("/o", "overlay", options=[layers]))
    assert refused(entry("/o", "overlay", options=["lowerdir=" + "/l" * 3000])).pointer == "/mounts/0/options/0"
    assert refused(entry("/o", "overlay", options=[layers, "upperdir=/" + "u" * 300])).pointer == "/mounts/0/options/1"


def test_ids_in_options_are_ids_of_the_container():
    plans = {"namespaces": namespaces("mount", "user"), "idmaps": MAPS}
    assert planned(entry(options=["uid=5", "gid=999"]), plans=plans)
    assert refused(entry(options=["mode=1", "gid=1000"]), plans=plans).pointer == "/mounts/0/options/1"
    assert planned(entry(options=["gid=5"]), plans={"namespaces": namespaces("mount")})


def test_labels():
    plans = {"labels": {"mount": "system_u:object_r:t:s0:c1,c2"}}
    assert planned(entry(options=["size=1m"]), plans=plans)[0]["data"] == [["size=1m", 0], ['context="system_u:object_r:t:s0:c1,c2"', -1]]
    assert planned(entry(options=["context=x"]), plans=plans)[0]["data"] == [["context=x", 0]]
    for given in (entry("/proc", "proc"), entry("/sys", "sysfs"), BIND, entry("/c", "cgroup")):
        assert planned(given, plans=plans)[0]["data"] == []
    item = planned(entry("/q", "mqueue"), plans=plans)[0]
    assert item["data"] == [] and item["label"] == plans["labels"]["mount"]


# ---- id maps


def mapped(**more):
    line = {"containerID": 0, "hostID": 1000, "size": 10}
    return {**BIND, "uidMappings": [line], "gidMappings": [line], **more}


def test_idmaps():
    assert planned(mapped())[0]["idmap"] == {"recursive": False, "uid": [[0, 1000, 10]], "gid": [[0, 1000, 10]]}
    assert planned(mapped(options=["rbind", "ridmap"]))[0]["idmap"]["recursive"]
    assert planned(BIND)[0]["idmap"] is None
    own = planned({**BIND, "options": ["bind", "idmap"]}, plans={"namespaces": namespaces("mount", "user")})[0]["idmap"]
    assert own == {"recursive": False, "uid": [], "gid": []}


def test_invalid_idmaps():
    assert "only supported for bind-mounts" in refused({**mapped(), "type": "tmpfs", "options": []}).words
    assert "both" in refused(mapped(gidMappings=[])).words
    assert "need mappings" in refused({**BIND, "options": ["bind", "idmap"]}).words
    context = ctx()
    context.euid = 1000
    assert "rootless" in refused(mapped(), with_ctx=context).words


@pytest.mark.parametrize(
    ("lines", "at"),
    [
        ([[0, 0, 0]], 0),
        ([[0, 0, 10], [5, 100, 10]], 1),
        ([[0, 0, 10], [50, 5, 10]], 1),
        ([[0, 4294967290, 10]], 0),
        ([[4294967295, 0, 1]], 0),
    ],
)
def test_maps_that_the_kernel_would_refuse(lines, at):
    given = [{"containerID": a, "hostID": b, "size": n} for a, b, n in lines]
    assert refused(mapped(uidMappings=given)).pointer == "/mounts/0/uidMappings/%d" % at


def test_too_many_lines():
    lines = [{"containerID": i, "hostID": i, "size": 1} for i in range(341)]
    assert refused(mapped(gidMappings=lines)).pointer == "/mounts/0/gidMappings"
    assert planned(mapped(gidMappings=lines[:340]))


def test_cruns_form():
    def one(text, plans=None):
        return planned({**BIND, "options": ["bind", text]}, plans=plans)[0]["idmap"]

    assert one("idmap=uids=0-1000-10#20-3000-5;gids=0-1-1") == {
        "recursive": False,
        "uid": [[0, 1000, 10], [20, 3000, 5]],
        "gid": [[0, 1, 1]],
    }
    assert one("ridmap=uids=0-1-1;gids=0-1-1")["recursive"]
    plans = {"namespaces": namespaces("mount", "user"), "idmaps": MAPS}
    assert one("idmap=uids=@5-7-10;gids=0-0-1", plans)["uid"] == [[5, 100007, 10]]
    for text in (
        "idmap=uids=0-1",
        "idmap=uids=a-1-1;gids=0-1-1",
        "idmap=users=0-1-1",
        "idmap=uids=0-1-1-1;gids=0-0-1",
        "idmap=uids=@0-995-10;gids=0-0-1",
    ):
        assert refused({**BIND, "options": ["bind", text]}, plans=plans).pointer == "/mounts/0/options/1"


# ---- words for fsconfig(2)


@pytest.mark.parametrize(
    ("fstype", "word", "settings"),
    [
        ("tmpfs", "size=1m", [("size", "1m")]),
        ("tmpfs", "noswap", [("noswap", None)]),
        ("tmpfs", "a=1,b,,c=", [("a", "1"), ("b", None), ("c", "")]),
        ("tmpfs", 'context="u:r:t:s0:c1,c2"', [("context", "u:r:t:s0:c1,c2")]),
        ("tmpfs", 'rootcontext="a,b"', [("rootcontext", "a,b")]),
        ("overlay", "lowerdir=/a\\,b:/c", [("lowerdir", "/a\\,b:/c")]),
        ("overlay", "x=1,lowerdir=/a", [("x", "1"), ("lowerdir", "/a")]),
        ("cgroup", "cpu,cpuacct", [("cpu", None), ("cpuacct", None)]),
    ],
)
def test_option_words(fstype, word, settings):
    assert mount._settings(fstype, word) == settings


def test_many_layers():
    word = "lowerdir=" + ":".join(["/" + "a" * 100, "/b\\:c", "/" + "d" * 200]) + "::/data"
    want = [("lowerdir+", "/" + "a" * 100), ("lowerdir+", "/b:c"), ("lowerdir+", "/" + "d" * 200), ("datadir+", "/data")]
    assert mount._settings("overlay", word) == want


def test_the_table_of_mounts():
    line = "36 35 98:0 /a\\040b /mnt/x\\011y\\134z rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
    row = ("98:0", "/a b", "/mnt/x\ty\\z", "ext3", "rw,errors=continue")
    assert mountinfo.table(line + "\n\n") == [row] and mountinfo.table(line) == [row]
    other = "37 35 0:9 / /caf\xe9\udcff\\1 rw - cgroup  rw,a b"
    assert mountinfo.table(line + "\n" + other, "cg") == [("0:9", "/", "/caf\xe9\udcff\\1", "cgroup", "rw,a b")]
    assert mountinfo.table("") == mountinfo.table("no table") == mountinfo.table(line, "ext4") == []


@pytest.mark.parametrize("line", ["36 35 98:0 / - ext3 /dev/root rw", "36 35 98:0 / / rw - ext3 /dev/root"])
def test_what_is_no_table_of_mounts(line):
    with pytest.raises(ValueError, match="not a line of a mount table"):
        mountinfo.table(line)


@pytest.mark.parametrize(
    ("call", "has_hint"), [("fsmount", True), ("fsconfig", True), ("mount", True), ("setresgid", False), ("unshare", False)]
)
def test_the_outer_proc_is_named_only_if_it_may_be_the_reason(call, has_hint):
    e = filesystems.no_procfs(CallError(errno.EPERM, "Operation not permitted", call=call))
    assert ("outer /proc" in (e.hint or "")) == has_hint
