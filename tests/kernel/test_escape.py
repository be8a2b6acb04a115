"""A hostile root: links, renames and nodes in the image against every verb that uses a path. There is one test for each advisory. At the end,
World checks that the host is unchanged: the directory outside of the root (O) and the mount table of the host.
"""

import os
import signal
import stat

import pytest

import kernel_constants
from mounting import DEV, OUTER, PROC, PTS, SYS, bind, tmpfs
from pyrunc.errors import PyruncError, Refusal, StepFailure
from pyrunc.linux import mount
from tail import exchange

pytestmark = pytest.mark.kernel

ROUNDS = 80  # for each race; there are deterministic tests as well


def attempt(world, config, look=None, **how):
    """("ok", the result of look) or ("refused", the error message)."""
    try:
        return "ok", world.go(config, look, **how)
    except PyruncError as e:
        return "refused", e.sentence()


@pytest.fixture
def swap():
    """swap(a, b): a process that exchanges two names until the test ends."""
    pids = []

    def start(a, b):
        pid = os.fork()
        if pid == 0:
            try:
                while True:
                    for _ in range(200):
                        exchange(str(a), str(b))
            except BaseException:
                os._exit(0)
        pids.append(pid)

    yield start
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# ---- links in the image


def test_destinations_behind_links(world):
    """CVE-2019-18837: the targets of the links are found or created below the root."""
    created = world.outside / "created"
    (world.rootfs / "etc/resolv.conf").symlink_to(created)
    (world.rootfs / "aside").symlink_to(world.outside)
    (world.rootfs / "up").symlink_to("../../../.." + str(world.outside))
    (world.rootfs / "self").symlink_to("/proc/self/root" + str(world.outside))
    victim = world.outside / "victim"
    mounts = [bind(victim, "/etc/resolv.conf"), bind(world.outside, "/aside/x"), tmpfs("/up/y"), tmpfs("/self/z"), tmpfs("/../../../w")]
    kind, seen = attempt(world, {"mounts": mounts}, lambda see: [m["point"] for m in see.mounts()][1:])
    assert kind == "ok"
    assert seen == [str(created), "%s/x" % world.outside, "%s/y" % world.outside, "/proc/self/root%s/z" % world.outside, "/w"]


@pytest.mark.parametrize("where", ["proc", "sys"])
@pytest.mark.parametrize("what", ["link", "dangling", "file", "out"])
def test_proc_and_sys_are_directories_of_the_root(world, where, what):
    """CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: masks and read-only paths would apply to a decoy."""
    place = world.rootfs / where
    place.rmdir()
    if what == "file":
        place.write_text("")
    else:
        place.symlink_to({"link": "/tmp", "dangling": "/nowhere", "out": str(world.outside)}[what])
    given = PROC if where == "proc" else SYS
    for entry in (given, bind("/" + where, "/" + where, "rbind")):
        kind, said = attempt(world, {"mounts": [entry]}, namespaces=["network"])
        assert kind == "refused" and "must be mounted on ordinary directory" in said and "/mounts/0/destination" in said


def test_links_above_a_procfs(world):
    """Not only in the last component (CVE-2026-87766)."""
    (world.rootfs / "real").mkdir()
    (world.rootfs / "chroot").symlink_to("real")
    kind, said = attempt(world, {"mounts": [{**PROC, "destination": "/chroot/proc"}]})
    assert kind == "refused" and "ordinary directory" in said


def test_no_fake_proc(world):
    """CVE-2019-16884: a tree of the image or of a volume in place of procfs."""
    (world.path / "fake/self/attr").mkdir(parents=True)
    (world.path / "fake/self/attr/exec").write_text("")
    kind, said = attempt(world, {"mounts": [bind(world.path / "fake", "/proc")]})
    assert kind == "refused" and "not of type proc" in said
    for given in (tmpfs("/proc"), tmpfs("/proc/sys"), tmpfs("/proc/self/attr"), bind(world.path, "/proc/sys/kernel")):
        with pytest.raises(Refusal):
            world.plan({"mounts": [PROC, given]})


