#!/usr/bin/python3
"""`make release`: the files that users download, below dist/.

    release.py [--arch x86_64] [--arch aarch64] [--out DIR]

For each processor one static executable with the snapshot inside, its SBOM (SPDX 2.3), and a tarball of both with manual pages,
completion and an install script; SHA256SUMS covers all. The file for this machine's processor is built with its compiler and archives, the
other one with Debian's cross compiler and archives of that architecture, which are unpacked to a separate directory; its snapshot is taken
under qemu's user emulation. Nothing depends on the directory, the user or the time: built twice, the files are the same.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
from typing import TYPE_CHECKING

import roots

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "runtime/csrc"))
import components  # noqa: E402

if TYPE_CHECKING:
    from shapes import Json

PYTHON = "/usr/bin/python3"
ARCHES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}
RELEASED = ("x86_64", "aarch64")  # the others are experiments
SYSROOT = ["libc6-dev", "libgcc-14-dev", "libpython3-dev", "libseccomp-dev", "linux-libc-dev"]
SHELLS = {"bash": "pyrunc", "zsh": "_pyrunc", "fish": "pyrunc.fish"}


def version() -> str:
    with open(ROOT / "pyproject.toml", "rb") as file:
        found: str = tomllib.load(file)["project"]["version"]
    return found


def epoch() -> int:
    """The time stamp of all files: SOURCE_DATE_EPOCH, or the time of the commit."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    argv = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise roots.Failed("no SOURCE_DATE_EPOCH, and git tells no commit: %s" % done.stderr.strip())
    return int(done.stdout)


def call(argv: list[str], **env: str) -> str:
    done = subprocess.run(argv, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **env}, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise roots.Failed("%s: %s" % (argv[0], (done.stderr or done.stdout).strip()))
    return done.stdout


def toolchain(arch: str) -> tuple[list[str], str, list[str]]:
    """(compiler, sysroot or "", command that runs the result)."""
    if arch == platform.machine():
        return ["gcc"], "", []
    compiler, runner = arch + "-linux-gnu-gcc", "qemu-%s-static" % arch
    runner = runner if shutil.which(runner) else "qemu-" + arch
    for program, package in ((compiler, "gcc-" + arch.replace("_", "-") + "-linux-gnu"), (runner, "qemu-user")):
        if shutil.which(program) is None:
            raise roots.Failed("%s is not installed (Debian: %s)" % (program, package))
    sysroot = roots.made("sysroot-" + arch, roots.codename(), SYSROOT, "extract", ARCHES[arch])
    return [compiler, "--sysroot=%s" % sysroot], str(sysroot), ["setarch", "-R", runner]


def executable(arch: str) -> tuple[pathlib.Path, list[str], list[dict[str, str]]]:
    """(the launcher, command that runs it here, what is linked into it)."""
    cc, sysroot, runner = toolchain(arch)
    build = ROOT / "build/release" / arch
    build.mkdir(parents=True, exist_ok=True)
    target = build / "pyrunc"
    env = {"CC": " ".join(cc), "PYRUNC_RUNNER": " ".join(runner), "PYRUNC_LINK": "snapshot", "PYRUNC_RELEASE": "1"}
    call([PYTHON, "-I", "-B", "runtime/csrc/link.py", "runtime", str(build), str(target)], **env, PYRUNC_LDFLAGS="-Wl,--strip-debug")
    gcc = call([*cc, "-dumpversion"]).strip().partition(".")[0]
    return target, runner, components.components(sysroot, gcc)


