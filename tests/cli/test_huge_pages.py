"""The compiled launcher is in huge pages: in the file, in the page cache, and in memory."""

import mmap
import os
import re
import shutil
import subprocess

import pytest

import harness

HUGE = 2 << 20
CODE = re.compile(r"^ +LOAD +(0x\S+) +(0x\S+) +\S+ +(0x\S+) +\S+ +(R|R E|RW) +0x", re.M)
SECTION = re.compile(r"^ +\[ *\d+\] (\.text\.\w+) +PROGBITS +(\S+) (\S+) (\S+)", re.M)
STARTS = 5  # the kernel may have no huge page at the moment


def segments(program):
    """[(offset, address, size, flags)] of what is loaded; the last one is the snapshot's heap."""
    out = subprocess.run(["readelf", "-lW", program], capture_output=True, text=True, check=True).stdout
    return [(*(int(word, 16) for word in row[:3]), row[3]) for row in CODE.findall(out)]


def mapped(pid):
    """How much of files process `pid` has mapped in huge pages, in bytes."""
    with open("/proc/%s/smaps" % pid) as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith("FilePmdMapped:"))


@pytest.fixture(scope="module")
def launcher(static_launcher):
    if not harness.COLD_LAUNCHER.exists():
        pytest.skip("the compiled launcher has no snapshot here, or was built elsewhere")
    return static_launcher


def test_all_code_fills_huge_pages(launcher):
    """On aarch64 the constants follow in the same segment."""
    out = subprocess.run(["readelf", "-SW", launcher], capture_output=True, text=True, check=True).stdout
    sections = {row[0]: [int(word, 16) for word in row[1:]] for row in SECTION.findall(out)}
    address, offset, _ = sections[".text.python"]
    assert address and not address % HUGE and not offset % HUGE
    address, offset, size = sections[".text.filling"]
    assert not (address + size) % HUGE and not (offset + size) % HUGE


def test_the_snapshot_has_the_same_place_in_both(launcher):
    offset, address, size, flags = segments(launcher)[-1]
    assert flags == "RW" and size > HUGE
    assert offset % HUGE == address % HUGE


def test_what_runs_first_is_on_its_own(launcher):
    """Otherwise the kernel would read its neighbours in small pieces before the launcher can ask for huge ones."""
    out = subprocess.run(["readelf", "-hW", launcher], capture_output=True, text=True, check=True).stdout
    entry = int(re.search(r"Entry point address: +(0x\S+)", out)[1], 16)
    offset, _, size, flags = next(row for row in segments(launcher) if row[1] <= entry < row[1] + row[2])
    assert flags == "R E" and offset + size < 1 << 16


def huge(path, places):
    """Whether all these pieces of 2 MiB of a file are in huge pages."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        before = mapped("self")
        for place in places:
            view[place]
        return mapped("self") == before + HUGE * len(places)


def can_be_huge(folder):
    """Whether this file system keeps a file in huge pages that was written in huge pieces."""
    path = folder / "control"
    path.write_bytes(b"x" * (4 * HUGE))  # not zeros: pages of the source that do not exist yet would divide the write
    return huge(path, range(0, 4 * HUGE, HUGE))


def out_of_page_cache(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.kernel
@pytest.mark.parametrize("words", [("--version",), ("create",)], ids=["starts once", "starts twice"])
def test_it_is_read_and_mapped_in_huge_pages(launcher, waiting, scratch, token, cgroup, tmp_path, words):
    if not can_be_huge(tmp_path):
        pytest.skip("this kernel does not keep files of this file system in huge pages")
    program = tmp_path / launcher.name
    with open(launcher, "rb") as source, open(program, "wb", buffering=0) as target:
        shutil.copyfileobj(source, target, 16 << 10)
    program.chmod(0o755)
    pieces = [at for offset, _, size, _ in segments(program) for at in range(-offset // HUGE * -HUGE, offset + size - HUGE + 1, HUGE)]
    runtime = harness.Runtime(program, scratch / "huge", token + "h", cgroup)
    id = runtime.new_id()
    try:
        assert not huge(program, pieces), "it was written in small pieces"
        for _ in range(STARTS):
            out_of_page_cache(program)
            runtime.ok(*words, *(("--bundle", waiting, id) if words == ("create",) else ()))
            if words == ("create",):
                of_init = mapped(runtime.state(id)["pid"])
                runtime.ok("delete", "--force", id)
                if of_init < HUGE:
                    continue
            if huge(program, pieces):
                return
    finally:
        runtime.clean()
    pytest.fail("after a start from disk it is still in small pages")
