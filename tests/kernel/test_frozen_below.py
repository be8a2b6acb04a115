"""A container that has frozen itself in a child of its cgroup, which the runtime does not check."""

import os
import pathlib

import pytest

import harness

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("depth", [0, 1, 3], ids=["not-frozen", "below", "deep-below"])
@pytest.mark.parametrize("way", ["delete", "kill"])
def test_a_container_that_froze_itself_can_be_ended(runtime, waiting, way, depth):
    """Version 1: a process that may write to the freezer moves into a new child cgroup and freezes it. KILL ends a frozen task only once that
    cgroup is thawed; depth 0 is the control, the same container without that."""
    if not os.path.isdir("/sys/fs/cgroup/freezer"):
        pytest.skip("this machine has no freezer of cgroup v1")
    id = runtime.started(waiting)
    pid = runtime.state(id)["pid"]
    path = next(line.split(":", 2)[2] for line in open("/proc/%d/cgroup" % pid).read().splitlines() if ":freezer:" in line)
    top = pathlib.Path("/sys/fs/cgroup/freezer" + path)
    folders = [top.joinpath(*["sub"] * level) for level in range(1, depth + 1)]
    try:
        for folder in folders:
            folder.mkdir()
        if folders:
            (folders[-1] / "cgroup.procs").write_text("%d" % pid)
            (folders[0] / "freezer.state").write_text("FROZEN")
        with harness.Watched(pid) as watched:
            if way == "kill":
                assert runtime.call("kill", id, "KILL").code == 0
                watched.wait()
        assert runtime.call("delete", "--force", id).code == 0
        assert runtime.call("state", id).code and not top.exists()
    finally:
        for folder in folders:
            if folder.exists():
                (folder / "freezer.state").write_text("THAWED")
