"""Links in the image, and links that are exchanged while the runtime works: everything is created inside the root, or is rejected."""

import os

import pytest

import harness
import hoststate
from advisory_tools import SECRET, bind, mount, replace

pytestmark = pytest.mark.kernel

ROUNDS = 25  # for each race
NAMES = "dev/null dev/zero dev/full dev/random dev/urandom dev/tty dev/console dev/fd dev/stdin dev/ptmx dev/core etc/resolv.conf etc/hosts"
FORMS = ("bind", "tmpfs", "copyup", "cgroup")


def given(host, form, destination):
    return {
        "bind": bind(host.directory, destination),
        "tmpfs": mount(destination),
        "copyup": mount(destination, "tmpfs", "tmpfs", "tmpcopyup"),
        "cgroup": mount(destination, "cgroup", "cgroup", "ro"),
    }[form]


def test_cve_2019_18837_a_file_to_bind_over_is_a_link(runtime, make_bundle, host, harmless):
    """The target of the link would be created on the host."""
    bundle = make_bundle({"/mounts/-": bind("/etc/hostname", "/etc/resolv.conf")})
    harmless(bundle)
    replace(bundle.rootfs / "etc/resolv.conf", host / "created")
    runtime.run(bundle)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("link", ["absolute", "relative", "magic"])
def test_cve_2019_18837_a_folder_of_the_destination_is_a_link(runtime, make_bundle, host, harmless, form, link):
    bundle = make_bundle({"/mounts/-": given(host, form, "/mnt/x")}, args=["/bin/touch", "/mnt/x/made"])
    harmless(bundle, {} if form in ("tmpfs", "copyup") else {"/process/args": ["/bin/ls", "/mnt/x"]})
    target = {"absolute": str(host), "relative": "../../../../../../../.." + str(host), "magic": "/proc/self/root" + str(host)}[link]
    replace(bundle.rootfs / "mnt", target)
    if form == "bind":
        bundle.patch({"/process/args": ["/bin/true"]})  # O itself is the source
    runtime.run(bundle)


@pytest.mark.parametrize("depth", ["", "real/"])
def test_cve_2026_87766_a_parent_of_the_destination_is_a_link(runtime, make_bundle, host, harmless, depth):
    """O_NOFOLLOW only protects the last component."""
    bundle = make_bundle({"/mounts/-": mount("/%sup/a/b/c" % depth), "/process/cwd": "/%sup/new/place" % depth}, args=["/bin/touch", "f"])
    harmless(bundle)
    (bundle.rootfs / depth).mkdir(exist_ok=True)
    (bundle.rootfs / depth / "up").symlink_to(host.directory)
    runtime.run(bundle)


def test_cve_2026_87766_a_parent_of_a_device_is_a_link(runtime, make_bundle, host, harmless):
    (host / "there").mkdir()
    host.freeze()
    bundle = make_bundle({"/linux/devices": [{"path": "/up/there/node", "type": "c", "major": 1, "minor": 5}]})
    harmless(bundle)
    (bundle.rootfs / "up").symlink_to(host.directory)
    runtime.run(bundle)


@pytest.mark.parametrize("place", ["proc", "sys"])
@pytest.mark.parametrize("what", ["link", "dangling", "file", "out"])
def test_cve_2019_19921_proc_and_sys_are_no_links(runtime, make_bundle, host, harmless, place, what):
    """Masks, read-only paths and labels would apply to a decoy: the program sees its own proc there, or does not run."""
    bundle = make_bundle(args=["/bin/stat", "-f", "-c", "%t", "/" + place])
    assert harmless(bundle).out.split()[0] == {"proc": "9fa0", "sys": "62656572"}[place]
    path = bundle.rootfs / place
    path.rmdir()
    if what == "file":
        path.write_text("")
    else:
        path.symlink_to({"link": "/tmp", "dangling": "/nowhere", "out": str(host)}[what])
    assert runtime.run(bundle).code != 0


def test_cve_2019_19921_a_race_for_proc(runtime, make_bundle, host, harmless, swap):
    bundle = make_bundle({"/linux/maskedPaths": ["/proc/timer_list"]}, args=["/bin/stat", "-f", "-c", "%t", "/tmp"])
    harmless(bundle)
    (bundle.rootfs / "decoy").symlink_to("/tmp")
    swap(bundle.rootfs / "proc", bundle.rootfs / "decoy")
    for _ in range(ROUNDS):
        result = runtime.run(bundle)
        assert result.code != 0 or result.out != "9fa0\n", "procfs was mounted where the link led"


