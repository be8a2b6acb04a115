#!/usr/bin/python3
"""Builds the Debian package of this tree: `make deb`, which has already built the launcher, manual pages and completion.

    tools/deb.py TREE OUT TREE: the directory with /usr in it, prepared by make; OUT: the directory for the .deb

What it adds to TREE: a separate prefix, /usr/lib/pyrunc, with the launcher, the package (for the helper process and the plain launcher) and
pyseccomp, which Debian does not have; /usr/bin/pyrunc links to the launcher. Then the documents, and DEBIAN/ with control, checksums and
the scripts. The package does not register itself with any engine: administrators do that with `pyrunc install`. Two builds of one commit
give the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shapes import Json


PROJECT = pathlib.Path(__file__).resolve().parent.parent
PREFIX = "usr/lib/pyrunc"
MODULES = PREFIX + "/lib/python3/dist-packages"
LIBRARIES = ("python3-jsonschema", "libseccomp2")  # what the helper process loads
STATIC_SOURCES = ("libc6-dev", "libpython3-dev", "zlib1g-dev", "libexpat1-dev")

# dh_python3 would also call py3compile and py3clean: the helper's modules as byte code, removed before the files.
POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ] && command -v py3compile >/dev/null 2>&1; then
    py3compile -p pyrunc /usr/lib/pyrunc
fi
# Out of the page cache: the first start then reads it in pieces of 2 MiB, and each command takes less time.
dd if=/usr/bin/pyrunc iflag=nocache count=0 2>/dev/null || :
"""
PRERM = """\
#!/bin/sh
set -e
if command -v py3clean >/dev/null 2>&1; then
    py3clean -p pyrunc
fi
if [ "$1" = remove ]; then
    for engine in docker:/etc/docker/daemon.json podman:/etc/containers/containers.conf.d/50-pyrunc.conf containerd:/etc/containerd/config.toml; do
        if grep -qs '"/usr/bin/pyrunc"' "${engine#*:}"; then
            echo "pyrunc: ${engine#*:} still names /usr/bin/pyrunc; take that out by hand, or reinstall and call pyrunc install --${engine%%:*} --uninstall"
        fi
    done
    left=$({ /usr/bin/pyrunc list --quiet; /usr/bin/pyrunc list --engine all | awk '$NF == "pyrunc" { print $1 ":" $2 }'; } 2>/dev/null || true)
    if [ -n "$left" ]; then
        echo "pyrunc: containers that nobody will be able to stop or delete:" $left
    fi
fi
"""
# Files written at run time: the cache of filters. The containers' directories are kept; they disappear at the next boot.
POSTRM = """\
#!/bin/sh
set -e
if [ "$1" = remove ] || [ "$1" = purge ]; then
    rm -rf /run/pyrunc/@cache
    rm -f /run/pyrunc/.pyrunc@* /run/docker/runtime-*/moby/.pyrunc@* /run/containerd/runc/*/.pyrunc@*
    rmdir /run/pyrunc 2>/dev/null || true
fi
"""


class Failed(Exception):
    """The package can't be built; the text says why."""


def output(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, cwd=PROJECT)
    if done.returncode:
        raise Failed("%s: %s" % (argv[0], done.stderr.strip()))
    return done.stdout


def project() -> Json:
    with open(PROJECT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]


