"""checkpoint and restore with systemd: both drivers, a host with shared mounts, and options that only apply to cgroup2."""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

import guest
import harness

sys.path.insert(0, str(harness.ROOT / "tests/kernel"))
from dumping import CRIU, Counter  # noqa: E402

pytestmark = pytest.mark.skipif(not CRIU, reason="the guest has no criu")
LIMITS = {"/linux/resources": {"memory": {"limit": 64 << 20}, "pids": {"limit": 9}}}


@pytest.fixture
def counter(runtime, make_bundle, driver, no_leaks):
    """A counting container with this driver; every command gets the option of the driver, although only the first one requires it."""

    class Driven(Counter):
        def run(self, *options):  # type: ignore[override]
            return super().run(*options, globals=driver.globals)

        def restore(self, *options, **kw):
            return super().restore(*options, globals=driver.globals, **kw)

    yield lambda changes=None: Driven(runtime, make_bundle, {"/linux/cgroupsPath": driver.path(), **(changes or {})})
    runtime.clean()


def superblock():
    return next(
        line.split(" - cgroup2 ")[1] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line
    )


@pytest.mark.vm_short("systemd")
def test_there_and_back(counter):
    """It is restored in a cgroup or scope of the same name, with its limits; the delegation options of cgroup2 are still set."""
    before = superblock()
    made = counter(LIMITS).run()
    assert made.step() == "1"
    group = guest.cgroup_of(made.pid())
    made.dumped()
    assert superblock() == before and not group.exists()
    made.restored()
    assert superblock() == before and guest.cgroup_of(made.pid()) == group
    assert (guest.read(group / "memory.max"), guest.read(group / "pids.max")) == (str(64 << 20), "9")
    assert made.step() == "2"
    made.runtime.ok("pause", made.id)
    made.runtime.ok("resume", made.id)
    made.runtime.delete(made.id, "--force")
    assert not group.exists()


def test_mounts_of_the_host_still_arrive(counter):
    """A slave of a shared mount: what the host mounts below its source appears in the restored container, but not the reverse."""
    made = counter()
    outside = pathlib.Path(tempfile.mkdtemp(dir="/srv"))
    # on another mount than the bundle, because that is separated from the host
    subprocess.run(["mount", "-t", "tmpfs", "--make-shared", "tmpfs", outside], check=True)
    (outside / "sub").mkdir()
    made.bundle.patch({"/mounts/-": {"destination": "/all", "type": "bind", "source": str(outside), "options": ["rbind", "rslave"]}})
    made.run().again()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", outside / "sub"], check=True)
    try:
        (outside / "sub/x").write_text("new\n")
        assert made.inside("/bin/cat", "/all/sub/x") == "new\n"
    finally:
        subprocess.run(["umount", outside / "sub", outside], check=True)
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")
    shutil.rmtree(outside)


def test_pre_dump(counter):
    """The kernel of the guest tracks changes of memory: two rounds ahead of time, then the rest."""
    if subprocess.run([CRIU, "check", "--feature", "mem_dirty_track"], capture_output=True).returncode:
        pytest.skip("the kernel of the guest does not track changes of memory")
    made = counter().run()
    for number, words in enumerate((["--pre-dump"], ["--pre-dump", "--parent-path", "../1"], ["--parent-path", "../2"]), 1):
        made.images = made.bundle.path / str(number)
        made.dumped(*words)
        if number < 3:
            assert made.step() == str(number)
    made.restored()
    assert made.step() == "3"
    made.runtime.delete(made.id, "--force")
