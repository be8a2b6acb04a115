#!/usr/bin/python3
"""Makes root file systems and ready bundles for examples, tests and benchmarks.

    make_rootfs.py DIR                    a busybox root in DIR
    make_rootfs.py --python DIR           the same with the host's own python3 in it
    make_rootfs.py --bundle NAME DIR      bundles/NAME/config.json and a root, complete and ready to run
    make_rootfs.py --bundle NAME --debian DIR    the same with a root of the Debian packages in bundles/NAME/debian.txt
    make_rootfs.py --debian DIR [PACKAGE...]     a root of Debian packages (debian_root.py)
    make_rootfs.py --list                 lists the bundles

Rule: only the standard library, and nothing is downloaded without --debian. The programs come from the Debian package busybox-static (and
python3), which `make demo` installs. It imports nothing of pyrunc, so that it can be used by suites for other runtimes.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import debian_root

if TYPE_CHECKING:
    from collections.abc import Iterable


HERE = os.path.dirname(os.path.abspath(__file__))
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
DIRS = ("bin", "dev", "etc", "home", "lib", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr/bin", "usr/sbin", "var/tmp")
PASSWD = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\nuser:x:1000:1000:user:/home/user:/bin/sh\n"
GROUP = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nuser:x:1000:\n"


def busybox_path() -> str:
    """The path of the host's static busybox. A dynamic one would not find its libraries in the new root."""
    for path in BUSYBOX:
        if os.path.exists(path):
            with open(path, "rb") as file:
                head = file.read(4096)
            if head[:4] == b"\x7fELF" and b"ld-linux" not in head and b"/lib/ld-" not in head:
                return path
    raise SystemExit("make_rootfs: no static busybox on this machine (Debian: apt-get install busybox-static)")


def applets(busybox: str) -> list[str]:
    return subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()


def make_rootfs(target: str, busybox: str | None = None, link: bool = False, names: Iterable[str] | None = None) -> str:
    """Creates a busybox root in `target` (which is created if it does not exist). `link`: hard links instead of a copy and symbolic links if the
    file system allows it. They need no inodes, which ext4 without a journal allocates slowly if many have just been deleted. `names`: only
    these applets. Returns the absolute path."""
    busybox = busybox or busybox_path()
    target = os.path.abspath(target)
    for name in DIRS:
        os.makedirs(os.path.join(target, name), exist_ok=True)
    for name in ("tmp", "var/tmp"):
        os.chmod(os.path.join(target, name), 0o1777)
    own = os.path.join(target, "bin", "busybox")
    if not os.path.lexists(own):
        copy_file(busybox, own, link)
    for name in names or applets(busybox):
        path = os.path.join(target, "bin", name)
        if not os.path.lexists(path) and not (link and hard_linked(own, path)):
            os.symlink("busybox", path)
    for name, text in (("etc/passwd", PASSWD), ("etc/group", GROUP), ("etc/hostname", "root\n"), ("etc/hosts", "127.0.0.1 localhost\n")):
        path = os.path.join(target, name)
        if not os.path.lexists(path):
            with open(path, "w") as file:
                file.write(text)
    os.makedirs(os.path.join(target, "home", "user"), exist_ok=True)
    return target


def hard_linked(source: str, target: str) -> bool:
    """Whether a hard link could be made: not on another file system, or one without links, or if there are too many."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def copy_file(source: str, target: str, link: bool = False) -> None:
    if link and hard_linked(source, target):
        return
    shutil.copyfile(source, target)
    os.chmod(target, 0o755)


def add_python(target: str, python: str = "/usr/bin/python3") -> str:
    """Copies the host's interpreter, its library and the shared objects that it is linked with to a root."""
    real = os.path.realpath(python)
    version = subprocess.run([real, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=True)
    library = "usr/lib/python" + version.stdout.strip()
    os.makedirs(os.path.join(target, "usr/bin"), exist_ok=True)
    shutil.copy2(real, os.path.join(target, "usr/bin/python3"))
    skip = shutil.ignore_patterns("__pycache__", "test", "tests", "idlelib", "ensurepip", "dist-packages", "site-packages", "config-*")
    shutil.copytree(
        "/" + library, os.path.join(target, library), symlinks=True, dirs_exist_ok=True, ignore=skip, ignore_dangling_symlinks=True
    )
    objects = [real]
    dynload = os.path.join("/", library, "lib-dynload")
    objects += [os.path.join(dynload, name) for name in sorted(os.listdir(dynload)) if name.endswith(".so")]
    for path in sorted(shared_objects(objects)):
        inside = target + path
        os.makedirs(os.path.dirname(inside), exist_ok=True)
        if not os.path.lexists(inside):
            shutil.copy2(os.path.realpath(path), inside)
    return target


def shared_objects(files: Iterable[str]) -> set[str]:
    """The libraries that ldd lists for some ELF files, including the loader."""
    found = set()
    for file in files:
        out = subprocess.run(["ldd", file], capture_output=True, text=True).stdout
        for word in out.split():
            if word.startswith("/") and os.path.exists(word):
                found.add(word)
    return found


def bundles() -> list[str]:
    return sorted(name for name in os.listdir(HERE) if os.path.exists(os.path.join(HERE, name, "config.json")))


def make_bundle(name: str, target: str, link: bool = False, debian: bool = False) -> str:
    """Copies bundles/NAME to `target`, with a root next to its config.json. The contents of bundles/NAME/files are copied to the root,
    unless it is made of Debian packages, which replace them."""
    source = os.path.join(HERE, name)
    if not os.path.exists(os.path.join(source, "config.json")):
        raise SystemExit("make_rootfs: there is no bundle %r; bundles: %s" % (name, ", ".join(bundles())))
    os.makedirs(target, exist_ok=True)
    for file in sorted(os.listdir(source)):
        path = os.path.join(source, file)
        if file in ("files", "rootfs", "debian.txt"):
            continue
        if stat.S_ISDIR(os.stat(path).st_mode):
            shutil.copytree(path, os.path.join(target, file), dirs_exist_ok=True)
        else:
            shutil.copy2(path, os.path.join(target, file))
    if debian:
        debian_root.make_debian_root(os.path.join(target, "rootfs"), debian_root.packages_of(source))
        return os.path.abspath(target)
    root = make_rootfs(os.path.join(target, "rootfs"), link=link)
    if os.path.isdir(os.path.join(source, "files")):
        shutil.copytree(os.path.join(source, "files"), root, dirs_exist_ok=True, symlinks=True)
    return os.path.abspath(target)


def main(argv: list[str]) -> int:
    if argv[:1] == ["--list"] and len(argv) == 1:
        print("\n".join(bundles()))
    elif argv[:1] == ["--bundle"] and len(argv) == 3:
        print(make_bundle(argv[1], argv[2]))
    elif argv[:1] == ["--bundle"] and argv[2:3] == ["--debian"] and len(argv) == 4:
        print(make_bundle(argv[1], argv[3], debian=True))
    elif argv[:1] == ["--debian"] and len(argv) > 1:
        print(debian_root.make_debian_root(argv[1], argv[2:]))
    elif argv[:1] == ["--python"] and len(argv) == 2:
        print(add_python(make_rootfs(argv[1])))
    elif len(argv) == 1 and not argv[0].startswith("-"):
        print(make_rootfs(argv[0]))
    else:
        print(__doc__.strip(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
