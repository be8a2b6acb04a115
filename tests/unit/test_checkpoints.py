"""The parts of checkpoint and restore that need no criu: options, page maps, the log, names of external resources, configuration files."""

import os
import types
from struct import pack

import pytest

from pyrunc.cgroup import superblock
from pyrunc.commands.checkpoint import settings_of
from pyrunc.engine import checkpoint, criu, criu_external, criu_images, criu_log
from pyrunc.errors import StepFailure, UsageError
from pyrunc.linux import protowire

# ---- options of the command line


def test_paths_are_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = settings_of({}, "checkpoint")
    assert (settings["image_path"], settings["work_path"], settings["status_fd"], settings["page_server"]) == (
        "%s/checkpoint" % tmp_path,
        None,
        -1,
        None,
    )
    settings = settings_of({"image_path": "x/../y", "work_path": "/w"}, "restore")
    assert (settings["image_path"], settings["work_path"]) == ("%s/y" % tmp_path, "/w")


@pytest.mark.parametrize(
    ("text", "address", "port"), [("10.0.0.1:27", "10.0.0.1", 27), ("[::1]:65535", "::1", 65535), ("host.example:1", "host.example", 1)]
)
def test_page_server(text, address, port):
    assert settings_of({"page_server": text}, "checkpoint")["page_server"] == {"address": address, "port": port}


@pytest.mark.parametrize("text", ["host", "host:", ":1", "::1:2", "host:0", "host:65536", "host:1x", "host:-1", "host:٣"])
def test_invalid_page_server(text):
    with pytest.raises(UsageError):
        settings_of({"page_server": text}, "checkpoint")


@pytest.mark.parametrize(
    "options",
    [
        {"image_path": "a\0b"}, {"work_path": "a\0b"}, {"manage_cgroups_mode": ""}, {"manage_cgroups_mode": "SOFT"}, {"network_lock": ""},
        {"empty_ns": ["network", "ipc"]}, {"status_fd": "-2"}, {"status_fd": "1e3"},
    ],
)  # fmt: skip
def test_other_invalid_options(options):
    with pytest.raises(UsageError):
        settings_of(options, "checkpoint")


# ---- page maps


def image(*entries, magic=True):
    """An image file of (description, values)."""
    body = [protowire.encode(fields, values) for fields, values in entries]
    head = pack("<II", criu_images.COMMON, 0x56084025) if magic else pack("<I", 0x56084025)
    return head + b"".join(pack("<I", len(one)) + one for one in body)


def pagemap(number, *entries, magic=True):
    """A page map with entries (pages, flags or None, in_parent)."""
    rows = [(criu_images.ENTRY, {"pages": pages, "in_parent": parent, "flags": flags}) for pages, flags, parent in entries]
    return image((criu_images.HEAD, {"pages_id": number}), *rows, magic=magic)


SIZE = os.sysconf("SC_PAGE_SIZE")


class Folder:
    """An image directory with one process, pid 1."""

    def __init__(self, path, *pids):
        self.path = path
        self.fd = os.open(path, os.O_RDONLY)
        (path / "pstree.img").write_bytes(image(*[(criu_images.PROCESS, {"pid": pid}) for pid in pids or (1,)]))

    def check(self):
        criu_images.check(self.fd, "D")

    def problem(self):
        """What is wrong with the images, in words; "" if nothing is."""
        try:
            self.check()
        except StepFailure as e:
            return e.words
        return ""


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path)
    yield made
    os.close(made.fd)


@pytest.mark.parametrize("magic", [True, False])
def test_pages_that_the_file_contains(folder, magic):
    """Pages in the parent image, and lazy ones, are not in the file."""
    data = pagemap(1, (3, 4, None), (5, 1, True), (7, 2, None), (2, None, None), (1, None, True), magic=magic)
    (folder.path / "pagemap-1.img").write_bytes(data)
    (folder.path / "pages-1.img").write_bytes(bytes(5 * SIZE))
    assert folder.problem() == ""
    os.truncate(folder.path / "pages-1.img", 5 * SIZE - 1)
    with pytest.raises(StepFailure, match="pages-1.img is cut off: it has %d bytes, %d are needed" % (5 * SIZE - 1, 5 * SIZE)):
        folder.check()
    os.unlink(folder.path / "pages-1.img")
    with pytest.raises(StepFailure, match="it has 0 bytes"):
        folder.check()


def test_no_pages_at_all(folder):
    assert folder.problem() == ""
    (folder.path / "pagemap-1.img").write_bytes(pagemap(1))
    assert folder.problem() == ""


