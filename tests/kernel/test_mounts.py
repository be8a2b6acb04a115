"""parts/mounts on a real kernel: the mounts as seen from inside."""

import fcntl
import os
import resource
import socket
import stat
import subprocess

import pytest

from mounting import DEV, PROC, PTS, SYS, bind, tmpfs
from pyrunc.errors import StepFailure
from pyrunc.linux import constants as c

pytestmark = pytest.mark.kernel


def failure(world, config, **how):
    with pytest.raises(StepFailure) as caught:
        world.go(config, **how)
    return caught.value


# ---- the list as a whole


def test_the_skeleton_in_the_order_of_the_list(world):
    seen = world.go({"mounts": [PROC, DEV, PTS, SYS]}, lambda see: see.mounts(), namespaces=["network"])
    assert [(m["point"], m["type"]) for m in seen][1:] == [("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/pts", "devpts"), ("/sys", "sysfs")]
    assert seen[0]["point"] == "/" and seen[0]["root"].endswith("/rootfs"), "nothing of the host is left"
    sys = seen[4]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(sys["flags"]) and "ro" in sys["super"]
    assert seen[2]["flags"] == ["rw", "nosuid"] and "size=65536k" in seen[2]["super"] and "mode=755" in seen[2]["super"]
    assert "ptmxmode=666" in seen[3]["super"] and "mode=620" in seen[3]["super"]


def test_one_place_twice(world):
    seen = world.go({"mounts": [tmpfs("/tmp", "size=1m"), tmpfs("/tmp", "size=2m")]}, lambda see: see.mount("/tmp"))
    assert "size=2048k" in seen["super"], "the later mount covers the earlier one"


def test_a_mount_inside_an_earlier_mount(world):
    config = {"mounts": [tmpfs("/a"), bind(world.outside, "/a/b/c"), tmpfs("/a/b/d/../e")]}
    assert world.go(config, lambda see: [see.read("/a/b/c/victim"), see.mount("/a/b/e")["type"]]) == ["as it was\n", "tmpfs"]
    assert not os.listdir(world.rootfs / "a"), "the mount points are in the tmpfs"


def test_missing_mount_points_are_made(world):
    config = {"mounts": [bind(world.outside, "/x/y"), bind(world.outside / "victim", "/e/f"), tmpfs("rel")]}
    old = os.umask(0o077)
    try:
        world.go(config)
    finally:
        os.umask(old)
    modes = {name: stat.filemode((world.rootfs / name).stat().st_mode) for name in ("x", "x/y", "e", "e/f", "rel")}
    assert modes == {"x": "drwxr-xr-x", "x/y": "drwxr-xr-x", "e": "drwxr-xr-x", "e/f": "-rw-r--r--", "rel": "drwxr-xr-x"}


@pytest.mark.slow
def test_two_thousand_mounts_and_few_descriptors(world):
    """Each descriptor is closed after its mount; those of read-only mounts are kept open until the end, but only up to a limit."""
    count = 2000
    listed = [bind(world.outside, "/m/%04d" % i, "bind", "ro") if i % 4 else tmpfs("/m/%04d" % i, "ro") for i in range(count)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        seen = world.go({"mounts": [tmpfs("/m"), *listed]}, lambda see: [("ro" in m["flags"]) for m in see.mounts()])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(seen) == count + 2 and sum(seen) == count


# ---- new file systems


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (["nosuid", "noexec", "nodev"], ["rw", "nosuid", "nodev", "noexec", "relatime"]),
        (["ro", "rw"], ["rw", "relatime"]),
        (["nosuid", "suid", "noatime", "", "defaults"], ["rw", "noatime"]),
        (["strictatime"], ["rw"]),
        (["nodiratime"], ["rw", "nodiratime", "relatime"]),
        (["nosymfollow", "iversion", "size=1m"], ["rw", "relatime", "nosymfollow"]),
        (["silent", "nosuid"], ["rw", "nosuid", "relatime"]),
        (["rro"], ["ro", "relatime"]),
        (["rnoexec", "rstrictatime"], ["rw", "noexec"]),
    ],
)
def test_flags_of_a_new_mount(world, options, flags):
    assert world.go({"mounts": [tmpfs("/tmp", *options)]}, lambda see: see.mount("/tmp")["flags"]) == flags


