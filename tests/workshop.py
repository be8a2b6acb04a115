"""Makes bundles for the tests, quickly."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import sys
from typing import TYPE_CHECKING

from harness import BASE, ROOT, Bundle, patch, within_limits

sys.path.insert(0, str(ROOT / "bundles"))
import make_rootfs  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness import Json, Option

# The applets that tests run. All that busybox has are 270, and a link for each takes longer than to create the container.
APPLETS = """
    [ adjtimex arch bc cat chmod chown chroot clear cp cut date dd dirname echo env fallocate false find free grep groups head hostname httpd
    id ionice ip kill link ln ls mkdir mkfifo mknod modprobe mount mv nc nice nsenter passwd pivot_root printf ps pwd readlink realpath reboot
    rm rmdir sed seq setpriv setsid sh sha256sum sleep sort stat strings stty su swapoff swapon sync sysctl tail tar tee test timeout top touch
    tr true truncate tty umount uname unlink unshare uptime usleep wc wget which xargs yes
""".split()


class Workshop:
    """Creates bundles quickly: one busybox root for the session, hard-linked into the tree of each bundle."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = pathlib.Path(directory)
        self.busybox = self.directory / "busybox"
        shutil.copyfile(make_rootfs.busybox_path(), self.busybox)
        self.busybox.chmod(0o755)
        self.names = sorted(set(APPLETS) & set(make_rootfs.applets(str(self.busybox))))
        self.count = 0

    def bundle(
        self,
        changes: Mapping[str, Json] | None = None,
        config: Json = None,
        args: Sequence[str] | None = None,
        cgroup: str | None = None,
        link: bool = True,
    ) -> Bundle:
        """A new bundle: BASE (or `config`) with `changes` applied. `link=False` is for tests in which something writes to busybox."""
        self.count += 1
        path = self.directory / ("b%d" % self.count)
        make_rootfs.make_rootfs(str(path / "rootfs"), str(self.busybox), link, self.names)
        config = patch(BASE if config is None else config, changes or {})
        if args is not None:
            config["process"]["args"] = args
        linux = config.get("linux") if isinstance(config, dict) else None
        if cgroup is not None and isinstance(linux, dict):
            linux.setdefault("cgroupsPath", "%s-b%d" % (cgroup, self.count))
        return Bundle(path, config).write()

    def example(self, name: str, cgroup: str | None = None) -> Bundle:
        """bundles/NAME, ready to run; its cgroup is below that of the session."""
        self.count += 1
        path = self.directory / ("b%d" % self.count)
        make_rootfs.make_bundle(name, str(path))
        config = json.loads((path / "config.json").read_text())
        if cgroup is not None:
            config["linux"]["cgroupsPath"] = "%s-b%d" % (cgroup, self.count)
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):  # version 2, which has no control for it
            config["linux"].get("resources", {}).get("memory", {}).pop("swappiness", None)
        return Bundle(path, within_limits(config)).write()


class MakeBundle:
    """Creates the bundles of one test; see the fixture make_bundle."""

    def __init__(self, workshop: Workshop, cgroup: str) -> None:
        self.workshop = workshop
        self.cgroup = cgroup
        self.made: list[Bundle] = []

    def __call__(self, changes: Mapping[str, Json] | None = None, **kw: Option) -> Bundle:
        self.made.append(self.workshop.bundle(changes, cgroup=self.cgroup, **kw))
        return self.made[-1]

    def example(self, name: str) -> Bundle:
        self.made.append(self.workshop.example(name, self.cgroup))
        return self.made[-1]
