"""Handmade ctx and run for tests of parts: the members that plans and verbs may use, without side effects."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from harness import Json, Option


OPTIONS = {
    "command": "create", "detach": True, "console_socket": None, "preserve_fds": 0, "listen_fds": 0, "inherited_fds": [],
    "notify_socket": None, "no_new_keyring": False,
}  # fmt: skip
NO_NAMESPACES = {"new": [], "join": {}, "flags": 0, "userns": False, "host_net": True, "host": [], "pointers": {}, "outside": False}


def namespaces(*new: str, join: Mapping[str, str] | None = None) -> Json:
    """A plan entry of the namespaces part."""
    join = join or {}
    here = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
    return {
        **NO_NAMESPACES, "new": list(new), "join": join, "userns": "user" in new or "user" in join,
        "host_net": "network" not in new and "network" not in join,
        "host": [kind for kind in here if kind not in new and kind not in join],
        "pointers": {kind: "/linux/namespaces/%d" % i for i, kind in enumerate([*new, *join])},
    }  # fmt: skip


def open_files() -> list[str]:
    """The numbers of this process's descriptors."""
    return sorted(os.listdir("/proc/self/fd"))


def failing(number: int) -> Callable[..., NoReturn]:
    """A function that fails with an errno, whatever it is given."""

    def fail(*_words: object, **_more: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


class Ctx:
    """The context of a plan. `warnings` collects [pointer, text]."""

    def __init__(
        self,
        plans: Json = None,
        options: Json = None,
        config: Json = None,
        in_userns: bool = False,
        probe: Json = None,
        root: str = "/run/t",
        id: str = "c1",
    ) -> None:
        self.id, self.bundle, self.root, self.euid = id, "/bundle", root, 0
        self.config = config if config is not None else {"process": {"cwd": "/"}}
        self.options = {**OPTIONS, **(options or {})}
        self.plans = {"namespaces": NO_NAMESPACES, "user": {"uid": 0, "gid": 0}, **(plans or {})}
        self.in_userns = in_userns
        self.probe = probe or SimpleNamespace(apparmor=lambda: False, selinux=lambda: False)
        self.warnings: list[list[str]] = []

    def notice(self, pointer: str, text: str) -> None:
        self.warn(pointer, text)

    def warn(self, pointer: str, text: str) -> None:
        self.warnings.append([pointer, text])


class Run:
    """The members of a run that a verb uses."""

    def __init__(self, plans: Json = None, options: Json = None, **more: Option) -> None:
        self.plans = plans or {}
        self.options = {**OPTIONS, **(options or {})}
        self.fds: dict[str, int] = {}
        self.config: Json = {}
        self.root_fd = -1
        self.own_mounts: list[int] = []
        self.userns_pid = 0
        self.may_be_traced = False
        self.late_filter = self.exec_env = None
        self.__dict__.update(more)