def test_several_data_options_in_one_word(world):
    seen = world.go({"mounts": [tmpfs("/tmp", "size=1m,mode=700", "nr_inodes=8")]}, lambda see: see.mount("/tmp")["super"])
    assert {"size=1024k", "mode=700", "nr_inodes=8"} <= set(seen)


def test_sync_belongs_to_the_file_system(world):
    assert "sync" in world.go({"mounts": [tmpfs("/tmp", "sync")]}, lambda see: see.mount("/tmp")["super"])


@pytest.mark.parametrize(("options", "mode"), [([], 0o711), (["mode=0750"], 0o750), (["iversion"], 0o711)])
def test_a_tmpfs_has_the_mode_of_what_it_covers(world, options, mode):
    (world.rootfs / "d").mkdir(mode=0o711)
    (world.rootfs / "d").chmod(0o711)
    assert world.go({"mounts": [tmpfs("/d", *options)]}, lambda see: os.stat("/d").st_mode & 0o7777) == mode


def test_a_tmpfs_that_covers_nothing(world):
    assert world.go({"mounts": [tmpfs("/new")]}, lambda see: os.stat("/new").st_mode & 0o7777) == 0o1777


def test_a_read_only_tmpfs_can_hold_mount_points(world):
    config = {"mounts": [tmpfs("/t", "ro"), bind(world.outside, "/t/in/side")]}
    between = []
    seen = world.go(config, lambda see: [see.write("/t/x"), see.read("/t/in/side/victim")], between=lambda see: between.append(1))
    assert seen == ["Read-only file system", "as it was\n"]


def test_a_read_only_dev_gets_its_nodes(world):
    dev = {**DEV, "options": [*DEV["options"], "ro"]}
    seen = world.go({"mounts": [dev]}, lambda see: [see.node("/dev/null"), see.write("/dev/x"), see.write("/dev/null")])
    assert seen == ["c 1:3 666 0:0", "Read-only file system", "ok"]


def test_propagation_on_any_type(world):
    mounts = [tmpfs("/a", "shared"), tmpfs("/b", "rslave"), tmpfs("/c", "unbindable"), tmpfs("/d", "rw", "rprivate", "nosuid", "nodev", "")]
    seen = world.go({"mounts": mounts}, lambda see: {m["point"]: [t.partition(":")[0] for t in m["tags"]] for m in see.mounts()})
    assert (seen["/a"], seen["/b"], seen["/c"], seen["/d"]) == (["shared"], [], ["unbindable"], [])


def test_mqueue(world):
    mqueue = {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}
    assert world.go({"mounts": [DEV, mqueue]}, lambda see: see.mount("/dev/mqueue")["type"], namespaces=["ipc"]) == "mqueue"


def test_overlay(world):
    if subprocess.run(["stat", "-f", "-c", "%T", world.path], capture_output=True, text=True).stdout == "overlayfs\n":
        pytest.skip("the directory for temporary files is on an overlay, which can't be the upper layer of another one")
    for name in ("low1", "low2", "up", "work"):
        (world.path / name).mkdir()
    (world.path / "low1" / "file").write_text("one")
    (world.path / "low2" / "other").write_text("two")
    options = ["lowerdir=%s:%s" % (world.path / "low1", world.path / "low2")]
    options += ["upperdir=%s" % (world.path / "up"), "private", "workdir=%s" % (world.path / "work")]
    config = {"mounts": [{"destination": "/o", "type": "overlay", "source": "overlay", "options": options}]}
    assert world.go(config, lambda see: [see.read("/o/file"), see.read("/o/other"), see.write("/o/new")]) == ["one", "two", "ok"]
    assert (world.path / "up" / "new").read_text() == "x"


def test_overlay_with_more_layers_than_a_page(world):
    top = world.path / ("long" * 20)
    layers = [top / ("layer-%03d" % i) for i in range(60)]
    for i, layer in enumerate(layers):
        layer.mkdir(parents=True)
        (layer / ("f%d" % i)).write_text(str(i))
    option = "lowerdir=" + ":".join(map(str, layers))
    assert len(option) > 4096
    config = {"mounts": [{"destination": "/o", "type": "overlay", "source": "overlay", "options": [option, "ro"]}]}
    assert world.go(config, lambda see: sorted(os.listdir("/o"))) == sorted("f%d" % i for i in range(60))


