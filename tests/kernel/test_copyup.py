"""tmpcopyup: the tmpfs contains an exact copy of the covered directory; links are not followed, and no file blocks."""

import os
import socket
import stat

import pytest

from mounting import OUTER, bind, tmpfs
from pyrunc.errors import StepFailure

pytestmark = pytest.mark.kernel


def made(world, name="d"):
    """A directory in the image with one file of every kind."""
    top = world.rootfs / name
    top.mkdir(exist_ok=True)
    (top / "sub").mkdir()
    (top / "sub/file").write_text("text")
    (top / "sub/file").chmod(0o4750)
    os.chown(top / "sub/file", 7, 8)
    os.chmod(top / "sub/file", 0o4750)
    os.utime(top / "sub/file", ns=(10**18, 10**18 + 5))
    os.setxattr(top / "sub/file", "user.note", b"kept")
    os.setxattr(top / "sub/file", "security.capability", b"\x01\x00\x00\x02" + b"\x20\x00\x00\x00" + b"\0" * 12)
    (top / "sub").chmod(0o1770)
    os.link(top / "sub/file", top / "twin")
    (top / "link").symlink_to("/etc/passwd")
    os.lchown(top / "link", 3, 4)
    os.mkfifo(top / "fifo", 0o640)
    os.mknod(top / "zero", stat.S_IFCHR | 0o604, os.makedev(1, 5))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(top / "sock"))
    os.chown(top, 5, 6)
    top.chmod(0o2751)
    return top


def test_everything_is_copied(world):
    made(world)

    def look(see):
        info = os.stat("/d/sub/file")
        return {
            "top": see.node("/d"), "list": see.listing("/d"), "sub": see.listing("/d/sub"), "text": see.read("/d/sub/file"),
            "times": info.st_mtime_ns, "twins": info.st_ino == os.stat("/d/twin").st_ino, "type": see.mount("/d")["type"],
            "note": os.getxattr("/d/sub/file", "user.note").decode(), "cap": os.getxattr("/d/sub/file", "security.capability")[:1].hex(),
        }  # fmt: skip

    seen = world.go({"mounts": [tmpfs("/d", "rw", "rprivate", "nosuid", "nodev", "tmpcopyup", "")]}, look)
    assert seen["top"] == "d 2751 5:6" and seen["type"] == "tmpfs"
    assert seen["sub"] == {"file": "f 4750 7:8"} and seen["text"] == "text"
    listing = seen["list"]
    assert listing.pop("sock").startswith("s ")
    assert listing == {
        "fifo": "p 640 0:0", "link": "-> /etc/passwd", "sub": "d 1770 0:0", "twin": "f 4750 7:8", "zero": "c 1:5 604 0:0",
    }  # fmt: skip
    assert seen["times"] == 10**18 + 5 and seen["twins"] and seen["note"] == "kept" and seen["cap"] == "01"


@pytest.mark.parametrize("options, node", [((), "d 2751 5:6"), (("uid=9",), "d 2751 9:6"), (("gid=10", "mode=700", "uid=9"), "d 700 9:10")])
def test_options_take_precedence_over_the_covered_directory(world, options, node):
    made(world)
    seen = world.go({"mounts": [tmpfs("/d", *options, "tmpcopyup")]}, lambda see: (see.node("/d"), see.listing("/d")["sub"]))
    assert seen == [node, "d 1770 0:0"]


def test_links_out_of_the_root_are_copied_as_links(world):
    top = world.rootfs / "d"
    top.mkdir()
    (top / "out").symlink_to(world.outside)
    (top / "victim").symlink_to(world.outside / "victim")
    seen = world.go({"mounts": [tmpfs("/d", "tmpcopyup")]}, lambda see: see.listing("/d"))
    assert seen == {"out": "-> %s" % world.outside, "victim": "-> %s/victim" % world.outside}


def test_a_hole_of_a_terabyte_costs_nothing(world):
    (world.rootfs / "d").mkdir()
    with open(world.rootfs / "d/sparse", "wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(b"middle")
    look = lambda see: [os.stat("/d/sparse").st_size, os.stat("/d/sparse").st_blocks * 512 < 1 << 20]  # noqa: E731
    assert world.go({"mounts": [tmpfs("/d", "tmpcopyup", "size=2m")]}, look) == [1 << 40, True]


def test_more_data_than_fits_into_the_tmpfs(world):
    (world.rootfs / "d").mkdir()
    (world.rootfs / "d/big").write_bytes(b"x" * (2 << 20))
    with pytest.raises(StepFailure) as caught:
        world.go({"mounts": [tmpfs("/d", "tmpcopyup", "size=1m")]})
    assert "no space left on device" in caught.value.words and caught.value.pointer == "/mounts/0"


def test_mounts_below_are_not_copied(world):
    (world.rootfs / "d/vol").mkdir(parents=True)
    (world.rootfs / "d/f").write_text("")
    seen = world.go({"mounts": [bind(world.outside, "/d/vol"), tmpfs("/d", "tmpcopyup")]}, lambda see: see.listing("/d"))
    assert seen == {"f": "f 644 0:0"}


def test_read_only_copies(world):
    made(world)
    seen = world.go({"mounts": [tmpfs("/d", "tmpcopyup", "ro")]}, lambda see: [see.read("/d/sub/file"), see.write("/d/x")])
    assert seen == ["text", "Read-only file system"]


def test_nothing_to_copy(world):
    assert world.go({"mounts": [tmpfs("/none", "tmpcopyup")]}, lambda see: see.listing("/none")) == {}


def test_through_a_link_of_the_image(world):
    """With /var/run -> /run, the directory inside the root is copied."""
    (world.rootfs / "run").mkdir()
    (world.rootfs / "run/f").write_text("inside")
    (world.rootfs / "var").mkdir()
    (world.rootfs / "var/run").symlink_to("/run")
    seen = world.go({"mounts": [tmpfs("/var/run", "tmpcopyup")]}, lambda see: [see.read("/run/f"), see.mount("/run")["type"]])
    assert seen == ["inside", "tmpfs"]


def test_deep_directories(world):
    place = world.rootfs / "d"
    for i in range(150):
        place = place / ("n%d" % i)
    place.mkdir(parents=True)
    (place / "f").write_text("deep")
    depth = "/d/" + "/".join("n%d" % i for i in range(150)) + "/f"
    assert world.go({"mounts": [tmpfs("/d", "tmpcopyup")]}, lambda see: see.read(depth)) == "deep"


def test_in_a_user_namespace(world):
    """Owners are mapped to the container's; a device can't be created there, and is left out."""
    top = world.rootfs / "d"
    top.mkdir()
    (top / "f").write_text("text")
    os.chown(top / "f", OUTER + 5, OUTER + 6)
    os.mknod(top / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    for path in (world.rootfs, *world.rootfs.iterdir()):
        os.chown(path, OUTER, OUTER)
    assert world.go({"mounts": [tmpfs("/d", "tmpcopyup")]}, lambda see: see.listing("/d"), userns=True) == {"f": "f 644 5:6"}