def is_elf(path: pathlib.Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def put(tree: pathlib.Path, name: str, data: bytes | str, mode: int = 0o644) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    path.chmod(mode)


def lay_out(tree: pathlib.Path, launcher: pathlib.Path) -> None:
    put(tree, PREFIX + "/bin/pyrunc", launcher.read_bytes(), 0o755)
    (tree / "usr/bin").mkdir()
    (tree / "usr/bin/pyrunc").symlink_to("../lib/pyrunc/bin/pyrunc")
    (tree / "usr/lib/python3/dist-packages").mkdir(parents=True)
    (tree / "usr/lib/python3/dist-packages/pyrunc").symlink_to("../../pyrunc/lib/python3/dist-packages/pyrunc")  # `import pyrunc`
    put(tree, MODULES + "/pyseccomp.py", vendored().read_bytes())
    source = PROJECT / "runtime/pyrunc"
    for folder, folders, files in os.walk(source, followlinks=True):  # specs is a link
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in files:
            path = pathlib.Path(folder, name)
            if path.suffix in (".py", ".pyi", ".typed", ".json", ".so") and name != "derive.py":
                put(tree, "%s/pyrunc/%s" % (MODULES, path.relative_to(source)), path.read_bytes())
    for path in (tree / MODULES).rglob("*.so"):  # not the launcher: it contains a snapshot of itself, which strip would damage
        output("strip", "--strip-unneeded", str(path))
    documents = "usr/share/doc/pyrunc/"
    put(tree, documents + "copyright", copyright())
    put(tree, documents + "changelog.gz", gzip.compress((PROJECT / "CHANGELOG.md").read_bytes(), 9, mtime=0))
    for name in ("README.md", "SECURITY.md"):
        put(tree, documents + name, (PROJECT / name).read_bytes())
    zsh = tree / "usr/share/zsh/site-functions/_pyrunc"  # the administrator's directory; Debian packages use another one
    if zsh.exists():
        put(tree, "usr/share/zsh/vendor-completions/_pyrunc", zsh.read_bytes())
        shutil.rmtree(zsh.parent)
    for page in (tree / "usr/share/man").rglob("*.8"):
        put(tree, str(page.relative_to(tree)) + ".gz", gzip.compress(page.read_bytes(), 9, mtime=0))
        page.unlink()


def vendored() -> pathlib.Path:
    """The only file of pyseccomp, from the virtual environment."""
    found = list((PROJECT / ".venv").glob("lib/python3*/site-packages/pyseccomp.py"))
    if not found:
        raise Failed("no pyseccomp in .venv: make build")
    return found[0]


def copyright() -> str:
    (licence,) = vendored().parent.glob("pyseccomp-*.dist-info/**/LICENSE")
    words = "".join(" %s\n" % (line or ".") for line in licence.read_text().strip().splitlines())
    return (
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: pyrunc\n\n"
        "Files: *\nCopyright: the pyrunc authors\nLicense: Apache-2.0\n"
        " On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n\n"
        "Files: usr/lib/pyrunc/lib/python3/dist-packages/pyseccomp.py\nCopyright: the authors of pyseccomp\nLicense: Expat\n" + words
    )


def control(tree: pathlib.Path, launcher: pathlib.Path) -> str:
    """The control file. A static launcher only needs the interpreter for its helper process; otherwise the launcher's libraries are added,
    and if the interpreter is mapped, its exact minor version."""
    about = project()
    needs = ["python3 (>= %s)" % about["requires-python"].removeprefix(">="), *LIBRARIES]
    lines = ["Package: pyrunc", "Version: %s" % about["version"], "Architecture: %s" % output("dpkg", "--print-architecture").strip()]
    if is_elf(launcher):
        libraries = shared(launcher)
        needs += libraries
        if not libraries:
            lines.append("Static-Built-Using: %s" % ", ".join(built_using()))
    lines += [
        "Maintainer: the pyrunc authors <pyrunc@localhost>",
        "Depends: " + ", ".join(dict.fromkeys(needs)),
        "Recommends: procps",
        "Suggests: criu, podman | docker.io | containerd",
        "Installed-Size: %d" % sum((p.stat().st_size + 1023) // 1024 for p in tree.rglob("*") if p.is_file()),
        "Section: admin",
        "Priority: optional",
        "Description: " + about["description"],
        " pyrunc stands where runc stands: below containerd, podman, Docker, buildah",
        " and Kubernetes, with the same commands, options and exit codes.",
        " .",
        " The package tells no engine of it: `pyrunc install` does, on demand.",
    ]
    return "\n".join(lines) + "\n"


def shared(launcher: pathlib.Path) -> list[str]:
    """Packages of the shared libraries that the launcher maps; none for a static one."""
    text = subprocess.run(["ldd", launcher], capture_output=True, text=True).stdout
    found = []
    for path in re.findall(r"(/\S+\.so\S*) \(0x", text):
        # where /lib is a link to /usr/lib, dpkg may know either path (Debian 12: /lib's)
        names = (path, os.path.realpath(path))
        for name in (*names, *(name.removeprefix("/usr") for name in names)):
            owner = subprocess.run(["dpkg", "-S", name], capture_output=True, text=True)
            if owner.returncode == 0:
                package = owner.stdout.partition(":")[0]
                found.append("%s (>= %s)" % (package, version(package).partition("-")[0]))
                break
        else:
            raise Failed("%s belongs to no Debian package" % path)
    return sorted(set(found))


def version(package: str) -> str:
    return output("dpkg-query", "-W", "-f", "${Version}", package)


def built_using() -> list[str]:
    """source (= version) for everything that is linked in."""
    python = "libpython%d.%d-dev" % sys.version_info[:2]
    names = [python if name == "libpython3-dev" else name for name in STATIC_SOURCES]
    rows = [output("dpkg-query", "-W", "-f", "${source:Package} (= ${source:Version})", name) for name in names]
    return sorted(set(rows))


def sums(tree: pathlib.Path) -> str:
    rows = []
    for path in sorted(tree.rglob("*")):
        name = path.relative_to(tree)
        if path.is_file() and name.parts[0] != "DEBIAN":
            rows.append("%s  %s\n" % (hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(), name))
    return "".join(rows)


def build(tree: pathlib.Path, out: str) -> tuple[str, pathlib.Path]:
    """Writes OUT/pyrunc_VERSION_ARCH.deb. Returns its path, and the launcher that is in it."""
    static = PROJECT / "runtime/bin/pyrunc-static"
    launcher = static if static.exists() and not os.environ.get("PYRUNC_PLAIN") else PROJECT / "runtime/bin/pyrunc"
    lay_out(tree, launcher)
    put(tree, "DEBIAN/control", control(tree, launcher))
    put(tree, "DEBIAN/md5sums", sums(tree))
    for name, text in (("postinst", POSTINST), ("prerm", PRERM), ("postrm", POSTRM)):
        put(tree, "DEBIAN/" + name, text, 0o755)
    for path in tree.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    os.makedirs(out, exist_ok=True)
    about = project()
    name = "%s/pyrunc_%s_%s.deb" % (out, about["version"], output("dpkg", "--print-architecture").strip())
    os.environ.setdefault("SOURCE_DATE_EPOCH", last_change())
    output("dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(tree.resolve()), os.path.abspath(name))
    return name, launcher


def last_change() -> str:
    """The time of the last commit, or else of the newest source: no time stamp in the package is later."""
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], capture_output=True, text=True, cwd=PROJECT)
    if done.returncode == 0 and done.stdout.strip():
        return done.stdout.strip()
    return str(int(max(p.stat().st_mtime for p in (PROJECT / "runtime").rglob("*.py"))))


def main(tree: str, out: str) -> None:
    missing = [name for name in ("dpkg-deb", "dpkg-query", "strip") if not shutil.which(name)]
    if missing:
        raise Failed("not installed: %s" % ", ".join(missing))
    name, launcher = build(pathlib.Path(tree), out)
    kind = "plain launcher" if not is_elf(launcher) else "compiled launcher, %s" % ("shared" if shared(launcher) else "static")
    print("deb: %s (%d kB, %s)" % (name, os.path.getsize(name) // 1024, kind))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as e:
        sys.exit("deb: %s" % e)