def test_the_message_of_the_file_system_is_shown(world):
    e = failure(world, {"mounts": [tmpfs("/x", "nosuid", "size=banana")]})
    assert (
        e.words.startswith('error mounting "tmpfs" to rootfs at "/x": ')
        and "Bad value for 'size'" in e.words
        and "invalid argument" in e.words
    )
    assert e.pointer == "/mounts/0/options/1"
    e = failure(world, {"mounts": [PROC, tmpfs("/x", "bogus")]})
    assert "Unknown parameter 'bogus'" in e.words and e.pointer == "/mounts/1/options/0"


def test_an_unknown_file_system(world):
    e = failure(world, {"mounts": [{"destination": "/x", "type": "nosuchfs", "source": "none"}]})
    assert "no such device" in e.words and e.pointer == "/mounts/0/type" and e.errno == 19


def test_a_file_system_on_a_file(world):
    (world.rootfs / "f").write_text("")
    e = failure(world, {"mounts": [tmpfs("/f")]})
    assert "not a directory" in e.words and e.pointer == "/mounts/0/destination"
    e = failure(world, {"mounts": [tmpfs("/f/below")]})
    assert "not a directory" in e.words


def test_remount(world):
    mounts = [
        tmpfs("/tmp", "size=1m", "mode=700"),
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["remount", "ro", "size=2m"]},
    ]
    seen = world.go({"mounts": mounts}, lambda see: see.mount("/tmp"))
    assert "ro" in seen["super"] and "size=2048k" in seen["super"]
    seen = world.go({"mounts": [mounts[0], bind("", "/tmp", "bind", "remount", "ro", "noexec")]}, lambda see: see.mount("/tmp")["flags"])
    assert seen == ["ro", "noexec", "relatime"]


# ---- bind mounts


@pytest.mark.parametrize("what", ["directory", "file", "socket", "fifo", "device"])
def test_bind_of(world, what):
    source = world.path / "source"
    if what == "directory":
        source.mkdir()
    elif what == "file":
        source.write_text("text")
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(source))
    elif what == "fifo":
        os.mkfifo(source)
    else:
        os.mknod(source, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    kind = stat.filemode(source.lstat().st_mode)[0]
    assert world.go({"mounts": [bind(source, "/b")]}, lambda see: stat.filemode(os.lstat("/b").st_mode)[0]) == kind
    made = (world.rootfs / "b").lstat()
    assert stat.S_ISDIR(made.st_mode) == (what == "directory") and (what == "directory" or stat.S_ISREG(made.st_mode))


def test_bind_from_the_bundle(world):
    (world.bundle / "vol").mkdir()
    (world.bundle / "vol" / "f").write_text("here")
    assert world.go({"mounts": [bind("vol", "/v", "bind")]}, lambda see: see.read("/v/f")) == "here"


def test_bind_of_a_missing_source(world):
    e = failure(world, {"mounts": [bind("/nope", "/x/y")]})
    assert 'error mounting "/nope" to rootfs at "/x/y": bind mount source stat: stat /nope: no such file or directory' == e.words
    assert e.pointer == "/mounts/0/source" and not (world.rootfs / "x").exists()


def test_bind_of_a_directory_on_a_file_and_the_other_way_round(world):
    (world.rootfs / "f").write_text("")
    (world.rootfs / "d").mkdir()
    for source, place in ((world.outside, "/f"), (world.outside / "victim", "/d")):
        assert "not a directory" in failure(world, {"mounts": [bind(source, place)]}).words


def test_bind_on_dangling_links_stays_in_the_root(world):
    """/etc/resolv.conf of an image may point into a /run that is still empty."""
    (world.rootfs / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (world.rootfs / "up").symlink_to("../../../../../../tmp/../there")
    config = {"mounts": [bind(world.outside / "victim", "/etc/resolv.conf"), bind(world.outside, "/up/dir")]}
    seen = world.go(config, lambda see: [see.read("/run/systemd/resolve/stub-resolv.conf"), see.read("/there/dir/victim")])
    assert seen == ["as it was\n", "as it was\n"]


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (["bind"], ["rw", "nosuid", "noexec", "noatime"]),
        (["bind", "ro"], ["ro", "noatime"]),
        (["bind", "rw"], ["rw", "noatime"]),
        (["bind", "nodev", "relatime"], ["rw", "nodev", "relatime"]),
        (["ro", "rprivate", "rbind", "nosymfollow", "strictatime"], ["ro", "nosymfollow"]),
        (["rbind", "ro", "noexec", "rw", "exec"], ["rw", "noatime"]),
    ],
)
def test_flags_of_a_bind(world, options, flags):
    """Without options the source's flags stay. With any option all are replaced, as by a remount, except for access times unless one is given."""
    world.mount(world.path / "vol", c.MS_NOSUID | c.MS_NOEXEC | c.MS_NOATIME)
    assert world.go({"mounts": [bind(world.path / "vol", "/v", *options)]}, lambda see: see.mount("/v")["flags"]) == flags


