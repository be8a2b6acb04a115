"""Bundle: a directory with config.json and, usually, a root file system."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from types import TracebackType

from pyrunc.api.errors import Json, NotInstalledError
from pyrunc.oci import example

BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
DIRECTORIES = ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var")
PASSWD = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/:/bin/sh\n"
GROUP = "root:x:0:\nuser:x:1000:\n"


class Bundle:
    """path: the directory; config: the document, read from config.json if it is None. save() writes changes.

    As a context manager it saves nothing; a temporary one (busybox() without a path) is removed.
    """

    def __init__(self, path: str | os.PathLike[str], config: dict[str, Json] | None = None) -> None:
        self.path = pathlib.Path(path).absolute()
        self.config: dict[str, Json] = json.loads((self.path / "config.json").read_text("utf-8")) if config is None else config
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return "Bundle(%r)" % str(self.path)

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def rootfs(self) -> pathlib.Path:
        return self.path / str(self.config.get("root", {}).get("path", "rootfs"))

    def set(self, pointer: str, value: object) -> Bundle:
        """Changes one place of the document, by JSON pointer: `bundle.set("/process/args", ["/bin/true"])`. A last element `-` appends;
        missing objects are created. → self."""
        keys = [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]
        if not keys:
            raise ValueError("a pointer begins with /: %r" % pointer)
        node: Json = self.config
        for key in keys[:-1]:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        if not isinstance(node, list):
            node[keys[-1]] = value
        elif keys[-1] == "-":
            node.append(value)
        else:
            node[int(keys[-1])] = value
        return self

    def save(self) -> Bundle:
        """Writes config.json atomically. → self."""
        new = self.path / ".config.json.new"
        new.write_text(json.dumps(self.config, indent=2, ensure_ascii=False) + "\n", "utf-8")
        new.replace(self.path / "config.json")
        return self

    @classmethod
    def new(
        cls,
        path: str | os.PathLike[str],
        args: Sequence[str],
        *,
        rootfs: str = "rootfs",
        readonly: bool = True,
        rootless: bool | None = None,
    ) -> Bundle:
        """Creates a bundle in a directory (which is created if it does not exist): the config that `pyrunc spec` writes, without a terminal
        and with these arguments. rootfs: relative to the bundle, or absolute. rootless: None means unless we are root. config.json must not
        exist yet."""
        directory = pathlib.Path(path).absolute()
        directory.mkdir(parents=True, exist_ok=True)
        rootless = os.geteuid() != 0 if rootless is None else rootless
        unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
        config = example.config(rootless, os.geteuid(), os.getegid(), unified)
        config["process"].update(terminal=False, args=list(args))
        config["root"] = {"path": rootfs, "readonly": readonly}
        with open(directory / "config.json", "x"):
            pass
        return cls(directory, config).save()

    @classmethod
    def busybox(cls, args: Sequence[str], path: str | os.PathLike[str] | None = None, *, readonly: bool = True) -> Bundle:
        """A bundle with a new root that contains the host's static busybox (Debian: busybox-static). path: None creates a temporary one,
        for `with`."""
        temporary = None
        if path is None:
            temporary = tempfile.TemporaryDirectory(prefix="pyrunc-bundle-")
            path = temporary.name
        made = cls.new(path, args, readonly=readonly)
        made._temporary = temporary
        busybox_root(made.rootfs)
        return made


def busybox_root(root: pathlib.Path) -> None:
    """Fills a directory: busybox, a link for each of its applets, the usual directories, passwd and group."""
    busybox = next((path for path in BUSYBOX if os.access(path, os.X_OK)), None)
    if busybox is None:
        raise NotInstalledError("no busybox on this machine; Debian has it in the package busybox-static")
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy2(busybox, root / "bin/busybox")
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        if not (root / "bin" / name).is_symlink() and name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
