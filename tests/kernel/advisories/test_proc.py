"""Writes under /proc, sysctls, and values that could be misinterpreted."""

import os
import pathlib

import pytest

import harness
from advisory_tools import bind, mount

pytestmark = pytest.mark.kernel

ROUNDS = 25
LABELS = {"/process/apparmorProfile": "no-such-profile", "/process/selinuxLabel": "system_u:system_r:no_such_t:s0"}
NET = "net/ipv4/ip_forward"


def fake_proc(folder, marker="/marker"):
    """A tree with the files that a runtime writes to; each is a link to a marker in the image."""
    for name in ("self/attr/exec", "self/attr/current", "self/attr/apparmor/exec", "sys/" + NET, "self/uid_map", "self/oom_score_adj"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(marker)
    return folder


@pytest.mark.parametrize("form", ["tmpfs", "bind"])
@pytest.mark.parametrize("label", LABELS)
def test_cve_2019_16884_a_tree_that_poses_as_proc(runtime, make_bundle, harmless, form, label):
    """Whatever is mounted at /proc, a requested label is in force, or nothing runs."""
    bundle = make_bundle(args=["/bin/cat", "/proc/self/attr/current"])
    harmless(bundle, {"/process/args": ["/bin/ls", "/proc/self/attr/current"]})
    tree = bundle.path / "fake"
    fake_proc(tree)
    bundle.patch({"/mounts/0": mount("/proc") if form == "tmpfs" else bind(tree, "/proc"), label: LABELS[label]})
    (bundle.rootfs / "marker").write_text("marker")
    result = runtime.run(bundle)
    assert (bundle.rootfs / "marker").read_text() == "marker"
    assert result.code != 0, result


@pytest.mark.parametrize("label", LABELS)
def test_cve_2019_16884_a_label_is_never_left_out(runtime, make_bundle, harmless, label):
    bundle = make_bundle({label: LABELS[label]})
    harmless(bundle, {label: harness.ABSENT})
    result = runtime.run(bundle)
    assert result.code != 0, "the requested profile does not exist"


@pytest.mark.parametrize(
    "place", ["/proc/sys", "/proc/sys/net", "/proc/sys/net/ipv4", "/proc/self", "/proc/self/attr", "/proc/thread-self"]
)
@pytest.mark.parametrize("form", ["tmpfs", "bind"])
def test_cve_2025_52881_a_mount_below_proc(runtime, make_bundle, host, harmless, place, form):
    """A write to a setting reaches that setting, or there is no container."""
    bundle = make_bundle({"/linux/sysctl": {"net.ipv4.ip_forward": "1"}}, args=["/bin/cat", "/proc/sys/" + NET])
    assert harmless(bundle).out == "1\nworks\n"
    tree = bundle.path / "fake" / "tree"
    source = fake_proc(tree, str(host.victim)) / (place.replace("thread-", "").removeprefix("/proc/"))
    bundle.patch({"/mounts/-": mount(place) if form == "tmpfs" else bind(source, place)})
    result = runtime.run(bundle)
    assert result.code != 0 or result.out == "1\n", result


@pytest.mark.parametrize("what", ["decoy", "link"])
def test_cve_2025_52881_a_race_for_the_tree_that_is_written_to(runtime, make_bundle, harmless, swap, what):
    """The directory that procfs is mounted on is renamed; what is then called /proc leads to a file in the image."""
    bundle = make_bundle({"/linux/sysctl": {"net.ipv4.ip_forward": "1"}, "/process/oomScoreAdj": 500})
    harmless(bundle)
    (bundle.rootfs / "marker").write_text("marker")
    if what == "decoy":
        fake_proc(bundle.rootfs / "decoy")
    else:
        fake_proc(bundle.rootfs / "tree")
        (bundle.rootfs / "decoy").symlink_to("tree")
    swap(bundle.rootfs / "proc", bundle.rootfs / "decoy")
    for _ in range(ROUNDS):
        runtime.run(bundle)
        assert (bundle.rootfs / "marker").read_text() == "marker"


@pytest.mark.parametrize("separator", ["+", "\n", "=", " "])
def test_cve_2022_0811_a_value_is_one_value(runtime, make_bundle, scratch, harmless, separator):
    names = ("kernel/shm_rmid_forced", "kernel/core_pattern", "kernel/msgmax")
    host = [pathlib.Path("/proc/sys", name).read_text() for name in names]
    value = "1%skernel.msgmax=77" % separator
    bundle = make_bundle({"/linux/sysctl": {"kernel.shm_rmid_forced": value}}, args=["/bin/cat", "/proc/sys/kernel/msgmax"])
    assert harmless(bundle, {"/linux/sysctl": {"kernel.msgmax": "77"}}).out == "77\nworks\n"
    result = runtime.run(bundle)
    assert [pathlib.Path("/proc/sys", name).read_text() for name in names] == host
    assert result.out.strip() != "77", result


@pytest.mark.parametrize(
    "key", ["kernel.core_pattern", "kernel/../kernel/core_pattern", "net/../kernel/core_pattern", "kernel.shm_rmid_forced/../core_pattern"]
)
def test_cve_2022_0811_settings_of_the_host_are_not_reached(runtime, make_bundle, harmless, key):
    path = pathlib.Path("/proc/sys/kernel/core_pattern")
    before = path.read_text()
    bundle = make_bundle({"/linux/sysctl": {key: before.strip()}})
    harmless(bundle, {"/linux/sysctl": {"kernel.shm_rmid_forced": "1"}})
    try:
        result = runtime.run(bundle)
        assert result.code != 0, "the value was written this time"
    finally:
        assert path.read_text() == before


@pytest.mark.parametrize("home", ["/\nevil:x:0:0::/:/bin/sh", "/a:0:0", "/x\r\nevil::0:0:::"])
def test_cve_2022_4318_home_is_no_line_of_passwd(runtime, make_bundle, harmless, home):
    bundle = make_bundle(
        {"/process/env": ["PATH=/bin", "HOME=" + home], "/process/user": {"uid": 4242, "gid": 4242}}, args=["/bin/id", "-u"]
    )
    assert harmless(bundle, {"/process/env/1": "HOME=/"}).out == "4242\nworks\n"
    before = {name: (bundle.rootfs / "etc" / name).read_bytes() for name in ("passwd", "group")}
    host = pathlib.Path("/etc/passwd").read_bytes()
    result = runtime.run(bundle)
    assert {name: (bundle.rootfs / "etc" / name).read_bytes() for name in before} == before
    assert pathlib.Path("/etc/passwd").read_bytes() == host
    assert result.code != 0 or result.out == "4242\n"


def test_cve_2026_94603_a_name_without_a_value_takes_nothing(runtime, make_bundle, harmless):
    """A bare KEY or a star in the environment of the config is not replaced with the value on the host."""
    for entry in ("HOSTSECRET", "*", "HOST*"):
        bundle = make_bundle({"/process/env": ["PATH=/bin", entry]}, args=["/bin/cat", "/proc/self/environ"])
        assert "PATH=/bin\0" in harmless(bundle, {"/process/env/1": harness.ABSENT}).out
        result = runtime.run(bundle, env={**runtime.env, "HOSTSECRET": "of-the-host"})
        assert "of-the-host" not in result.out, result


def test_cve_2026_94603_the_environment_is_that_of_the_config(runtime, make_bundle, waiting, harmless):
    env = {**runtime.env, "HOSTSECRET": "of-the-host", "LD_PRELOAD": "", "PYTHONPATH": "/of-the-host"}
    out = harmless(make_bundle(args=["/bin/cat", "/proc/1/environ"]), env=env).out
    assert "PATH=" in out and "of-the-host" not in out
    out = harmless.exec(runtime.started(waiting), args=["/bin/cat", "/proc/self/environ"], env=env)
    assert "PATH=" in out and "of-the-host" not in out


def test_cve_2026_94603_the_environment_of_a_created_init(runtime, waiting):
    id = runtime.create(waiting, env={**runtime.env, "HOSTSECRET": "of-the-host"})
    assert b"of-the-host" not in pathlib.Path("/proc/%d/environ" % runtime.state(id)["pid"]).read_bytes()
    assert os.path.exists("/proc/%d" % runtime.state(id)["pid"])