def test_flags_are_for_the_top_unless_recursive(world):
    world.mount(world.path / "vol")
    world.mount(world.path / "vol/sub", c.MS_NOSUID)
    look = lambda see: [see.mount("/v")["flags"], see.mount("/v/sub")["flags"]]  # noqa: E731
    assert world.go({"mounts": [bind(world.path / "vol", "/v", "rbind", "ro")]}, look) == [["ro", "relatime"], ["rw", "nosuid", "relatime"]]
    assert world.go({"mounts": [bind(world.path / "vol", "/v", "rbind", "rro")]}, look) == [
        ["ro", "relatime"],
        ["ro", "nosuid", "relatime"],
    ]
    options = ["rbind", "rro", "rnoatime", "rsuid", "rnosymfollow", "rprivate"]
    want = [["ro", "noatime", "nosymfollow"]] * 2
    assert world.go({"mounts": [bind(world.path / "vol", "/v", *options)]}, look) == want
    assert world.go({"mounts": [bind(world.path / "vol", "/v", "rbind", "rro", "rrw")]}, look)[0] == ["rw", "relatime"]
    assert world.go({"mounts": [bind(world.path / "vol", "/v", "bind")]}, lambda see: see.mount("/v/sub")) is None


def test_propagation_of_binds(world):
    world.mount(world.path / "vol", shared=True)
    mounts = [
        bind(world.path / "vol", "/v%d" % i, "rbind", *words)
        for i, words in enumerate([[], ["rprivate"], ["shared"], ["rslave"], ["unbindable"]])
    ]
    seen = world.go({"mounts": mounts}, lambda see: [[t.partition(":")[0] for t in see.mount("/v%d" % i)["tags"]] for i in range(5)])
    assert seen == [["master"], [], ["shared", "master"], ["master"], ["unbindable"]]


def test_rshared_volumes_keep_the_peers_of_the_host(world):
    """podman's :rshared with rootfsPropagation shared: a mount made inside is visible in the peer group of the host."""
    vol = world.path / "vol"
    world.mount(vol, shared=True)
    (vol / "inner").mkdir()
    config = {"mounts": [bind(vol, "/v", "rbind", "rshared")], "linux": {"rootfsPropagation": "shared"}}

    def look(see):
        from pyrunc.linux import _syscalls

        _syscalls.mount("tmpfs", "/v/inner", "tmpfs", 0, None)
        return see.mount("/")["tags"]

    world.before = world.host()
    tags = world.go(config, look)
    assert tags and tags[0].startswith("shared:")
    assert os.path.ismount(vol / "inner")
    world.mounted.append(str(vol / "inner"))
    world.before = None


def test_links_by_cruns_words(world):
    (world.path / "link").symlink_to("victim-name")
    (world.rootfs / "here").symlink_to("/etc/there")
    config = {
        "mounts": [bind(world.path / "link", "/l", "rbind", "copy-symlink"), bind(world.outside / "victim", "/m", "bind", "copy-symlink")]
    }
    assert world.go(config, lambda see: [see.node("/l"), see.read("/m")]) == ["-> victim-name", "as it was\n"]
    config = {"mounts": [bind(world.outside / "victim", "/here", "bind", "dest-nofollow")]}
    assert world.go(config, lambda see: see.read("/here")) == "as it was\n"
    assert not (world.rootfs / "etc/there").exists()
    config = {"mounts": [bind(world.path / "link", "/k", "bind", "src-nofollow")]}
    assert world.go(config, lambda see: see.node("/k")) == "-> victim-name"


