"""Root file systems of Debian packages, for building and testing for other systems: created once with mmdebstrap, and kept in a cache
directory."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("PYRUNC_ANYWHERE") or os.path.expanduser("~/.cache/pyrunc-anywhere"))
OLD_RELEASES = 'Acquire::Check-Valid-Until "false"'  # a mirror's testing may be older than its Valid-Until date
SECONDS = 1200


class Failed(Exception):
    """It can't be created; the text says why."""


def mirror() -> str:
    """The mirror of this machine's apt sources, or Debian's."""
    places = sorted(pathlib.Path("/etc/apt").glob("sources.list.d/*")) + [pathlib.Path("/etc/apt/sources.list")]
    for path in places:
        if not path.is_file():
            continue
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["URIs:"], ["deb"]):
                for word in words[1:]:
                    if word.startswith("http") and word.rstrip("/").endswith("/debian"):
                        return word
    return "http://deb.debian.org/debian"


def codename() -> str:
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise Failed("/etc/os-release names no suite of Debian")


def made(name: str, suite: str, packages: list[str], variant: str, architecture: str | None = None) -> pathlib.Path:
    """The root with that name, created if it does not exist. `extract` unpacks packages and runs nothing, so it works for any processor."""
    root, stamp = CACHE / name, CACHE / (name + ".packages")
    wanted = " ".join([suite, variant, *sorted(packages)])
    if root.is_dir() and stamp.is_file() and stamp.read_text() == wanted:
        return root
    if shutil.which("mmdebstrap") is None:
        raise Failed("mmdebstrap is not installed")
    CACHE.mkdir(parents=True, exist_ok=True)
    if root.exists():
        shutil.rmtree(root)
    argv = ["mmdebstrap", "--quiet", "--variant=" + variant, "--include=" + ",".join(packages), "--aptopt=" + OLD_RELEASES]
    argv += ["--architectures=" + architecture] if architecture else []
    done = subprocess.run([*argv, suite, str(root), mirror()], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        shutil.rmtree(root, ignore_errors=True)
        raise Failed("mmdebstrap %s: %s" % (suite, done.stderr.strip()[-600:]))
    for link in ("lib", "lib64", "bin", "sbin"):  # base-files creates them, if it is one of the packages
        if not (root / link).exists() and (root / "usr" / link).exists():
            (root / link).symlink_to("usr/" + link)
    stamp.write_text(wanted)
    return root