def test_maps_of_an_earlier_dump_are_ignored(folder):
    (folder.path / "pagemap-7.img").write_bytes(pagemap(1, (100, 4, None)))
    (folder.path / "pagemap-shmem-7.img").write_bytes(b"x")
    (folder.path / "pagemap-1.img").write_bytes(pagemap(1, (1, 4, None)))
    (folder.path / "pages-1.img").write_bytes(bytes(SIZE))
    assert folder.problem() == ""


def test_shared_memory(folder):
    areas = [{"shmid": 7, "status": criu_images.SHARED | 1}, {"shmid": 8, "status": 1}, {"status": criu_images.SHARED}]
    (folder.path / "mm-1.img").write_bytes(image((criu_images.MEMORY, {"areas": areas})))
    for number in (7, 8):
        (folder.path / ("pagemap-shmem-%d.img" % number)).write_bytes(pagemap(number, (1, 4, None)))
    with pytest.raises(StepFailure, match="pages-7.img is cut off"):
        folder.check()
    (folder.path / "pages-7.img").write_bytes(bytes(SIZE))
    assert folder.problem() == "", "the pages of 8 belong to an open file"


def test_two_maps_of_one_file(tmp_path):
    folder = Folder(tmp_path, 1, 2)
    for name in ("pagemap-1.img", "pagemap-2.img"):
        (folder.path / name).write_bytes(pagemap(4, (2, 4, None)))
    (folder.path / "pages-4.img").write_bytes(bytes(3 * SIZE))
    with pytest.raises(StepFailure, match="pages-4.img is cut off"):
        folder.check()
    os.close(folder.fd)


def test_pages_of_an_earlier_dump(folder):
    earlier = folder.path / "earlier"
    earlier.mkdir()
    os.close(Folder(earlier).fd)
    (folder.path / "parent").symlink_to("earlier")
    (earlier / "pagemap-1.img").write_bytes(pagemap(1, (1, 4, None)))
    with pytest.raises(StepFailure, match="D/parent/pages-1.img"):
        folder.check()
    (earlier / "parent").symlink_to("nowhere")
    (earlier / "pages-1.img").write_bytes(bytes(SIZE))
    with pytest.raises(StepFailure, match="D/parent/parent that this one builds on cannot be opened: no such file"):
        folder.check()
    (earlier / "parent").unlink()
    (earlier / "parent").symlink_to(".")
    assert folder.problem() == "", "a cycle of parents still ends"


@pytest.mark.parametrize("name", ["pagemap-1.img", "pstree.img"])
def test_a_truncated_image(folder, name):
    """A truncated page map is reported; other images are left to criu."""
    (folder.path / "pages-1.img").write_bytes(bytes(8 * SIZE))
    (folder.path / "pagemap-1.img").write_bytes(pagemap(1, (3, 4, None), (5, 4, None)))
    data = (folder.path / name).read_bytes()
    told = 0
    for size in range(len(data)):
        (folder.path / name).write_bytes(data[:size])
        try:
            folder.check()
        except StepFailure as e:
            assert "pagemap-1.img is damaged: it ends within" in e.words
            told += 1
    assert told > 8 if name == "pagemap-1.img" else not told


# ---- criu's log


LOG = """(00.000001) Version: 4.1
(00.000002) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.000003) Error (criu/files.c:1): the \x1b[31mcause
(00.000004) Error (criu/files.c:2): what came of it
(00.000005) Error (criu/cr-dump.c:2111): Dumping FAILED.
(00.000006) Error (criu/cgroup.c:1998): cg: cgroupd: recv req error: No such file or directory
"""


def errors(folder, text):
    (folder.path / "dump.log").write_text(text)
    return criu_log.errors_of(folder.fd, "dump.log")


def test_errors_of_a_log(folder):
    assert criu_log.errors_of(folder.fd, "dump.log") is None
    assert errors(folder, LOG) == "the \\x1b[31mcause; what came of it"
    assert errors(folder, "\n".join(LOG.split("\n")[:3])) == "the \\x1b[31mcause"
    assert errors(folder, "nothing\n") is None
    assert errors(folder, "\n".join(LOG.split("\n")[:2])) is None
    assert errors(folder, "(00.1) Error (criu/cr-dump.c:2111): Dumping FAILED.\n") == "Dumping FAILED."
    assert len(errors(folder, "Error (x): " + "y" * 9999)) <= 401


def test_a_link_in_place_of_the_log(folder):
    (folder.path / "dump.log").symlink_to("/etc/passwd")
    assert criu_log.errors_of(folder.fd, "dump.log") is None


