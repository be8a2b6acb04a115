"""make deb and make install: the installed files run a container, and nothing is left after removal.

dpkg installs the Debian package into the root of this machine, in a private mount namespace in which /usr, /etc and /var are overlays on the
real directories and /run is empty: whatever is in the upper layers at the end was left behind.
"""

import os
import shutil
import subprocess

import pytest

import harness

SCRIPT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$WORK"
exec 9< "${STEPS%/*}"
for dir in usr etc var; do
    mkdir -p "$WORK/$dir.upper" "$WORK/$dir.work"
    mount -t overlay -o "lowerdir=/$dir,upperdir=$WORK/$dir.upper,workdir=$WORK/$dir.work" overlay "/$dir"
done
mount -t tmpfs -o mode=755 tmpfs /run
case $WORK in /usr/* | /etc/* | /var/* | /run/*) # TMPDIR is below one of these
    mkdir -p "${STEPS%/*}"
    mount --no-mtab --no-canonicalize --rbind /proc/self/fd/9 "${STEPS%/*}" ;;
esac
exec 9<&-
for dir in usr etc var; do mkdir -p "$WORK/kept/$dir"; done
. "$STEPS"
"""
LEFT = r"""
cd "$WORK"
for dir in usr etc var; do find "$dir.upper" ! -type d; done
place=${WORK#/run/}  # TMPDIR may be below /run
place=${place%%/*}
find /run -mindepth 1 ! -path "/run/$place" ! -path "/run/$place/*"
"""
# The package database and its log belong to dpkg; a trigger of man-db updates its index.
OWN = ("var.upper/lib/dpkg/", "var.upper/log/", "var.upper/cache/", "var.upper/lib/systemd/")

pytestmark = pytest.mark.kernel


@pytest.fixture
def machine(scratch):
    """machine(steps, **env) → the output of a shell script on this machine; its changes are discarded."""

    def call(steps, **env):
        work = scratch / "machine"
        work.mkdir(exist_ok=True)
        file = scratch / "steps.sh"
        file.write_text(steps)
        words = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "WORK": str(work), "STEPS": str(file), "HOME": "/root", **env}
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SCRIPT]
        done = subprocess.run(argv, env=words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=harness.WATCHDOG * 2)
        work.rmdir()
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


def build():
    """`make deb`: the path of the package. Fast compression takes two seconds instead of nine."""
    env = {**os.environ, "DPKG_DEB_COMPRESSOR_LEVEL": "0"}
    done = subprocess.run(["make", "--silent", "deb"], cwd=harness.ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return harness.ROOT / done.stdout.split("deb: ")[1].split()[0]


@pytest.fixture(scope="module")
def deb(scratch):
    """The package, built as `make deb` does it."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("not installed: dpkg-deb")
    path = scratch / "pyrunc.deb"
    shutil.copy(build(), path)
    yield str(path)
    path.unlink()


def field(deb, name):
    return subprocess.run(["dpkg-deb", "--field", deb, name], check=True, capture_output=True, text=True).stdout.strip()


def installed(*packages):
    answers = [
        subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", p], capture_output=True, text=True).stdout for p in packages
    ]
    return all(answer == "installed" for answer in answers)


def test_package_follows_debians_rules(deb):
    assert field(deb, "Package") == "pyrunc" and "python3 (>= 3.11)" in field(deb, "Depends")
    listing = subprocess.run(["dpkg-deb", "--contents", deb], check=True, capture_output=True, text=True).stdout.splitlines()
    names = {line.split()[5]: line.split()[:2] for line in listing}
    assert {owner for _mode, owner in names.values()} == {"root/root"}
    assert names["./usr/lib/pyrunc/bin/pyrunc"][0] == "-rwxr-xr-x" and "./usr/share/doc/pyrunc/copyright" in names
    assert not [n for n in names if n.startswith(("./etc/", "./run/", "./usr/local/")) or "__pycache__" in n]
    assert [mode for mode, _owner in names.values() if mode[0] != "l" and ("s" in mode or mode[8] == "w")] == []


def test_package_is_reproducible(deb):
    with open(deb, "rb") as one, open(build(), "rb") as other:
        assert one.read() == other.read()


def test_package_installs_runs_and_is_removed(deb, machine, make_bundle):
    """It uses libraries of Debian: the container has a seccomp filter, which the helper process compiles. It is not registered with any engine."""
    needs = [word.split()[0] for word in field(deb, "Depends").split(", ")]
    if not installed(*needs):
        pytest.skip("not installed: one of %s" % ", ".join(needs))
    filtered = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]}
    bundle = make_bundle({"/linux/seccomp": filtered}, args=["/bin/sh", "-c", "echo inside; mkdir /tmp/x 2>&1; true"])
    steps = r"""
        dpkg --install "$DEB" >"$WORK/log" 2>&1 || { cat "$WORK/log"; exit 1; }
        echo "at $(command -v pyrunc)"
        cd "$WORK"; find etc.upper ! -type d | sed 's/^/engine: /'
        pyrunc --version
        pyrunc run --bundle "$BUNDLE" packaged </dev/null
        pyrunc install --docker --podman --containerd >/dev/null
        grep -c /usr/bin/pyrunc /etc/docker/daemon.json
        pyrunc validate "$BUNDLE"
        /usr/bin/python3 -c 'import pyrunc, sys; rt = pyrunc.Runtime(); print("python:", rt.path, rt.run(sys.argv[1]).text)' "$BUNDLE"
        dpkg --remove pyrunc | grep "still names" || echo "nobody was warned"
        dpkg --install "$DEB" >/dev/null 2>&1
        pyrunc install --docker --podman --containerd --uninstall >/dev/null
        dpkg --purge pyrunc | grep "still names" || true
        echo left:
        rm -f /etc/*/*.before-pyrunc*
    """
    out = machine(steps + LEFT, DEB=deb, BUNDLE=str(bundle))
    before, _, left = out.partition("left:\n")
    assert "at /usr/bin/pyrunc\n" in before and "engine: " not in before
    assert "python: /usr/bin/pyrunc inside\n" in before
    assert "inside\n" in before and "Input/output error" in before
    assert "/etc/docker/daemon.json still names /usr/bin/pyrunc" in before and "nobody was warned" not in before
    kept = [line for line in left.splitlines() if not line.startswith(OWN)]
    assert kept == [name for name in kept if name.startswith("etc.upper/containerd/config.toml")], left


@pytest.mark.long
def test_make_install_in_a_directory(scratch, make_bundle):
    """DESTDIR and PREFIX: everything is below them, it runs from PREFIX, and `make uninstall` leaves nothing."""
    place = scratch / "destination"
    words = ["DESTDIR=%s" % place, "PREFIX=/opt/here"]
    done = subprocess.run(["make", "--silent", "install", *words], cwd=harness.ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in place.iterdir()] == ["opt"] and [p.name for p in (place / "opt").iterdir()] == ["here"]
    script = 'mount --bind "$1/opt" /opt && /opt/here/bin/pyrunc --root "$1/root" run --bundle "$2" placed </dev/null'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", place, make_bundle(args=["/bin/echo", "works"])]
    if not os.path.isdir("/opt"):
        pytest.skip("this machine has no /opt")
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=harness.WATCHDOG)
    assert (ran.returncode, ran.stdout) == (0, "works\n"), ran.stderr
    done = subprocess.run(["make", "--silent", "uninstall", *words], cwd=harness.ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [p for p in (place / "opt").rglob("*") if not p.is_dir()] == []
