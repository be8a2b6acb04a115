"""Creates a root from Debian packages with mmdebstrap: `make_rootfs.py --debian DIR PACKAGE...`, or for a bundle that lists its packages in
debian.txt.

The release, the sources and the proxy settings are the host's, so it uses what the host's apt can reach. Needs root (mmdebstrap alone would
not) and the Debian package mmdebstrap.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


UNWANTED = ("doc", "man", "locale", "info", "lintian")
KEPT_SETTINGS = ("Acquire::Check-", "Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::AllowInsecure")


def codename() -> str:
    """The host's release, `trixie`."""
    with open("/etc/os-release") as file:
        for line in file:
            if line.startswith("VERSION_CODENAME="):
                return line.partition("=")[2].strip().strip('"')
    raise SystemExit("make_rootfs: /etc/os-release does not name the Debian release")


def sources() -> list[str]:
    """The host's apt source files for Debian; if there are none, mmdebstrap uses its default mirror."""
    found = []
    names = (
        glob.glob("/etc/apt/sources.list") + glob.glob("/etc/apt/sources.list.d/*.list") + glob.glob("/etc/apt/sources.list.d/*.sources")
    )
    for path in sorted(names):
        with open(path) as file:
            text = file.read()
        if "debian-archive" in text.lower() and "file:" not in text:
            found.append(path)
    return found


def settings() -> str:
    """The host's apt.conf settings for reaching its sources."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return "".join(line + "\n" for line in dump.splitlines() if line.startswith(KEPT_SETTINGS))


def make_debian_root(target: str, packages: Sequence[str], variant: str = "minbase") -> str:
    """Fills `target`, which must not exist or be empty. On failure: SystemExit with the last output of mmdebstrap, and its incomplete
    result is removed."""
    target = os.path.abspath(target)
    if not shutil.which("mmdebstrap"):
        raise SystemExit("make_rootfs: no mmdebstrap on this machine (Debian: apt-get install mmdebstrap)")
    if os.path.isdir(target) and os.listdir(target):
        raise SystemExit("make_rootfs: %s is not empty" % target)
    with tempfile.TemporaryDirectory(prefix="make-rootfs-") as scratch:
        conf = os.path.join(scratch, "apt.conf")
        with open(conf, "w") as file:
            file.write(settings())
        argv = ["mmdebstrap", "--quiet", "--variant=" + variant, "--format=directory", "--aptopt=" + conf, "--dpkgopt=force-unsafe-io"]
        argv += ["--include=" + ",".join(packages)] if packages else []
        argv += ["--dpkgopt=path-exclude=/usr/share/%s/*" % name for name in UNWANTED]
        done = subprocess.run([*argv, codename(), target, *sources()], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(target, ignore_errors=True)
        raise SystemExit("make_rootfs: mmdebstrap ended with status %d: %s" % (done.returncode, done.stderr.strip()[-1500:]))
    return target


def packages_of(bundle: str) -> list[str]:
    """The contents of bundles/NAME/debian.txt: one package name per line; # begins a comment."""
    path = os.path.join(bundle, "debian.txt")
    if not os.path.exists(path):
        raise SystemExit("make_rootfs: %s lists no Debian packages (debian.txt)" % bundle)
    with open(path) as file:
        return [line.split("#")[0].strip() for line in file if line.split("#")[0].strip()]
