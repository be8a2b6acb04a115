#!/usr/bin/python3
"""`make wheels`: a wheel for each executable of a release, and an sdist, next to them in dist/.

    wheels.py DIST

A wheel contains the package (the Python API, and files for the helper process), the static executable as the script `pyrunc`, manual pages
and completion. The executable needs no libraries, so one wheel works with every C library and every Python: py3-none, manylinux and
musllinux. Two builds give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import pathlib
import re
import sys
import tarfile
import time
import tomllib
import zipfile
from typing import TYPE_CHECKING

import release
import roots

if TYPE_CHECKING:
    from shapes import Json

ROOT = pathlib.Path(__file__).resolve().parent.parent
TAGS = "py3-none-manylinux_2_17_{0}.manylinux2014_{0}.musllinux_1_1_{0}"
NOT_PACKED = ("derive.py",)


def project() -> dict[str, Json]:
    with open(ROOT / "pyproject.toml", "rb") as file:
        found: dict[str, Json] = tomllib.load(file)["project"]
    return found


def metadata() -> bytes:
    about = project()
    lines = ["Metadata-Version: 2.4", "Name: " + about["name"], "Version: " + about["version"], "Summary: " + about["description"]]
    lines += ["License-Expression: " + about["license"], "License-File: LICENSE", "Keywords: " + ",".join(about["keywords"])]
    lines += ["Classifier: " + row for row in about["classifiers"]]
    lines += ["Project-URL: %s, %s" % row for row in about.get("urls", {}).items()]
    lines += ["Requires-Python: " + about["requires-python"], "Requires-Dist: jsonschema; extra == 'schema'", "Provides-Extra: schema"]
    lines += ["Description-Content-Type: text/markdown", ""]
    return ("\n".join(lines) + "\n").encode() + (ROOT / "README.md").read_bytes()


def package() -> dict[str, bytes]:
    """{name: contents} of the package's files. The extension is left out: it is for the plain launcher."""
    found = {}
    source = ROOT / "runtime/pyrunc"
    for folder, folders, files in os.walk(source, followlinks=True):  # specs is a link
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            path = pathlib.Path(folder, name)
            if path.suffix in (".py", ".pyi", ".typed", ".json") and name not in NOT_PACKED:
                found["pyrunc/%s" % path.relative_to(source)] = path.read_bytes()
    return found


def wheel(executable: pathlib.Path, arch: str, when: int) -> tuple[str, bytes]:
    """(file name, contents)."""
    about, tags = project(), TAGS.format(arch)
    name = "%s-%s" % (about["name"], about["version"])
    info, data = name + ".dist-info/", name + ".data/"
    files = package()
    files[data + "scripts/pyrunc"] = executable.read_bytes()
    for path, text in pages_of(executable).items():
        files[data + "data/share/" + path] = text
    pythons, abi, platforms = tags.split("-")
    lines = ["Wheel-Version: 1.0", "Generator: pyrunc tools/wheels.py", "Root-Is-Purelib: false"]
    lines += ["Tag: %s-%s-%s" % (pythons, abi, platform) for platform in platforms.split(".")]
    files[info + "METADATA"] = metadata()
    files[info + "WHEEL"] = ("\n".join(lines) + "\n").encode()
    files[info + "entry_points.txt"] = b"[pytest11]\npyrunc = pyrunc.api.testing\n"
    files[info + "licenses/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    record = io.StringIO()
    for path, contents in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(contents).digest()).rstrip(b"=").decode()
        record.write("%s,sha256=%s,%d\n" % (path, digest, len(contents)))
    record.write(info + "RECORD,,\n")
    files[info + "RECORD"] = record.getvalue().encode()
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(files, key=lambda path: (path.startswith(info), path)):  # the information last, as the format requires
            entry = zipfile.ZipInfo(path, time.gmtime(when)[:6])
            entry.external_attr = (0o100755 if path.endswith("scripts/pyrunc") else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[path])
    return "%s-%s.whl" % (name, tags), raw.getvalue()


def pages_of(executable: pathlib.Path) -> dict[str, bytes]:
    """Manual pages and completion, from the tarball next to the executable."""
    places = {"_pyrunc": "zsh/site-functions/", "pyrunc": "bash-completion/completions/", "pyrunc.fish": "fish/vendor_completions.d/"}
    found = {}
    with tarfile.open(str(executable) + ".tar.gz") as tar:
        for member in tar:
            _, _, name = member.name.partition("/")
            folder, _, base = name.rpartition("/")
            place = "man/man8/" if folder == "man" else places.get(base) if folder == "completion" else None
            file = tar.extractfile(member) if place else None
            if place and file:
                found[place + base] = file.read()
    return found


def sdist(when: int) -> tuple[str, bytes]:
    about = project()
    name = "%s-%s" % (about["name"], about["version"])
    files = {"PKG-INFO": metadata()}
    for folder in ("runtime", "specs", "bundles", "tools"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".so", ".pyc") and path.name != "pyrunc-static":
                if "rootfs" not in path.parts and "egg-info" not in str(path):
                    files[str(path.relative_to(ROOT))] = path.read_bytes()
    for one in ("pyproject.toml", "Makefile", "LICENSE", "README.md", "SECURITY.md", "CHANGELOG.md", "ARCHITECTURE.md", "CONTRIBUTING.md"):
        files[one] = (ROOT / one).read_bytes()
    return name + ".tar.gz", release.tarball(name, files, when)


def main(argv: list[str]) -> int:
    dist = pathlib.Path(argv[0])
    try:
        when = release.epoch()
        made = [sdist(when)]
        for path in sorted(dist.glob("pyrunc-*-linux-*")):
            found = re.fullmatch(r"pyrunc-.*-linux-(\w+)", path.name)
            if found:
                made.append(wheel(path, found.group(1), when))
    except (roots.Failed, OSError) as e:
        print("wheels: %s" % e, file=sys.stderr)
        return 1
    for name, data in made:
        (dist / name).write_bytes(data)
        print("wheels: %s, %.1f MB" % (dist / name, len(data) / 1e6))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