def test_explained(folder):
    (folder.path / "dump.log").write_text(LOG)
    told = criu_log.explain(StepFailure("criu-failed", "criu failed: type DUMP errno 0", "criu", "host"), folder.fd, "/logs", "dump.log")
    assert told.sentence() == "criu failed: type DUMP errno 0: the \\x1b[31mcause; what came of it (criu); log file: /logs/dump.log"
    other = StepFailure("other", "something else")
    assert criu_log.explain(other, folder.fd, "/logs", "dump.log").sentence() == "something else"


def test_swept(folder):
    """Only empty directories with criu's names that this log mentions are removed."""
    for name in (".criu.cgyard.abcDE1", ".criu.cgyard.full22", ".criu.cgyard.other3"):
        (folder.path / name).mkdir()
    (folder.path / ".criu.cgyard.full22/x").mkdir()
    (folder.path / "restore.log").write_text(
        "mkdir .criu.cgyard.abcDE1\nand .criu.cgyard.full22/x .criu.cgyard.toolong7 .criu.cgyard.../.."
    )
    criu_log.sweep(folder.fd, "restore.log")
    assert sorted(p.name for p in folder.path.glob(".criu*")) == [".criu.cgyard.full22", ".criu.cgyard.other3"]


# ---- options passed to criu


def run_with(annotations, in_force):
    return types.SimpleNamespace(annotations=annotations, plans={"meta": {"annotations": in_force}})


@pytest.mark.parametrize(
    ("given", "in_force", "file"),
    [
        ({}, {}, "/etc/criu/runc.conf"),
        ({"org.criu.config": ""}, {}, None),
        ({"org.criu.config": "/x"}, {}, "/etc/criu/runc.conf"),  # not allowed to name files
        ({"org.criu.config": "/x"}, {"org.criu.config": "/x"}, "/x"),
        ({"org.criu.config": ""}, {"org.criu.config": ""}, None),
    ],
)
def test_configuration_file(given, in_force, file):
    assert checkpoint._config_file(run_with(given, in_force)) == file


def test_pyruncs_own_configuration_file_comes_first(tmp_path, monkeypatch):
    own, runcs = tmp_path / "pyrunc.conf", tmp_path / "runc.conf"
    monkeypatch.setattr(checkpoint, "CONFIG_FILES", (str(own), str(runcs)))
    assert checkpoint._config_file(run_with({}, {})) == str(runcs)
    own.write_text("")
    assert checkpoint._config_file(run_with({}, {})) == str(own)


def test_mounts_that_came_with_an_rbind(tmp_path, monkeypatch):
    """The mount tree decides, not the paths: another mount under the same path does not belong to it, and a parent may have a higher id."""
    monkeypatch.setattr(criu_external.paths, "resolve", lambda root_fd, path: os.open("/", os.O_PATH))
    monkeypatch.setattr(criu_external.paths, "mount_id", lambda fd: 10)
    table = {
        1: (0, "/", "ext4"),
        10: (1, "/a", "ext4"),
        30: (10, "/a/b", "tmpfs"),
        20: (30, "/a/b/c", "tmpfs"),
        11: (1, "/a/d", "tmpfs"),
        12: (1, "/e", "tmpfs"),
    }
    names = {}
    criu_external._note(names, table, -1, "/linked", True)
    assert names == {"/a": "/linked", "/a/b": "/linked/b", "/a/b/c": "/linked/b/c"}
    names = {}
    criu_external._note(names, table, -1, "/linked", False)
    assert names == {"/a": "/linked"}


def test_options_of_cgroup2_are_put_back(monkeypatch):
    """Only if an option was lost, and then all of them."""
    states = [("/c", ["rw", "nsdelegate", "x"]), ("/c", ["rw", "nsdelegate", "x"]), ("/c", ["rw", "x"])]
    done = []
    monkeypatch.setattr(superblock, "_options", lambda: states.pop(0))
    monkeypatch.setattr(superblock, "_set", lambda *words: done.append(words))
    kept = superblock.Keeper()
    kept.put_back()
    assert done == []
    kept.put_back()
    assert done == [("/c", ["rw", "nsdelegate", "x"])]


def test_message_numbers():
    """criu_opts in images/rpc.proto: each number is used once, and belongs to the right option."""
    numbers = {name: number for name, (number, _kind) in criu.OPTS.items()}
    assert len(set(numbers.values())) == len(numbers)
    assert (numbers["images_dir_fd"], numbers["external"], numbers["lsm_mount_context"], numbers["network_lock"]) == (1, 37, 63, 64)
    wire = protowire.encode(criu.REQUEST, {"type": criu.DUMP, "opts": {"images_dir_fd": 5, "leave_running": True}})
    assert wire == bytes.fromhex("08 01 12 04 08 05 18 01")
