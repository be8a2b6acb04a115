"""cgroup/hierarchies.py: the list of hierarchies, from the text of mountinfo and /proc/PID/cgroup."""

import pytest

import cgroup_tools as tools
from pyrunc.cgroup import hierarchies


@pytest.mark.parametrize("kind, version", [("hybrid", "hybrid"), ("v1", 1), ("v2", 2), ("none", None)])
def test_version(kind, version):
    assert tools.layout(kind).version == version


def test_controllers_mounted_together_share_a_mount_point():
    mounts = tools.layout().mounts
    assert mounts["cpu"] == mounts["cpuacct"] == ["/sys/fs/cgroup/cpu,cpuacct", "/", "0:29"]
    assert mounts["name=systemd"][0] == "/sys/fs/cgroup/systemd"
    assert mounts["unified"][0] == "/sys/fs/cgroup/unified"
    assert list(mounts)[0] == "cpuset"  # created first: it needs values before the first process


@pytest.mark.parametrize(
    "key, path", [("memory", "/a/b"), ("cpuacct", "/a"), ("cpuset", "/"), ("unified", "/user.slice/s"), ("hugetlb", None)]
)
def test_own(key, path):
    assert hierarchies.parse_own(tools.HYBRID_OWN).get(key) == path


def test_own_path_may_hold_colons():
    assert hierarchies.parse_own("0::/a:b:c\n4:memory:/x:y\n") == {"unified": "/a:b:c", "memory": "/x:y"}


@pytest.mark.parametrize(
    "root, own, path",
    [
        ("/", "/a/b", "/a/b"),
        ("/docker/c1", "/docker/c1", "/"),
        ("/docker/c1", "/docker/c1/sub", "/sub"),
        ("/docker/c1", "/docker/c10", "/docker/c10"),
        ("/", "/../x", "/"),
    ],
)
def test_own_path_is_below_the_mount_point(root, own, path):
    text = "35 31 0:32 %s /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" % root
    assert hierarchies.layout(text, "4:memory:%s\n" % own).own_path("memory") == path


def test_a_mount_point_in_the_usual_place_wins():
    text = (
        "1 0 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "2 0 0:32 / /srv/root/sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "3 0 0:32 /docker/x /sys/fs/cgroup/part rw - cgroup cgroup rw,memory\n"
    )
    assert hierarchies.layout(text, "").mounts["memory"][0] == "/sys/fs/cgroup/memory"


def test_octal_escapes_in_mount_points():
    text = "1 0 0:32 / /my\\040cg\\134x rw - cgroup cgroup rw,memory\n"
    assert hierarchies.layout(text, "").mounts["memory"][0] == "/my cg\\x"


def test_unknown_named_hierarchies_are_left_alone():
    text = tools.V1 + "50 31 0:50 / /sys/fs/cgroup/elogind rw - cgroup cgroup rw,name=elogind\n"
    assert "name=elogind" not in hierarchies.layout(text, "").mounts


def test_a_private_mount_of_a_hierarchy_is_not_used():
    """criu mounts missing hierarchies in a directory of its own and unmounts them after the dump."""
    text = (
        "24 1 0:20 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "25 1 0:21 / /tmp/.criu.cgyard.x/net_cls rw - cgroup none rw,net_cls\n"
    )
    layout = hierarchies.layout(text, "4:memory:/\n")
    assert set(layout.mounts) == {"memory"}
