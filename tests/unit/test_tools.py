"""tools/setup.sh and .ci/run, with fakes for the programs that they call, and the checkout."""

import os
import shutil
import subprocess

import pytest

import harness


def fake(directory, name, script):
    path = directory / name
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)


def call(argv, path, **env):
    return subprocess.run(argv, capture_output=True, text=True, env={"PATH": "%s:/usr/bin:/bin" % path, **env})


# ---- setup.sh


def packages(kinds):
    rows = [line.split()[:2] for line in (harness.ROOT / "tools/apt-packages.txt").read_text().splitlines() if line and line[0] != "#"]
    return [package for kind, package in rows if kind in kinds]


# apt-cache madison: a row for each package in the lists
FAKE_LISTS = """shift; for p in "$@"; do case $p in %s) ;; *) echo "$p | 1 | http://a/debian trixie/main amd64 Packages" ;; esac; done"""


def test_package_list():
    assert len(set(packages(("demo", "test")))) == len(packages(("demo", "test"))) > 20
    assert "busybox-static" in packages(("demo",)) and "strace" in packages(("test",))


@pytest.mark.parametrize("wanted", ["demo", "test"])
def test_setup_with_everything_there(tmp_path, wanted):
    fake(tmp_path, "dpkg-query", "echo installed")
    fake(tmp_path, "apt-get", "exit 9")
    done = call(["sh", harness.ROOT / "tools/setup.sh", wanted], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "packages: all there for %s\n" % wanted, "")


@pytest.mark.parametrize("wanted, kinds", [("demo", ("demo",)), ("test", ("demo", "test")), ("long", ("demo", "long"))])
def test_setup_installs_what_is_missing(tmp_path, wanted, kinds):
    """gcc is there, the rest is not: one apt-get update, one install with the list, one line on standard output."""
    fake(tmp_path, "dpkg-query", 'case "$*" in *" gcc") echo installed ;; *) exit 1 ;; esac')
    fake(tmp_path, "id", "echo 0")
    fake(tmp_path, "apt-get", 'echo "$*" >> %s/log' % tmp_path)
    fake(tmp_path, "apt-cache", FAKE_LISTS % "none")
    done = call(["sh", harness.ROOT / "tools/setup.sh", wanted], tmp_path)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1, done
    update, install = (tmp_path / "log").read_text().splitlines()
    assert update == "update -qq"
    assert [w for w in install.split() if not w.startswith("-")] == ["install", *[p for p in packages(kinds) if p != "gcc"]]


def test_setup_where_the_suite_lacks_packages(tmp_path):
    """What only tests need is left out and named. What the runtime needs is not left out: apt-get says that it does not exist."""
    fake(tmp_path, "dpkg-query", "exit 1")
    fake(tmp_path, "id", "echo 0")
    fake(tmp_path, "apt-get", 'echo "$*" >> %s/log' % tmp_path)
    fake(tmp_path, "apt-cache", FAKE_LISTS % "gcc | docker-buildx | docker-cli")
    done = call(["sh", harness.ROOT / "tools/setup.sh", "test"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    wanted = [package for package in packages(("demo", "test")) if package not in ("docker-buildx", "docker-cli")]
    last = "packages: not in this version of Debian: docker-cli docker-buildx; tests that need them are skipped"
    assert done.stdout.splitlines() == ["packages: apt-get install " + " ".join(wanted), last]
    assert [w for w in (tmp_path / "log").read_text().splitlines()[1].split() if not w.startswith("-")] == ["install", *wanted]


def test_setup_with_only_packages_that_the_suite_lacks(tmp_path):
    fake(tmp_path, "dpkg-query", 'case "$*" in *" docker-buildx") exit 1 ;; *) echo installed ;; esac')
    fake(tmp_path, "id", "echo 0")
    fake(tmp_path, "apt-get", 'case "$*" in *install*) exit 9 ;; esac')
    fake(tmp_path, "apt-cache", FAKE_LISTS % "docker-buildx")
    done = call(["sh", harness.ROOT / "tools/setup.sh", "test"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "Debian: docker-buildx;" in done.stdout and "install" not in done.stdout


def test_setup_with_empty_lists(tmp_path):
    """Nothing is left out if apt knows no packages at all."""
    fake(tmp_path, "dpkg-query", "exit 1")
    fake(tmp_path, "id", "echo 0")
    fake(tmp_path, "apt-get", 'case "$*" in *install*) echo "E: Unable to locate package" >&2; exit 100 ;; esac')
    fake(tmp_path, "apt-cache", "exit 0")
    done = call(["sh", harness.ROOT / "tools/setup.sh", "test"], tmp_path)
    assert done.returncode == 1 and "Unable to locate" in done.stderr


def test_setup_without_root(tmp_path):
    fake(tmp_path, "dpkg-query", "exit 1")
    fake(tmp_path, "id", "echo 1000")
    fake(tmp_path, "apt-get", "exit 9")
    done = call(["sh", harness.ROOT / "tools/setup.sh", "demo"], tmp_path)
    assert done.returncode == 1 and "as root" in done.stderr


def test_setup_that_fails(tmp_path):
    """The output of apt is shown, and the exit status is not 0."""
    fake(tmp_path, "dpkg-query", "exit 1")
    fake(tmp_path, "id", "echo 0")
    fake(tmp_path, "apt-get", "echo no network >&2; exit 100")
    done = call(["sh", harness.ROOT / "tools/setup.sh", "demo"], tmp_path)
    assert done.returncode == 1 and "no network" in done.stderr


# ---- .ci/run


@pytest.mark.parametrize(
    "closing, status, wanted",
    [
        ("===== 5 passed, 1 skipped in 1.23s =====", 0, 0),
        ("===== 1 failed, 4 passed in 61.00s (0:01:01) =====", 2, 2),
        ("===== 4 passed, 1 error in 1.23s =====", 2, 2),
        ("===== no tests ran in 0.01s =====", 0, 1),
        ("", 0, 1),
        ("", 2, 2),
    ],
)
def test_ci_ends_as_pytest_did(tmp_path, closing, status, wanted):
    """The last line is the last one of pytest, anything but a good run is a failure, and CI is set."""
    fake(tmp_path, "make", "echo CI=$CI $*; echo '%s'; echo 'make: something after it' >&2; exit %d" % (closing, status))
    done = call([harness.ROOT / ".ci/run"], tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0] == "CI=1 test"
    assert done.returncode == wanted
    assert lines[-1] == (closing or "no closing line of pytest: the tests did not run")


# ---- the checkout


def test_scripts_with_an_interpreter_are_executable():
    """README runs them by their path. The probe's script is passed to containers, which run it with their own shell."""
    if not shutil.which("git") or not (harness.ROOT / ".git").exists():
        pytest.skip("this tree is not a clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=harness.ROOT, capture_output=True, text=True, check=True)
    tracked = [name for name in listed.stdout.split("\0") if name and (harness.ROOT / name).is_file()]
    scripts = [name for name in tracked if (harness.ROOT / name).read_bytes()[:2] == b"#!"]
    assert "bundles/make_rootfs.py" in scripts
    lame = [name for name in scripts if not os.access(harness.ROOT / name, os.X_OK) and not name.endswith("probe/probe.sh")]
    assert lame == []