@pytest.mark.parametrize("kind", ["maskedPaths", "readonlyPaths"])
def test_ghsa_3q8j_pf29_vwv8_a_race_for_what_is_covered(runtime, make_bundle, host, harmless, swap, kind):
    """While the container is set up, the path is exchanged for a link that leads out of the root: nothing on the host is covered, and nothing
    of the host is visible. If the container runs, its own path is covered, or another one in its root."""
    bundle = make_bundle(
        {"/linux/" + kind: ["/a/covered"]}, args=["/bin/sh", "-c", "cat /a/covered/* 2>/dev/null; cat /proc/self/mountinfo"]
    )

    def put(twin):
        (twin.rootfs / "a/covered").mkdir(parents=True)
        (twin.rootfs / "a/covered/file").write_text("inside\n")

    control = harmless(bundle, prepare=put)
    assert " /a/covered " in control.out and ("inside" in control.out) == (kind == "readonlyPaths")
    put(bundle)
    (bundle.rootfs / "a/link").symlink_to(host.directory)
    swap(bundle.rootfs / "a/covered", bundle.rootfs / "a/link")
    roots = hoststate.mounts(str(host))
    for _ in range(ROUNDS):
        result = runtime.run(bundle)
        assert SECRET not in result.out
        assert hoststate.mounts(str(host)) == roots, "covered on the host"
        assert hoststate.snapshot(host.directory) == host.before


@pytest.mark.parametrize("form", FORMS)
def test_cve_2021_30465_a_race_for_the_destination(runtime, make_bundle, host, harmless, swap, form):
    bundle = make_bundle({"/mounts/-": given(host, form, "/a/b/c")}, args=["/bin/cat", "/proc/self/mountinfo"])
    assert " /a/b/c" in harmless(bundle).out
    (bundle.rootfs / "a/b").mkdir(parents=True)
    (bundle.rootfs / "a/link").symlink_to(host.directory)
    swap(bundle.rootfs / "a/b", bundle.rootfs / "a/link")
    roots = hoststate.mounts(str(host))
    for _ in range(ROUNDS):
        runtime.run(bundle)
        assert hoststate.mounts(str(host)) == roots, "mounted on the host"
        assert hoststate.snapshot(host.directory) == host.before


@pytest.mark.parametrize("form", ["bind", "tmpfs"])
def test_cve_2024_45310_a_race_makes_nothing_outside(runtime, make_bundle, host, harmless, swap, form):
    bundle = make_bundle({"/mounts/-": given(host, form, "/a/b/1/2/3/4/5"), "/process/cwd": "/a/b/x/y/z"})
    harmless(bundle)
    (bundle.rootfs / "a/b").mkdir(parents=True)
    (bundle.rootfs / "a/link").symlink_to(host.directory)
    swap(bundle.rootfs / "a/b", bundle.rootfs / "a/link")
    for _ in range(ROUNDS):
        runtime.run(bundle)
        assert hoststate.snapshot(host.directory) == host.before


@pytest.mark.parametrize("name", NAMES.split())
@pytest.mark.parametrize("there", [False, True], ids=["dangling", "existing"])
def test_cve_2025_24965_every_name_that_is_made_may_be_a_link(runtime, no_dev, host, harmless, name, there):
    bundle = no_dev({"/mounts/-": bind("/etc/hostname", "/etc/hosts"), "/linux/devices": []})
    harmless(bundle)
    replace(bundle.rootfs / name, host / ("victim" if there else "created"))
    runtime.run(bundle)


def test_cve_2021_43784_lengths_beyond_16_bits(runtime, make_bundle, scratch, harmless):
    """300 sources of 3.5 KB: a megabyte of text has to be passed on. The namespaces are still those in the config."""
    source = scratch / "long"
    for _ in range(14):
        source = source / ("x" * 240)
    os.makedirs(source, exist_ok=True)
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    harmless(bundle, {"/process/args": ["/bin/ls", "/many"], "/mounts/-": bind(source, "/many/0"), "/annotations": {"a": "y"}})
    config = harness.patch(bundle.config, {"/annotations": {"a": "y" * 70000}})
    config["mounts"] += [bind(source, "/many/%d" % i) for i in range(300)]
    id = runtime.new_id()
    if runtime.call("create", "--bundle", bundle.write(config), id).code == 0:
        pid = runtime.state(id)["pid"]
        for name in ("pid", "net", "ipc", "uts", "mnt"):
            assert os.readlink("/proc/%d/ns/%s" % (pid, name)) != os.readlink("/proc/self/ns/" + name), name


@pytest.mark.parametrize("where", ["option", "map"])
def test_cve_2021_43784_one_long_value(runtime, make_bundle, harmless, where):
    changes = {"/mounts/-": mount("/t", "tmpfs", "tmpfs", "size=" + "1" * 70000)}
    short = {"/mounts/-": mount("/t", "tmpfs", "tmpfs", "size=1m")}
    if where == "map":
        maps = [{"containerID": i, "hostID": 100000 + i, "size": 1} for i in range(5000)]
        changes = {"/linux/uidMappings": maps, "/linux/gidMappings": maps, "/linux/namespaces/-": {"type": "user"}}
        short = {"/linux/namespaces/-": {"type": "user"}}
        short |= {"/linux/%sMappings" % kind: [{"containerID": 0, "hostID": 100000, "size": 5000}] for kind in ("uid", "gid")}
    harmless(make_bundle(short))
    id = runtime.new_id()
    if runtime.call("create", "--bundle", make_bundle(changes, args=harness.WAIT_FOR_TERM), id).code == 0:
        pid = runtime.state(id)["pid"]
        for name in ("pid", "net", "ipc", "uts", "mnt"):
            assert os.readlink("/proc/%d/ns/%s" % (pid, name)) != os.readlink("/proc/self/ns/" + name), name
