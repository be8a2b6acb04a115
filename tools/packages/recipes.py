#!/usr/bin/python3
"""`make packages`: package recipes for other distributions in dist/, beside the tarballs that they use, and the .rpm.

    recipes.py DIST [--url URL]

pyrunc.spec (Fedora, RHEL, openSUSE), APKBUILD (Alpine) and PKGBUILD (Arch Linux) package a release's executable with its manual pages and
completion, by install.sh. They get the version, the licences that the SBOM names, and the checksums of the tarballs. The .rpm is built
here, for the processors whose tarball exists; apk and pacman packages are built by abuild and makepkg.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import release  # noqa: E402
import roots  # noqa: E402

NAMES = ("pyrunc.spec", "APKBUILD", "PKGBUILD")


def tarballs(dist: pathlib.Path) -> dict[str, pathlib.Path]:
    """{processor: tarball}."""
    found = {}
    for arch in sorted(release.ARCHES, reverse=True):
        path = dist / ("pyrunc-%s-linux-%s.tar.gz" % (release.version(), arch))
        if path.exists():
            found[arch] = path
    if not found:
        raise roots.Failed("no tarball of version %s in %s (make release)" % (release.version(), dist))
    return found


def licences(dist: pathlib.Path, arch: str) -> str:
    """The licences of the executable's components, as one SPDX expression."""
    document = json.loads((dist / ("pyrunc-%s-linux-%s.spdx.json" % (release.version(), arch))).read_text())
    found = list(dict.fromkeys(row["licenseDeclared"] for row in document["packages"]))
    return " AND ".join("(%s)" % words if " OR " in words else words for words in found)


def digest(path: pathlib.Path, kind: str) -> str:
    return hashlib.new(kind, path.read_bytes()).hexdigest()


def recipes(dist: pathlib.Path, url: str) -> dict[str, str]:
    """{file name: text}."""
    files = tarballs(dist)
    with open(HERE.parent.parent / "pyproject.toml", "rb") as file:
        summary = tomllib.load(file)["project"]["description"]
    rows256 = ['source_%s=("%s")\nsha256sums_%s=("%s")' % (arch, path.name, arch, digest(path, "sha256")) for arch, path in files.items()]
    rows512 = ['    %s) sha512sums="%s  %s" ;;' % (arch, digest(path, "sha512"), path.name) for arch, path in files.items()]
    words = {
        "VERSION": release.version(),
        "SUMMARY": summary,
        "URL": url,
        "ARCHES": " ".join(files),
        "LICENCES": licences(dist, next(iter(files))),
        "SHA256": "\n".join(rows256),
        "SHA512": "\n".join(rows512),
    }
    found = {}
    for name in NAMES:
        text = (HERE / name).read_text()
        for key, value in words.items():
            text = text.replace("@%s@" % key, value)
        found[name] = text
    return found


def rpm(dist: pathlib.Path, arch: str, when: int) -> tuple[str, bytes]:
    """(file name, contents) of the package. Failed without rpmbuild (Debian: rpm)."""
    if shutil.which("rpmbuild") is None:
        raise roots.Failed("rpmbuild is not installed (Debian: rpm)")
    with tempfile.TemporaryDirectory() as folder:
        argv = ["rpmbuild", "-bb", "--quiet", "--target", arch, "--define", "_topdir " + folder]
        argv += ["--define", "_sourcedir %s" % dist.resolve(), str(dist / "pyrunc.spec")]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": folder, "SOURCE_DATE_EPOCH": str(when)}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        found = list(pathlib.Path(folder).glob("RPMS/*/*.rpm"))
        if done.returncode or len(found) != 1:
            raise roots.Failed("rpmbuild: %s" % (done.stderr or done.stdout).strip())
        return found[0].name, found[0].read_bytes()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="writes recipes of packages, and builds the .rpm")
    parser.add_argument("dist", type=pathlib.Path)
    parser.add_argument("--url", default="", help="where the project is; recipes have a line for it")
    options = parser.parse_args(argv)
    try:
        for name, text in recipes(options.dist, options.url).items():
            (options.dist / name).write_text(text)
            print("packages: %s" % (options.dist / name))
        for arch in tarballs(options.dist):
            name, data = rpm(options.dist, arch, release.epoch())
            (options.dist / name).write_bytes(data)
            print("packages: %s, %.1f MB" % (options.dist / name, len(data) / 1e6))
    except (roots.Failed, OSError) as e:
        print("packages: %s" % e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
