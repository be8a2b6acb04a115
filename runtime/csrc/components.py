"""What is linked into a static launcher besides pyrunc: for its licence texts (`pyrunc version --licenses`) and the SBOM of a release.

Names, versions and texts are those of the Debian packages that the archives came from, as their documentation has them: of this
machine, or below the sysroot of a cross compiler. libpython's modules for XML and compression are not linked, so neither are libexpat
and zlib (inittab.c lists what is).
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys

COMMON = "/usr/share/common-licenses/"
DOCUMENTS = "/usr/share/doc/"
RELINK = """\
pyrunc, this file, is under the Apache License 2.0; the texts are below. What else is linked into it:

%s
The C library and libseccomp are under the LGPL. To use a changed version of them: this file was built from pyrunc's complete sources,
which have everything that is needed for linking; `make launcher` links the libseccomp.a and libc.a that the compiler finds, or with
CC="cc -BDIRECTORY/" those of DIRECTORY. The sources of the versions used here are Debian's source packages named above (apt-get source).
"""


class Missing(Exception):
    """A licence text is missing; the message names it."""


def components(root: str, gcc: str) -> list[dict[str, str]]:
    """[{"name", "version", "licence" (SPDX), "source", "source_version", "text"}] below `root` ("" for this machine). `gcc` is the major
    version of the compiler. Missing where a package has no documentation."""
    python = "libpython%d.%d-dev" % sys.version_info[:2]
    rows = (
        ("CPython", python, "Python-2.0.1"),
        ("libseccomp", "libseccomp-dev", "LGPL-2.1-only"),
        ("GNU C Library", "libc6-dev", "LGPL-2.1-or-later"),
        ("libgcc", "gcc-%s-base" % gcc, "GPL-3.0-or-later WITH GCC-exception-3.1"),
    )
    return [component(root, *row) for row in rows]


def component(root: str, name: str, package: str, licence: str) -> dict[str, str]:
    source, version = source_of(root, package)
    upstream = re.sub(r"^\d+:", "", version).rpartition("-")[0] or version
    text = read(root, package, "copyright").decode("utf-8", "replace")
    return {"name": name, "version": upstream, "licence": licence, "source": source, "source_version": version, "text": text}


def source_of(root: str, package: str) -> tuple[str, str]:
    """(source package, its version), of the package's database, or from the first line of Debian's changelog."""
    if not root:
        asked = ["dpkg-query", "-W", "-f", "${source:Package} ${source:Version}", package]
        try:
            source, version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
            return source, version
        except (OSError, subprocess.CalledProcessError):
            raise Missing("the package %s in dpkg's database" % package) from None
    data = gzip.decompress(read(root, package, "changelog.Debian.gz")).decode("utf-8", "replace")
    found = re.match(r"(\S+) \(([^)]+)\)", data)
    if not found:
        raise Missing("the changelog of %s" % package)
    return found.group(1), found.group(2)


def read(root: str, package: str, name: str) -> bytes:
    """A file of a package's documentation; the directory may be a link to that of another package."""
    folder = root + DOCUMENTS + package
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read()
    except OSError:
        raise Missing("%s/%s" % (folder, name)) from None


def licences(root: str, gcc: str, own: str) -> str:
    """The text of `pyrunc version --licenses`. `own`: the file with pyrunc's licence."""
    found = components(root, gcc)
    rows = [
        "  %-14s %-10s %s; Debian source package %s %s\n" % (c["name"], c["version"], c["licence"], c["source"], c["source_version"])
        for c in found
    ]
    with open(own, encoding="utf-8") as file:
        parts = [RELINK % "".join(rows), title("pyrunc"), file.read()]
    for one in found:
        parts += [title("%s %s" % (one["name"], one["version"])), one["text"]]
    try:
        with open(COMMON + "LGPL-2.1", encoding="utf-8") as file:
            parts += [title("GNU Lesser General Public License 2.1"), file.read()]
    except OSError:
        raise Missing(COMMON + "LGPL-2.1") from None
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def title(words: str) -> str:
    return "\n%s\n%s" % (words, "=" * len(words))
