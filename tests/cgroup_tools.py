"""Handmade ctx, run and cgroup directories for the tests of cgroups, resources and rdt."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import types
from typing import TYPE_CHECKING, cast

from pyrunc.cgroup import kill
from pyrunc.cgroup.hierarchies import layout as read_layout
from pyrunc.errors import CallError
from pyrunc.parts import cgroups, resources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from harness import Json, Option
    from pyrunc.cgroup.group import Group


HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime shared:7 - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
38 31 0:35 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
HYBRID_OWN = """\
9:name=systemd:/user.slice
8:pids:/a
5:devices:/a
4:memory:/a/b
3:cpuset:/
2:cpu,cpuacct:/a
6:freezer:/
0::/user.slice/s
"""
V1 = HYBRID.replace("41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n", "")
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V2_OWN = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.service\n"


def layout(kind: str = "hybrid") -> Json:
    return {
        "hybrid": lambda: read_layout(HYBRID, HYBRID_OWN),
        "v1": lambda: read_layout(V1, HYBRID_OWN),
        "v2": lambda: read_layout(V2, V2_OWN),
        "none": lambda: read_layout("", ""),
    }[kind]()


def make_ctx(
    id: str = "c1", plans: Json = None, config: Json = None, euid: int = 0, in_userns: bool = False, **options: Option
) -> types.SimpleNamespace:
    """A planning context; options override the defaults."""
    base = {"systemd_cgroup": False, "cgroup_manager": "cgroupfs", "rootless": "auto", "command": "create"}
    base.update(options)
    ctx = types.SimpleNamespace(
        id=id, bundle="/bundle", config=config or {}, options=base, plans=plans or {}, euid=euid, in_userns=in_userns, warnings=[]
    )
    ctx.warn = lambda pointer, text: ctx.warnings.append((pointer, text))
    return ctx


class StateDir:
    def __init__(self) -> None:
        self.state: Json = {"cgroup_paths": {}}


class Run:
    """The members of a run that verbs use. `records` keeps every record in order."""

    def __init__(self, plans: Json, options: Json = None) -> None:
        self.plans = plans
        self.options = options or {}
        self.state_dir = StateDir()
        self.cgroup_fd = -1
        self.fds: dict[str, int] = {}
        self.pid = 0
        self.id = ""
        self.host_env: list[bytes] = []
        self.records: list[tuple[str, Json]] = []

    def record(self, key: str, value: Json) -> None:
        self.records.append((key, value))
        self.state_dir.state[key] = value

    def record_all(self, values: dict[str, Json]) -> None:
        for key, value in values.items():
            self.record(key, value)


class Files:
    """A fake of cgroup.group.Group (hence the casts) with a dictionary of files. `refuse`: {(name, value): errno} or {name: errno}; each entry is
    used once."""

    def __init__(
        self,
        files: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        refuse: Mapping[Json, int] | Iterable[tuple[Json, int]] = (),
        key: str = "memory",
    ) -> None:
        self.files = dict(files)
        self.refuse = dict(refuse)
        self.key = key
        self.path = "/sys/fs/cgroup/" + key
        self.written: list[str] = []

    def look(self, name: str) -> str | None:
        return self.files.get(name)

    def number(self, name: str) -> int | None:
        text = self.files.get(name)
        return int(text) if text is not None and text.strip().lstrip("-").isdigit() else None

    def has(self, name: str) -> bool:
        return name in self.files

    def put(self, name: str, value: str) -> None:
        number = self.refuse.pop((name, value), None) or self.refuse.pop(name, None)
        if number:
            raise CallError(number, "refused", self.path + "/" + name, "write" if number != errno.ENOENT else "open")
        self.files[name] = value
        self.written.append("%s=%s" % (name, value))

    def write(self, name: str, value: str, pointer: str | None = None) -> None:
        from pyrunc.cgroup.group import Group

        try:
            self.put(name, value)
        except OSError as e:
            raise Group.failure(cast("Group", self), e, name, value, pointer) from None

    def failure(self, *args: Json) -> Exception:
        from pyrunc.cgroup.group import Group

        return Group.failure(cast("Group", self), *args)


TOP = "pyrunc-test-%d" % os.getpid()


class LiveGroup:
    """The cgroups of a container without the container: children of the test run in them."""

    def __init__(self, path: str | None, node: Json = None, **kw: Option) -> None:
        self.ctx = make_ctx(**kw)
        self.entry = cgroups.plan({} if path is None else {"/linux/cgroupsPath": path}, self.ctx)
        self.ctx.plans["cgroups"] = self.entry
        self.resources = resources.plan({resources.POINTER: node} if node else {}, self.ctx)
        self.run = Run({"cgroups": self.entry, "resources": self.resources})
        self.pids: list[int] = []

    @property
    def paths(self) -> Json:
        return self.run.state_dir.state["cgroup_paths"]

    def make(self) -> LiveGroup:
        cgroups.host_make(self.entry, self.run)
        return self

    def apply(self) -> LiveGroup:
        resources.host_apply(self.resources, self.run)
        return self

    def start(self, action: Callable[[], object] | None = None, wait: bool = True) -> Json:
        """Starts a child that enters the cgroups like init, then calls `action` (or sleeps forever). Returns its pid, or the result of `action`;
        with wait=False it returns immediately."""
        ready, go = os.pipe()
        out_read, out_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(go)
                os.read(ready, 1)
                cgroups.init_place(self.entry, self.run)
                os.write(out_write, b"+")
                os.write(out_write, ("%s" % action()).encode()) if action else signal.pause()
            except BaseException as e:
                os.write(out_write, ("%s: %s" % (type(e).__name__, e)).encode())
            finally:
                os._exit(0)
        self.pids.append(pid)
        os.close(ready)
        os.close(out_write)
        self.run.pid = pid
        try:
            cgroups.host_place(self.entry, self.run)
        finally:
            os.close(go)
        assert os.read(out_read, 1) == b"+", os.read(out_read, 65536)
        text = os.read(out_read, 65536).decode() if action and wait else ""
        os.close(out_read)
        return text if action else pid

    def undo(self) -> None:
        cgroups.undo_make(self.entry, self.run)

    def end(self) -> None:
        kill.end_all(self.paths)
        for pid in self.pids:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) == (0, 0):  # it has not entered the cgroup, or is exiting
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
        self.undo()


@contextlib.contextmanager
def live_groups() -> Iterator[Callable[..., LiveGroup]]:
    """make(path, resources, **ctx) -> LiveGroup. At the end all processes are killed, and their common directory is removed."""
    made = []

    def make(path: str | None = "/%s/a" % TOP, node: Json = None, **kw: Option) -> LiveGroup:
        made.append(LiveGroup(path, node, **kw))
        return made[-1]

    try:
        yield make
    finally:
        for one in reversed(made):
            one.end()
        for top in [mount[0] + "/" + TOP for mount in read_layout().mounts.values()]:
            if os.path.exists(top):
                os.rmdir(top)  # a sibling of an earlier test may have kept it; fails if anything else is left
