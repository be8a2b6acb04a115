"""Parts of the test lab: its package list, and that pytest skips tests without a guest."""

import os
import shutil
import subprocess
import sys

import pytest

import harness

sys.path.insert(0, str(harness.ROOT / "tools/vmlab"))
import build  # noqa: E402
import lab  # noqa: E402


def test_the_package_list():
    rows = [line.split(None, 2) for line in build.PACKAGES.read_text().splitlines() if line and line[0] != "#"]
    assert {row[0] for row in rows} == {"demo", "test", "long", "vm", "guest", "kernel", "release", "anywhere"} and all(
        len(row) == 3 for row in rows
    )
    for kind in ("vm", "guest"):
        names = build.packages(kind)
        assert names and len(names) == len(set(names))
    assert build.packages("kernel") == ["linux-image-cloud-amd64"]


def test_packages_that_debian_does_not_have_are_left_out(monkeypatch):
    lists = {"python3", "systemd"}
    monkeypatch.setattr(
        lab, "done", lambda what, argv: "".join("%s | 1 | http://a/debian b/main\n" % name for name in argv[2:] if name in lists).encode()
    )
    assert build.known(["docker-cli", "systemd"]) == ["systemd"]
    lists.clear()  # the lists were never fetched
    assert build.known(["docker-cli", "systemd"]) == ["docker-cli", "systemd"]


def test_units_are_named_once():
    lines = [line for line in (lab.HERE / "units-off").read_text().splitlines() if line[:1] != "#"]
    assert len(lines) == len(set(lines)) and all("." in line or line.startswith(("system-", "user-")) for line in lines)


def test_an_image_that_is_not_a_kernel():
    if shutil.which("zstd") is None:
        pytest.skip("this machine has no zstd")
    assert build.elf_of(bytes(4096)) is None


def test_the_copy_is_readable_for_all(tmp_path):
    """The umask of root must not make the tree unreadable for the user of the guest."""
    if not os.path.exists("/usr/sbin/mke2fs"):
        pytest.skip("not installed: e2fsprogs")
    (tmp_path / "tree/.git").mkdir(parents=True)
    (tmp_path / "tree/file").write_text("text")
    (tmp_path / "tree/file").chmod(0o600)
    (tmp_path / "tmp").mkdir()
    image = lab.share_image(str(tmp_path / "tmp"), tmp_path / "tree")
    listing = subprocess.run(["/usr/sbin/debugfs", "-R", "ls -l /", image], capture_output=True, text=True, check=True).stdout
    rows = {line.split()[-1]: line.split()[1] for line in listing.splitlines() if len(line.split()) > 5}
    assert rows["file"] == "100644" and ".git" not in rows


@pytest.mark.slow
def test_without_a_guest_the_tests_are_skipped(tmp_path):
    (tmp_path / "file").touch()
    env = {**os.environ, "PYRUNC_VMLAB": str(tmp_path / "file/none")}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/vm/inside/test_apparmor.py"]
    done = subprocess.run(argv, env=env, cwd=harness.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "no guest to test in: " in done.stdout and "passed" not in done.stdout.splitlines()[-1], done