def sbom(arch: str, name: str, digest: str, parts: list[dict[str, str]], when: int) -> bytes:
    """SPDX 2.3 as JSON."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
    rows: list[dict[str, Json]] = [
        {
            "SPDXID": "SPDXRef-pyrunc",
            "name": "pyrunc",
            "versionInfo": version(),
            "packageFileName": name,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "Apache-2.0",
            "copyrightText": "the pyrunc authors",
            "checksums": [{"algorithm": "SHA256", "checksumValue": digest}],
        }
    ]
    for part in parts:
        purl = "pkg:deb/debian/%s@%s?arch=source" % (part["source"], part["source_version"].replace("+", "%2B").replace(":", "%3A"))
        rows.append(
            {
                "SPDXID": "SPDXRef-" + part["name"].replace(" ", "-"),
                "name": part["name"],
                "versionInfo": part["version"],
                "supplier": "Organization: Debian",
                "sourceInfo": "Debian source package %s %s" % (part["source"], part["source_version"]),
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": False,
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": part["licence"],
                "copyrightText": "NOASSERTION",
                "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}],
            }
        )
    related = [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-pyrunc"}]
    for row in rows[1:]:
        related.append({"spdxElementId": "SPDXRef-pyrunc", "relationshipType": "STATIC_LINK", "relatedSpdxElement": row["SPDXID"]})
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": "https://spdx.org/spdxdocs/%s-%s" % (name, digest[:32]),
        "creationInfo": {"created": created, "creators": ["Tool: pyrunc-release-%s" % version()]},
        "packages": rows,
        "relationships": related,
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def pages(when: int, command: list[str]) -> dict[str, bytes]:
    """{name in the tarball: contents} of manual pages and completion; `command` calls pyrunc."""
    folder = ROOT / "build/release/man"
    shutil.rmtree(folder, ignore_errors=True)
    call([PYTHON, "-B", "tools/man.py", str(folder)], SOURCE_DATE_EPOCH=str(when))
    found = {"man/" + path.name: path.read_bytes() for path in sorted(folder.glob("*.8"))}
    for shell, name in SHELLS.items():
        found["completion/" + name] = call([*command, "completion", shell]).encode()
    return found


def tarball(folder: str, files: dict[str, bytes], when: int) -> bytes:
    """`folder`: the directory in it; not the name of a file that may lie beside it."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(folder + "/" + name)
            entry.size, entry.mtime, entry.mode = len(data), when, 0o755 if name in ("pyrunc", "install.sh") else 0o644
            entry.uname = entry.gname = "root"
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), 9, mtime=0)


def release(arches: list[str]) -> dict[str, bytes]:
    """{file name: contents}."""
    when, files, more = epoch(), {}, {}
    for name in ("LICENSE", "README.md", "SECURITY.md", "CHANGELOG.md"):
        more[name] = (ROOT / name).read_bytes()
    for arch in arches:
        target, runner, parts = executable(arch)
        more = {**pages(when, [*runner, str(target)]), **more}
        data = target.read_bytes()
        name = "pyrunc-%s-linux-%s" % (version(), arch)
        listed = sbom(arch, name, hashlib.sha256(data).hexdigest(), parts, when)
        files[name], files[name + ".spdx.json"] = data, listed
        install = (ROOT / "tools/packages/install.sh").read_bytes().replace(b"@ARCH@", arch.encode())
        inside = {**more, "pyrunc": data, "pyrunc.spdx.json": listed, "install.sh": install}
        files[name + ".tar.gz"] = tarball("pyrunc-%s-%s" % (version(), arch), {**inside, "SHA256SUMS": sums(inside)}, when)
    files["SHA256SUMS"] = sums(files)
    return files


def sums(files: dict[str, bytes]) -> bytes:
    """A line in the format of sha256sum(1)."""
    return "".join("%s  %s\n" % (hashlib.sha256(data).hexdigest(), name) for name, data in sorted(files.items())).encode()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="makes the files of a release")
    parser.add_argument("--arch", action="append", choices=sorted(ARCHES), help="only this processor (%s)" % " and ".join(RELEASED))
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "dist")
    options = parser.parse_args(argv)
    try:
        files = release(options.arch or list(RELEASED))
    except (roots.Failed, components.Missing, OSError) as e:
        print("release: %s" % e, file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    for name, data in sorted(files.items()):
        path = options.out / name
        path.write_bytes(data)
        path.chmod(0o755 if name.endswith(tuple("linux-" + arch for arch in ARCHES)) else 0o644)
        print("release: %s, %.1f MB" % (path, len(data) / 1e6))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
