"""make release: the contents of dist/, and a second build by another user in another directory gives identical bits."""

import email
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

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
    """The directory in which a release for this machine's processor was built."""
    out = scratch / "dist"
    done = release(harness.ROOT, out)
    cannot = ("is missing", "not installed", "no licence text", "which a static executable can't load")
    if done.returncode and any(words in done.stderr for words in cannot):
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


def test_tarball_installs_and_uninstalls(dist, scratch):
    with tarfile.open(dist / (program(dist).name + ".tar.gz")) as tar:
        assert {member.mtime for member in tar} == {1700000000} and {member.uname for member in tar} == {"root"}
        tar.extractall(scratch / "unpacked", filter="data")
    (folder,) = (scratch / "unpacked").iterdir()
    assert not (dist / folder.name).exists(), "it can be unpacked where all was downloaded"
    script, prefix = folder / "install.sh", scratch / "prefix"
    env = {"PATH": "/usr/bin:/bin", "PREFIX": str(prefix)}
    subprocess.run([script], env=env, check=True, capture_output=True)
    done = subprocess.run([prefix / "bin/pyrunc", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pyrunc version ") and (prefix / "share/man/man8/pyrunc.8").is_file()
    subprocess.run([script, "--uninstall"], env=env, check=True)
    assert [path for path in prefix.rglob("*") if path.is_file()] == []


# As on Alpine or a machine without packages: only busybox.
INSTALLED_BY_BUSYBOX = """\
set -e
cd /root
grep 'tar.gz$' SHA256SUMS | sha256sum -c
tar xzf pyrunc-*.tar.gz
cd pyrunc-*/
./install.sh
export PATH=/usr/local/bin:$PATH
pyrunc --version
pyrunc install --docker
pyrunc install --docker --uninstall
./install.sh --uninstall
find /usr/local -type f
"""


def test_the_tarball_in_a_root_of_busybox(dist, scratch):
    root = scratch / "busybox-root"
    for name in ("bin", "proc", "dev", "root", "tmp", "etc"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin")
    subprocess.run(["chroot", root, "/bin/busybox", "--install", "-s", "/bin"], check=True)
    for path in (dist / (program(dist).name + ".tar.gz"), dist / "SHA256SUMS"):
        shutil.copy(path, root / "root")
    enter = 'for dir in proc dev; do mount --rbind "/$dir" "$1/$dir"; done; exec chroot "$1" /bin/busybox env -i PATH=/bin sh -c "$2"'
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", enter, "sh", root, INSTALLED_BY_BUSYBOX]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=harness.WATCHDOG)
    assert done.returncode == 0 and done.stderr == "", done
    assert "installed /usr/local/bin/pyrunc; next: pyrunc install" in done.stdout and "pyrunc version " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("/etc/docker/daemon.json: removed"), "nothing is left below /usr/local"
    shutil.rmtree(root)


# --- recipes for other distributions

LAID_OUT = {
    "usr/bin/pyrunc",
    "usr/share/man/man8/pyrunc.8",
    "usr/share/bash-completion/completions/pyrunc",
    "usr/share/licenses/pyrunc/LICENSE",
}
ABUILD = """\
set -e
CARCH=$1 srcdir=$2/src pkgdir=$2/pkg
mkdir -p "$srcdir" "$pkgdir"
. ./APKBUILD
echo "$sha512sums" | sha512sum -c
tar xzf "$source" -C "$srcdir"
cd "$builddir"
check
package
"""


@pytest.fixture(scope="module")
def recipes(dist, scratch):
    """A directory with the recipes and the tarball."""
    folder = scratch / "recipes"
    shutil.copytree(dist, folder)
    argv = ["/usr/bin/python3", "-B", harness.ROOT / "tools/packages/recipes.py", folder, "--url", "https://example.org/pyrunc"]
    env = {"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": "1700000000"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=MINUTES)
    assert done.returncode == 0 or "rpmbuild is not installed" in done.stderr, done.stderr
    for name in ("pyrunc.spec", "APKBUILD", "PKGBUILD"):
        text = (folder / name).read_text()
        assert "@" not in text and "LGPL-2.1-only" in text, name
    return folder


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_shell_of_the_recipes(recipes):
    for name, shell in (("APKBUILD", "/bin/busybox"), ("PKGBUILD", "/bin/bash"), (None, "/bin/busybox")):
        path = recipes / name if name else harness.ROOT / "tools/packages/install.sh"
        argv = [shell, "sh", "-n", path] if "busybox" in shell else [shell, "-n", path]
        assert subprocess.run(argv, capture_output=True, text=True).stderr == ""
        if shutil.which("shellcheck"):
            done = subprocess.run(["shellcheck", path], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout


def test_the_recipe_of_alpine(recipes, scratch):
    """The steps of abuild, in the shell of busybox, because Debian does not have abuild."""
    work = scratch / "abuild"
    argv = ["/bin/busybox", "sh", "-c", ABUILD, "sh", ARCH, work]
    done = subprocess.run(argv, cwd=recipes, capture_output=True, text=True, timeout=harness.WATCHDOG)
    assert done.returncode == 0, done
    assert files_below(work / "pkg") >= LAID_OUT
    other = scratch / "other"
    shutil.copytree(recipes, other)
    with open(other / (program(other).name + ".tar.gz"), "ab") as file:
        file.write(b"x")
    assert subprocess.run(argv, cwd=other, capture_output=True).returncode != 0, "a different tarball is refused"


def test_the_recipe_of_arch(recipes, scratch):
    if not all(shutil.which(name) for name in ("makepkg", "pacman", "bsdtar", "fakeroot")):
        pytest.skip(
            "this machine has no makepkg, pacman, bsdtar or fakeroot (Debian: makepkg, pacman-package-manager, libarchive-tools, fakeroot)"
        )
    work = scratch / "makepkg"
    work.mkdir()
    for path in (recipes / "PKGBUILD", *recipes.glob("*linux*.tar.gz")):
        shutil.copy(path, work)
    for path in (work, *work.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    harness.open_to_all(work)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(work)}
    argv = [
        "setpriv",
        "--reuid=%d" % NOBODY,
        "--regid=%d" % NOBODY,
        "--clear-groups",
        "makepkg",
        "--nodeps",
    ]  # makepkg refuses to run as root
    done = subprocess.run(argv, cwd=work, env=env, capture_output=True, text=True, timeout=MINUTES, start_new_session=True)
    made = list(work.glob("*.pkg.tar*"))
    assert done.returncode == 0 and len(made) == 1, done
    listed = subprocess.run(["bsdtar", "tf", made[0]], capture_output=True, text=True, check=True).stdout.split()
    assert {name.removesuffix(".gz") for name in listed} >= LAID_OUT, "makepkg compresses manual pages"
    pacman_installs(made[0], recipes, scratch / "arch")


def pacman_installs(package, recipes, root):
    """Into a root where nothing else is installed; upgraded by the same version; removed, it leaves nothing."""
    (root / "var/lib/pacman").mkdir(parents=True)
    config = root / "pacman.conf"
    config.write_text("[options]\nArchitecture = auto\nSigLevel = Never\nLocalFileSigLevel = Never\n")
    pacman = ["pacman", "--config", config, "--root", root, "--dbpath", root / "var/lib/pacman", "--cachedir", root, "--noconfirm"]
    pacman += ["--logfile", root / "log", "--hookdir", root]
    for _ in range(2):
        done = subprocess.run([*pacman, "--upgrade", package], capture_output=True, text=True)
        assert done.returncode == 0, done
        assert (root / "usr/bin/pyrunc").read_bytes() == program(recipes).read_bytes()
    asked = subprocess.run([*pacman, "--query", "--check", "--check", "pyrunc"], capture_output=True, text=True)
    assert asked.returncode == 0 and "0 altered files" in asked.stdout, asked
    subprocess.run([*pacman, "--remove", "pyrunc"], check=True, capture_output=True)
    assert not [name for name in files_below(root / "usr") if "pyrunc" in name]


def test_the_rpm(recipes, scratch):
    """Installed into a separate root and removed again, it leaves nothing; packaging does not change the executable."""
    found = list(recipes.glob("*.rpm"))
    if not found:
        pytest.skip("this machine has no rpmbuild (Debian: rpm)")
    root = scratch / "rpm"
    rpm = ["rpm", "--root", root, "--nodeps", "--noscripts"]
    subprocess.run([*rpm, "--ignoreos", "--ignorearch", "--install", found[0]], check=True, capture_output=True)
    assert (root / "usr/bin/pyrunc").read_bytes() == program(recipes).read_bytes()
    assert files_below(root) >= {"usr/bin/pyrunc", "usr/share/man/man8/pyrunc.8", "usr/share/bash-completion/completions/pyrunc"}
    subprocess.run([*rpm, "--erase", "pyrunc"], check=True, capture_output=True)
    assert not [name for name in files_below(root / "usr") if "pyrunc" in name]
    asked = ["rpm", "-qp", "--qf", "%{VERSION} %{ARCH}", found[0]]
    assert subprocess.run(asked, capture_output=True, text=True).stdout.split()[1] == ARCH


def wheel_is_what_its_name_says(wheel, pip, scratch):
    """auditwheel finds nothing that an older C library lacks; pip accepts it for each C library; its metadata is valid and complete."""
    if importlib.util.find_spec("auditwheel"):
        done = subprocess.run([sys.executable, "-m", "auditwheel", "show", wheel], capture_output=True, text=True)
        assert "requires no external shared libraries" in done.stdout and "references no external versioned symbols" in done.stdout, done
    for platform in ("manylinux_2_17_", "manylinux2014_", "musllinux_1_1_"):
        argv = [pip, "download", "--no-index", "--no-deps", "--only-binary=:all:", "--dest", scratch / platform]
        argv += ["--find-links", wheel.parent]
        done = subprocess.run([*argv, "--platform", platform + ARCH, "pyrunc"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    refused = subprocess.run([*argv, "--platform", "musllinux_1_1_s390x", "pyrunc"], capture_output=True, text=True)
    assert refused.returncode == 1 and "No matching distribution" in refused.stderr
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(name)
    script = "import sys; from pip._vendor.packaging.metadata import Metadata as M; M.from_email(sys.stdin.buffer.read(), validate=True)"
    subprocess.run([pip.with_name("python"), "-c", script], input=text, check=True)
    about = email.message_from_bytes(text)
    assert about["License-Expression"] == "Apache-2.0" and about["Requires-Python"] == ">=3.11" and about["Project-URL"]
    assert text.endswith(b"\n\n" + (harness.ROOT / "README.md").read_bytes()) and "Typing :: Typed" in about.get_all("Classifier")


def test_a_wheel_and_an_sdist(dist, scratch):
    """pip installs the compiled launcher, the Python API and the manual pages; two builds have the same bytes."""
    before = None
    for _ in range(2):
        argv = ["/usr/bin/python3", "-B", harness.ROOT / "tools/wheels.py", dist]
        done = subprocess.run(argv, env={"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": "1700000000"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (wheel,) = dist.glob("*.whl")
        (sdist,) = [path for path in dist.glob("*.tar.gz") if "-linux-" not in path.name]
        sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, sdist)}
        assert before in (None, sums)
        before = sums
        assert "manylinux_2_17_" + ARCH in wheel.name and "musllinux_1_1_" + ARCH in wheel.name
    prefix = scratch / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", prefix], check=True)
    wheel_is_what_its_name_says(wheel, prefix / "bin/pip", scratch)
    subprocess.run([prefix / "bin/pip", "install", "--quiet", "--no-index", "--no-deps", wheel], check=True)
    assert (prefix / "bin/pyrunc").read_bytes() == program(dist).read_bytes()
    asked = [prefix / "bin/python", "-c", "import pyrunc; print(pyrunc.Runtime().path)"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "%s/bin/pyrunc\n" % prefix
    assert (prefix / "share/man/man8/pyrunc.8").is_file()
    wheel.unlink()
    sdist.unlink()


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
