"""make release: what lies in dist/ afterwards, and that a second build elsewhere, by somebody else, has the same bits."""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile

import pytest

import harness

ARCH = os.uname().machine
NOBODY = 65534
MINUTES = 10 * 60

pytestmark = [pytest.mark.slow, pytest.mark.kernel, pytest.mark.bound(2 * MINUTES)]


def release(tree, out, *words, **how):
    argv = ["/usr/bin/python3", "-B", tree / "tools/release.py", "--arch", ARCH, "--out", out, *words]
    env = {"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": "1700000000", **how.pop("env", {})}
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=MINUTES, **how)


@pytest.fixture(scope="module")
def dist(scratch):
    """The directory that a release of this machine's processor was made in."""
    out = scratch / "dist"
    done = release(harness.ROOT, out)
    if done.returncode and ("is missing" in done.stderr or "not installed" in done.stderr or "no licence text" in done.stderr):
        pytest.skip("no release can be built here: %s" % done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return out


def program(dist):
    (found,) = [path for path in dist.iterdir() if path.name.endswith("-linux-" + ARCH)]
    return found


def test_sums(dist):
    rows = dict(reversed(line.split("  ")) for line in (dist / "SHA256SUMS").read_text().splitlines())
    assert rows == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in dist.iterdir() if path.name != "SHA256SUMS"}


def test_it_is_static_and_names_its_parts(dist):
    kind = subprocess.run(["readelf", "-lW", program(dist)], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in kind and "Dynamic" not in kind
    listed = json.loads((dist / (program(dist).name + ".spdx.json")).read_text())
    parts = {row["name"]: row for row in listed["packages"]}
    assert {"pyrunc", "CPython", "libseccomp", "GNU C Library"} <= set(parts)
    assert parts["pyrunc"]["checksums"][0]["checksumValue"] == hashlib.sha256(program(dist).read_bytes()).hexdigest()
    text = subprocess.run([program(dist), "version", "--licenses"], capture_output=True, text=True, check=True).stdout
    for name, part in parts.items():
        assert name in text and part["licenseDeclared"] in text.replace("Apache License 2.0", "Apache-2.0"), name
    assert "PYTHON SOFTWARE FOUNDATION LICENSE" in text and "GNU LESSER GENERAL PUBLIC LICENSE" in text


def test_tarball_installs_and_goes(dist, scratch):
    with tarfile.open(dist / (program(dist).name + ".tar.gz")) as tar:
        assert {member.mtime for member in tar} == {1700000000} and {member.uname for member in tar} == {"root"}
        tar.extractall(scratch / "unpacked", filter="data")
    script, prefix = scratch / "unpacked" / program(dist).name / "install.sh", scratch / "prefix"
    env = {"PATH": "/usr/bin:/bin", "PREFIX": str(prefix)}
    subprocess.run([script], env=env, check=True, capture_output=True)
    done = subprocess.run([prefix / "bin/pyrunc", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pyrunc version ") and (prefix / "share/man/man8/pyrunc.8").is_file()
    subprocess.run([script, "--uninstall"], env=env, check=True)
    assert [path for path in prefix.rglob("*") if path.is_file()] == []


def test_a_wheel_and_an_sdist(dist, scratch):
    """pip installs the compiled launcher, the Python API and the pages; the same bytes twice."""
    before = None
    for _ in range(2):
        argv = ["/usr/bin/python3", "-B", harness.ROOT / "tools/wheels.py", dist]
        done = subprocess.run(argv, env={"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": "1700000000"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (wheel,) = dist.glob("*.whl")
        sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, *dist.glob("pyrunc-*[0-9].tar.gz"))}
        assert before in (None, sums)
        before = sums
        assert "manylinux_2_17_" + ARCH in wheel.name and "musllinux_1_1_" + ARCH in wheel.name
    prefix = scratch / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", prefix], check=True)
    subprocess.run([prefix / "bin/pip", "install", "--quiet", "--no-index", "--no-deps", wheel], check=True)
    assert (prefix / "bin/pyrunc").read_bytes() == program(dist).read_bytes()
    asked = [prefix / "bin/python", "-c", "import pyrunc; print(pyrunc.Runtime().path)"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "%s/bin/pyrunc\n" % prefix
    assert (prefix / "share/man/man8/pyrunc.8").is_file()
    for path in (wheel, *dist.glob("pyrunc-*[0-9].tar.gz")):
        path.unlink()


def test_a_second_build_has_the_same_bits(dist, scratch):
    """Another directory, another user, another locale and time zone."""
    tree = scratch / "elsewhere/with a longer name".replace(" ", "-")
    tree.mkdir(parents=True)
    for name in ("runtime", "tools", "bundles", "specs"):
        ignored = shutil.ignore_patterns("__pycache__", "pyrunc-static", "*.so", "rootfs")
        shutil.copytree(harness.ROOT / name, tree / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "LICENSE", "README.md", "SECURITY.md", "CHANGELOG.md"):
        shutil.copy(harness.ROOT / name, tree / name)
    subprocess.run(["chown", "-R", str(NOBODY), tree], check=True)
    for folder in (scratch, *tree.parents):
        if folder.is_relative_to(scratch):
            folder.chmod(0o755)
    env = {"LC_ALL": "tr_TR.UTF-8", "TZ": "Asia/Tokyo", "HOME": "/nonexistent", "USER": "nobody"}
    done = release(tree, tree / "dist", env=env, cwd="/", user=NOBODY, group=NOBODY, extra_groups=[], umask=0o077)
    assert done.returncode == 0, done.stderr
    assert (tree / "dist/SHA256SUMS").read_text() == (dist / "SHA256SUMS").read_text()
