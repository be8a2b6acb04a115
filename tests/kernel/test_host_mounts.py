"""A container without a mount namespace: an absent type is inherited (config-linux.md#namespaces). Its mounts exist on the host as long as the
container does, and none is left behind. Only the command line is used.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

import harness

if TYPE_CHECKING:
    import pathlib

    from harness import Bundle, Runtime
    from workshop import MakeBundle


@pytest.fixture
def without(make_bundle: MakeBundle) -> Bundle:
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    bundle.config["linux"]["namespaces"] = [one for one in bundle.config["linux"]["namespaces"] if one["type"] != "mount"]
    return bundle.write()


def mounts(bundle: Bundle) -> list[str]:
    root = os.path.realpath(bundle.rootfs)
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = [line.split()[4] for line in file]
    return [point[len(root) :] or "/" for point in points if point == root or point.startswith(root + "/")]


SCRIPT = "cat /proc/self/comm; ls /dev | sort | tr '\\n' ' '; echo x >/dev/shm/x; cat /data/file; touch /data/no 2>&1; ls /nowhere /masked"


@pytest.mark.parametrize("readonly", [False, True])
def test_it_runs_and_leaves_no_mount(runtime: Runtime, without: Bundle, tmp_path: pathlib.Path, readonly: bool) -> None:
    (tmp_path / "file").write_text("bound\n")
    (without.rootfs / "masked").mkdir()
    (without.rootfs / "masked/secret").write_text("")
    without.patch({
        "/process/args": ["/bin/sh", "-c", SCRIPT], "/root/readonly": readonly, "/linux/maskedPaths": ["/masked"],
        "/linux/readonlyPaths": ["/proc/sys"],
        "/mounts/-": {"destination": "/data", "type": "bind", "source": str(tmp_path), "options": ["rbind", "ro"]},
    })  # fmt: skip
    result = runtime.call("run", "--bundle", without, runtime.new_id())
    assert result.out.startswith("cat\n") and " null " in result.out and "\nbound\n" in "\n" + result.out.replace("zero ", "\n"), result
    assert "touch: /data/no: Read-only file system" in result.out and "secret" not in result.out, result
    assert mounts(without) == [] and sorted(os.listdir(tmp_path)) == ["file"]


def test_its_mounts_are_the_hosts_until_delete(runtime: Runtime, without: Bundle) -> None:
    id = runtime.started(without)
    assert {"/proc", "/dev", "/dev/shm"} <= set(mounts(without))
    assert os.readlink("/proc/%d/root" % runtime.state(id)["pid"]) == os.path.realpath(without.rootfs)
    assert runtime.ok("exec", id, "/bin/ls", "/bin/busybox").out == "/bin/busybox\n"
    runtime.stopped(id)
    runtime.delete(id)
    assert mounts(without) == []


@pytest.mark.parametrize("where", ["mount", "program", "hook"])
def test_a_create_that_fails_leaves_none(runtime: Runtime, without: Bundle, where: str) -> None:
    changes = {
        "mount": {"/mounts/-": {"destination": "/data", "type": "bind", "source": "/no/such", "options": ["bind"]}},
        "program": {"/process/args": ["/no/such"]},
        "hook": {"/hooks": {"createContainer": [{"path": "/bin/false"}]}},
    }
    without.patch(changes[where])
    assert runtime.call("run", "--bundle", without, runtime.new_id()).code != 0
    assert mounts(without) == []


def test_a_bind_of_a_shared_tree_leaves_the_hosts_mounts(runtime: Runtime, without: Bundle, tmp_path: pathlib.Path) -> None:
    """Mounts below the source stay: the bind mount and the source are peers, so an unmount would propagate both ways."""
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    for words in (["--bind", source, source], ["--make-shared", source], ["-t", "tmpfs", "tmpfs", source / "below"]):
        subprocess.run(["mount", *map(str, words)], check=True)
    try:
        without.patch({"/mounts/-": {"destination": "/data", "type": "bind", "source": str(source), "options": ["rbind"]}})
        without.patch({"/process/args": ["/bin/ls", "/data/below"]})
        assert runtime.call("run", "--bundle", without, runtime.new_id()).code == 0
        assert mounts(without) == [] and os.path.ismount(source / "below")
    finally:
        subprocess.run(["umount", str(source / "below")], check=True)
        subprocess.run(["umount", str(source)], check=True)


def test_mounts_that_were_there_before_stay(runtime: Runtime, without: Bundle) -> None:
    (without.rootfs / "before").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(without.rootfs / "before")], check=True)
    try:
        without.patch({"/process/args": ["/bin/true"]})
        assert runtime.call("run", "--bundle", without, runtime.new_id()).code == 0
        assert mounts(without) == ["/before"]
    finally:
        subprocess.run(["umount", str(without.rootfs / "before")], check=True)


def test_one_container_at_a_time(pyrunc: Runtime, without: Bundle) -> None:
    """Deleting the first one would remove the mounts of the second one."""
    id = pyrunc.started(without)
    result = pyrunc.call("run", "--bundle", without, pyrunc.new_id())
    assert result.code == 1 and "for one container at a time" in result.err
    assert "/proc" in mounts(without) and pyrunc.status(id) == "running"
    pyrunc.stopped(id)
    pyrunc.delete(id)
    without.patch({"/process/args": ["/bin/true"]})
    assert pyrunc.run(without).code == 0 and mounts(without) == []