def test_a_dev_that_leads_out(world):
    """CVE-2026-41579, CVE-2026-47766: no node and no link is created outside, and no ptmx is removed there."""
    (world.outside / "dev").mkdir()
    (world.outside / "dev/ptmx").write_text("")
    (world.rootfs / "dev").rmdir()
    (world.rootfs / "dev").symlink_to(world.outside / "dev")
    kind, said = attempt(world, {"mounts": [PROC]})
    assert kind == "refused" and "/dev" in said, said


NAMES = (
    "dev/null",
    "dev/zero",
    "dev/full",
    "dev/random",
    "dev/urandom",
    "dev/tty",
    "dev/fd",
    "dev/stdin",
    "dev/ptmx",
    "dev/core",
    "dev/fuse",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("there", [False, True], ids=["dangling", "existing"])
@pytest.mark.parametrize("userns", [False, True], ids=["", "userns"])
def test_names_that_are_created_in_the_root(world, name, there, userns):
    """The class of CVE-2025-24965 and CVE-2026-88264: every name that is created may be a link that leads out."""
    if userns:
        for path in (world.rootfs, *world.rootfs.iterdir()):
            os.chown(path, OUTER, OUTER)
        world.outside.chmod(0o777)
    (world.rootfs / name).symlink_to(world.outside / ("victim" if there else "created"))
    config = {"linux": {"devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]}}
    kind, seen = attempt(world, config, lambda see: see.node("/" + name), userns=userns)
    if name in ("dev/fd", "dev/stdin", "dev/core"):
        assert kind == "ok" and seen[:2] == "->", "an existing link of that name is left alone"
    elif name == "dev/ptmx":
        assert (kind, seen) == ("ok", "-> pts/ptmx")
    else:
        assert kind == "refused" and "/" + name in seen


def test_devices_elsewhere(world):
    (world.rootfs / "lib").symlink_to(world.outside)
    (world.outside / "there").mkdir()
    world.freeze()
    devices = [{"path": "/lib/there/node", "type": "c", "major": 1, "minor": 5}]
    kind, said = attempt(world, {"mounts": [DEV], "linux": {"devices": devices}})
    assert kind == "refused" and "/lib/there/node" in said, said
    devices[0]["path"] = "/there/node"
    kind, seen = attempt(world, {"mounts": [DEV], "linux": {"devices": devices}}, lambda see: see.node("/there/node"))
    assert (kind, seen) == ("ok", "c 1:5 666 0:0")


def test_masks_and_readonly_paths_behind_links(world):
    """They are looked up in the root, so files of the same names on the host are not changed, and paths that can't be covered are reported."""
    (world.rootfs / "secret").symlink_to(world.outside / "victim")
    inside = world.rootfs / str(world.outside)[1:]
    inside.mkdir(parents=True)
    (inside / "victim").write_text("the image's")
    linux = {"maskedPaths": ["/secret"], "readonlyPaths": [str(world.outside)]}
    kind, seen = attempt(world, {"mounts": [DEV], "linux": linux}, lambda see: [see.read("/secret"), see.write(str(world.outside / "x"))])
    assert (kind, seen) == ("ok", ["", "Read-only file system"])


def test_copy_up_follows_nothing(world):
    (world.rootfs / "d").mkdir()
    (world.rootfs / "d/out").symlink_to(world.outside)
    (world.rootfs / "link").symlink_to(world.outside)
    kind, seen = attempt(
        world, {"mounts": [tmpfs("/d", "tmpcopyup"), tmpfs("/link", "tmpcopyup")]}, lambda see: [see.listing("/d"), see.listing("/link")]
    )
    assert (kind, seen) == ("ok", [{"out": "-> %s" % world.outside}, {}])


def test_long_and_many(world):
    """CVE-2021-43784: lengths beyond 16 bits anywhere."""
    deep = world.path / "s"
    for _ in range(15):
        deep = deep / ("x" * 240)
    os.makedirs(deep)
    (deep / "f").write_text("deep")
    mounts = [bind(deep, "/many/%d" % i) for i in range(100)]
    assert attempt(world, {"mounts": mounts}, lambda see: see.read("/many/99/f")) == ("ok", "deep")
    with pytest.raises(Refusal):
        world.plan({"mounts": [tmpfs("/t", "size=" + "1" * 70000)]})
    with pytest.raises(Refusal):
        world.plan({"mounts": [tmpfs("/" + "x" * 256)]})


# ---- exchanges while the runtime works: first at the worst moment, then as races


def at_attach(monkeypatch, act):
    real = mount.attach
    done = []

    def attach(tree, target):
        if not done and not stat.S_ISREG(os.fstat(tree).st_mode) and act.wanted(tree):
            done.append(1)
            act()
        return real(tree, target)

    monkeypatch.setattr(mount, "attach", attach)


class Exchange:
    """Exchanges two names once, when a new tmpfs or the outside directory is about to be attached; not for the root, which may be on a tmpfs."""

    def __init__(self, a, b):
        self.a, self.b = str(a), str(b)

    def wanted(self, tree):
        top = "/proc/self/fd/%d/" % tree
        return (mount.magic(tree) == kernel_constants.TMPFS_MAGIC and not os.path.exists(top + "a")) or os.path.exists(top + "victim")

    def __call__(self):
        exchange(self.a, self.b)


@pytest.mark.parametrize("kind", ["tmpfs", "bind", "copyup"])
def test_an_exchange_between_lookup_and_mount(world, monkeypatch, kind):
    """CVE-2021-30465: the mount is attached where the path was resolved, never outside, and create fails because the path now leads elsewhere."""
    for folder in ("a/b/c", "a/other"):
        (world.rootfs / folder).mkdir(parents=True)
    (world.rootfs / "a/link").symlink_to(world.outside)
    (world.outside / "c").mkdir()
    world.freeze()
    at_attach(monkeypatch, Exchange(world.rootfs / "a/b", world.rootfs / "a/link"))
    given = {"tmpfs": tmpfs("/a/b/c"), "bind": bind(world.outside, "/a/b/c"), "copyup": tmpfs("/a/b/c", "tmpcopyup")}[kind]
    said, sentence = attempt(world, {"mounts": [given]}, lambda see: 1)
    assert said == "refused" and "changed while it was being mounted on" in sentence and "/mounts/0" in sentence


def test_an_exchange_of_a_masked_path(world, monkeypatch):
    (world.rootfs / "a/b").mkdir(parents=True)
    (world.rootfs / "a/c").mkdir()
    at_attach(monkeypatch, Exchange(world.rootfs / "a/b", world.rootfs / "a/c"))
    kind, sentence = attempt(world, {"linux": {"maskedPaths": ["/a/b"]}}, lambda see: 1)
    assert kind == "refused" and "/linux/maskedPaths/0" in sentence


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bind", "tmpfs", "copyup", "missing"])
def test_a_race_for_the_destination(world, swap, kind):
    """CVE-2021-30465; with `missing` CVE-2024-45310: no new inode appears outside."""
    (world.rootfs / "a/b").mkdir(parents=True)
    (world.rootfs / "a/link").symlink_to(world.outside)
    given = {
        "bind": bind(world.outside, "/a/b/c"), "tmpfs": tmpfs("/a/b/c"), "copyup": tmpfs("/a/b/c", "tmpcopyup"),
        "missing": tmpfs("/a/b/1/2/3/4/5"),
    }[kind]  # fmt: skip
    world.freeze()
    config, look = {"mounts": [given]}, lambda see: [m["point"] for m in see.mounts()]
    calm = {"mounts": [{**given, "destination": given["destination"].replace("/b/", "/other/")}]}
    assert attempt(world, calm, look) == ("ok", ["/", calm["mounts"][0]["destination"]]), "the control: no exchange"
    swap(world.rootfs / "a/b", world.rootfs / "a/link")
    for _ in range(ROUNDS):
        said, seen = attempt(world, config, look)
        if said == "ok":
            assert seen[0] == "/" and len(seen) == 2, "the mount is below the root"
        assert world.host() == world.before


@pytest.mark.slow
@pytest.mark.parametrize("where", ["proc", "sys"])
def test_a_race_for_proc(world, swap, where):
    """CVE-2019-19921 with an exchange: procfs is mounted on /proc, a directory, or create fails."""
    (world.rootfs / "decoy").symlink_to("/tmp")
    given = PROC if where == "proc" else SYS
    config, look = {"mounts": [given]}, lambda see: [[m["type"], m["point"]] for m in see.mounts()][1:]
    calm = attempt(world, config, look, namespaces=["network"])
    assert calm == ("ok", [[given["type"], "/" + where]]), "the control: no exchange"
    swap(world.rootfs / where, world.rootfs / "decoy")
    for _ in range(ROUNDS):
        said, seen = attempt(world, config, look, namespaces=["network"])
        if said == "ok":  # the directory of the mount may have been renamed since
            assert seen in ([[given["type"], "/" + where]], [[given["type"], "/decoy"]]), (
                "on the directory, never on the target of the link"
            )
        else:
            assert "ordinary directory" in seen or "changed while" in seen


@pytest.mark.slow
def test_a_race_for_a_shared_dev_null(world, swap):
    """The race of CVE-2025-31133: a sibling exchanges /dev/null in a /dev that both share."""
    shared = world.path / "shared"
    shared.mkdir()
    os.mknod(shared / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (shared / "other").symlink_to("/marker")
    (world.rootfs / "marker").write_text("marker")
    (world.rootfs / "secret").write_text("secret")
    swap(shared / "null", shared / "other")
    config = {"mounts": [bind(shared, "/dev")], "linux": {"maskedPaths": ["/secret"]}}
    outcomes = {"ok": 0, "refused": 0}
    for _ in range(ROUNDS):
        said, seen = attempt(
            world, config, lambda see: [see.node("/secret")[:5], see.read("/secret"), see.write("/secret", "lost"), see.read("/marker")]
        )
        outcomes[said] += 1
        if said == "ok":
            assert seen == ["c 1:3", "", "ok", "marker"]
    assert outcomes["ok"], outcomes


def test_a_rootfs_that_is_exchanged(world, monkeypatch):
    """The directory that was opened becomes the root; if the name leads elsewhere by then, create fails."""
    (world.bundle / "second").mkdir()

    class Act(Exchange):
        def wanted(self, tree):
            return True

    at_attach(monkeypatch, Act(world.rootfs, world.bundle / "second"))
    with pytest.raises(StepFailure):
        world.go({}, lambda see: 1)


def test_the_skeleton_survives_a_root_full_of_links(world):
    """Many links at once: the container still starts, because nothing is ambiguous."""
    links = [name for name in ("var", "etc", "run") if not str(world.outside).startswith("/%s/" % name)]  # that would be a loop
    for name in links:
        if (world.rootfs / name).exists():
            (world.rootfs / name).rmdir()
        (world.rootfs / name).symlink_to(world.outside)
    kind, seen = attempt(
        world, {"mounts": [PROC, DEV, PTS, tmpfs("/run"), SYS]}, lambda see: [m["point"] for m in see.mounts()][1:], namespaces=["network"]
    )
    assert (kind, seen) == ("ok", ["/proc", "/dev", "/dev/pts", str(world.outside) if "run" in links else "/run", "/sys"])