def test_the_mount_of_another_part(world):
    (world.bundle / "notify").mkdir()
    given = {
        "destination": "/run/notify",
        "type": "bind",
        "source": str(world.bundle / "notify"),
        "options": ["bind", "nosuid", "noexec", "nodev", "ro"],
    }
    config = {"plans": {"notify": {"mount": given}}}
    seen = world.go(config, lambda see: see.mount("/run/notify")["flags"])
    assert {"ro", "nosuid", "noexec", "nodev"} <= set(seen)


# ---- procfs and sysfs


def test_files_in_proc_that_lxcfs_replaces(world):
    seen = world.go({"mounts": [PROC, bind(world.outside / "victim", "/proc/meminfo")]}, lambda see: see.read("/proc/meminfo"))
    assert seen == "as it was\n"


def test_a_bind_of_the_hosts_proc(world):
    assert world.go({"mounts": [bind("/proc", "/proc", "rbind", "nosuid")]}, lambda see: see.mount("/proc")["type"]) == "proc"


@pytest.mark.parametrize("source", ["outside", "/proc/self", "/proc/sys"])
def test_nothing_else_can_be_mounted_on_proc(world, source):
    source = world.outside if source == "outside" else source
    e = failure(world, {"mounts": [bind(source, "/proc")]})
    assert '"/proc" cannot be mounted because it is not of type proc' in e.words and e.pointer == "/mounts/0/destination"


def test_a_link_into_proc_does_not_help(world):
    (world.rootfs / "in").symlink_to("/proc/sys")
    (world.rootfs / "on").symlink_to("/proc")
    for place, why in (("/in", "it is inside /proc"), ("/in/kernel", "it is inside /proc"), ("/on", "it is not of type proc")):
        e = failure(world, {"mounts": [PROC, bind(world.outside, place)]})
        assert why in e.words and e.pointer == "/mounts/1/destination"
    assert "inside /proc" in failure(world, {"mounts": [PROC, tmpfs("/in")]}).words


# ---- limits of the newer calls


def test_options_are_never_truncated(world):
    """mount(2) reads one page and ignores the rest, so it is not used as the second attempt for longer options."""
    options = ["mode=0700"] * 500 + ["bogus"]
    e = failure(world, {"mounts": [tmpfs("/t", *options)]})
    assert e.call == "fsconfig" and "Unknown parameter 'bogus'" in e.words and e.pointer == "/mounts/0/options/500"
    assert world.go({"mounts": [tmpfs("/t", *options[:-1])]}, lambda see: see.mount("/t")["type"]) == "tmpfs"


@pytest.mark.parametrize("number", [1, 38])
def test_if_a_filter_denies_the_newer_calls(world, monkeypatch, number):
    """If a seccomp profile denies them to the runtime (EPERM, ENOSYS), mount(2) is used."""
    from pyrunc.linux import fs, mount

    def refuse(*_args):
        raise fs.failure(number, "fsopen")

    monkeypatch.setattr(mount, "new", refuse)
    mounts = [PROC, DEV, PTS, tmpfs("/t", "size=1m", "mode=0700", "nosuid", "ro"), SYS]
    seen = world.go({"mounts": mounts}, lambda see: see.mounts(), namespaces=["network"])
    assert [m["type"] for m in seen][1:] == ["proc", "tmpfs", "devpts", "tmpfs", "sysfs"]
    assert seen[4]["flags"] == ["ro", "nosuid", "relatime"] and {"size=1024k", "mode=700"} <= set(seen[4]["super"])


def test_a_descriptor_of_the_caller_as_source(world):
    low = os.open(world.outside, os.O_PATH)
    fd = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 200)  # a number that is not reused when it is closed
    os.close(low)
    try:
        assert world.go({"mounts": [bind("/proc/self/fd/%d" % fd, "/v", "bind")]}, lambda see: see.read("/v/victim")) == "as it was\n"
    finally:
        os.close(fd)
    e = failure(world, {"mounts": [bind("/proc/self/fd/%d" % fd, "/v", "bind")]})
    assert "no such file or directory" in e.words and e.pointer == "/mounts/0/source"
