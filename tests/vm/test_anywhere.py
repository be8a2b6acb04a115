"""The short form of `make test-anywhere`: the static launcher boots alone in an initrd, with busybox and a bundle, on the kernel of the test
lab. (A release file is the same program without debugging symbols, and takes longer to build.) tools/anywhere/matrix.py has the other
kernels and processors."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import harness

for folder in ("tools", "tools/anywhere", "tools/vmlab"):
    sys.path.append(str(harness.ROOT / folder))
import boot  # noqa: E402

import build  # noqa: E402
import lab  # noqa: E402

BUSYBOX = pathlib.Path("/bin/busybox")
CHECKS = 16  # of tools/anywhere/guest.sh
BUILDING = 1200  # seconds that the lab's machine may take, if this is the first test that needs it

pytestmark = [pytest.mark.slow, pytest.mark.kernel]


@pytest.fixture(scope="module")
def kernel(static_launcher):
    """The kernel of the lab's machine, which is built if necessary."""
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not installed")
    if b"INTERP" in subprocess.run(["readelf", "-lW", static_launcher], stdout=subprocess.PIPE, check=True).stdout:
        pytest.skip("the compiled launcher is linked with the shared libpython here")
    try:
        build.build(lambda text: None)
    except lab.LabError as e:
        pytest.skip("no guest to test in: %s" % e)
    return lab.KERNEL


@pytest.mark.bound(BUILDING + boot.SECONDS + 60)
def test_the_launcher_alone(kernel, static_launcher):
    version, checks = boot.boot_kernel(static_launcher, kernel, BUSYBOX, os.uname().machine)
    assert version.endswith(os.uname().machine)
    assert [row for row in checks if row[1] != "ok"] == []
    assert len(checks) == CHECKS
