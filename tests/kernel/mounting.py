"""The mounts of a container without the rest of the runtime: the parts make the plans, the verbs are called directly in a cloned child, and
the child then sends back what it sees as JSON.

    world.go({"mounts": [...]}, look=lambda see: see.mounts())

`look` runs inside, after all verbs, with the root of the container as its root. At the end, World checks that the host has not changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import traceback
from types import SimpleNamespace
from typing import TYPE_CHECKING

from fakes import hand
from pyrunc.engine import handshake, steps
from pyrunc.errors import PyruncError
from pyrunc.linux import _syscalls, constants, ns, proc
from pyrunc.parts import devices, mounts, paths, root

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Mapping, Sequence

    from harness import Json, Option


OUTER = 100000  # the host id of container id 0, in tests with a user namespace
COUNT = 65536
MAP = {"uid": [[0, OUTER, COUNT]], "gid": [[0, OUTER, COUNT]]}
PROC = {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}
DEV = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}
PTS = {
    "destination": "/dev/pts", "type": "devpts", "source": "devpts",
    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
}  # fmt: skip
SYS = {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}
STEPS = (
    (root, "init_prepare"),
    (mounts, "init_mount"),
    (devices, "init_make"),
    (None, "between"),
    (root, "init_pivot"),
    (mounts, "init_finish"),
    (paths, "init_readonly"),
    (paths, "init_mask"),
    (root, "init_finish"),
)


def bind(source: str, destination: str, *options: str) -> Json:
    return {"destination": destination, "type": "none", "source": str(source), "options": list(options) or ["rbind"]}


def tmpfs(destination: str, *options: str) -> Json:
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


class See:
    """The view from inside. `run` is the run that the verbs used."""

    def __init__(self, run: Json) -> None:
        self.run = run

    def mounts(self) -> Json:
        """[{"id", "parent", "root", "point", "flags", "tags", "type", "source", "super"}] of our mount namespace."""
        found = []
        for line in self.run.proc.read("self/mountinfo", 16 << 20).decode().splitlines():
            head, _, tail = line.partition(" - ")
            head, tail = head.split(" "), tail.split(" ")
            found.append({
                "id": int(head[0]), "parent": int(head[1]), "root": head[3], "point": head[4], "flags": head[5].split(","),
                "tags": head[6:], "type": tail[0], "source": tail[1], "super": tail[2].split(","),
            })  # fmt: skip
        return found

    def mount(self, point: str) -> Json:
        """The topmost mount at `point`; None if there is none."""
        return ([None] + [m for m in self.mounts() if m["point"] == point])[-1]

    def listing(self, path: str) -> Json:
        """{name: "c 1:3 666 0:0" | "-> target" | "d 755 0:0" | "f 644 0:0"}."""
        return {name: self.node(path.rstrip("/") + "/" + name) for name in sorted(os.listdir(path))}

    def node(self, path: str | os.PathLike[str]) -> str | None:
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(info.st_mode):
            return "-> " + os.readlink(path)
        tail = "%o %d:%d" % (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
        for test, letter in ((stat.S_ISCHR, "c"), (stat.S_ISBLK, "b")):
            if test(info.st_mode):
                return "%s %d:%d %s" % (letter, os.major(info.st_rdev), os.minor(info.st_rdev), tail)
        for test, letter in ((stat.S_ISDIR, "d"), (stat.S_ISREG, "f"), (stat.S_ISFIFO, "p"), (stat.S_ISSOCK, "s")):
            if test(info.st_mode):
                return "%s %s" % (letter, tail)
        return "?"

    def read(self, path: str | os.PathLike[str]) -> str:
        with open(path, encoding="utf-8") as file:
            return file.read()

    def write(self, path: str | os.PathLike[str], text: str = "x") -> str:
        """ "ok" or the name of the error."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        except OSError as e:
            return os.strerror(e.errno or 0)
        try:
            os.write(fd, text.encode())
        except OSError as e:
            return os.strerror(e.errno or 0)
        finally:
            os.close(fd)
        return "ok"


class World:
    """A bundle with an empty root (R), and a directory outside of it (O) with the file `victim`."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.bundle = path / "bundle"
        self.rootfs = self.bundle / "rootfs"
        self.outside = path / "outside"
        self.rootfs.mkdir(parents=True)
        self.outside.mkdir()
        for name in ("proc", "sys", "dev", "tmp", "etc"):
            (self.rootfs / name).mkdir()
        (self.outside / "victim").write_text("as it was\n")
        for above in (path, self.bundle):
            above.chmod(0o755)
        self.before: Json = None
        self.mounted: list[str] = []

    def freeze(self) -> None:
        """From now on the host must not change. `go` calls this unless the test has done so."""
        if self.before is None:
            self.before = self.host()

    def host(self) -> Json:
        table = sorted(line.split(" ", 3)[2:] for line in open("/proc/self/mountinfo", encoding="utf-8").read().splitlines())
        return {"outside": snapshot(self.outside), "mounts": [line for line in table if str(self.path) in line[1]]}

    def close(self) -> None:
        try:
            if self.before is not None:
                assert self.host() == self.before, "the host has changed"
        finally:
            for path in reversed(self.mounted):
                _syscalls.umount2(path, constants.MNT_DETACH)

    def mount(self, path: str | os.PathLike[str], flags: int = 0, data: str | None = None, shared: bool = False) -> Json:
        """A tmpfs on the host, in the directory of this world; unmounted at the end."""
        path = str(path)
        os.makedirs(path, exist_ok=True)
        _syscalls.mount("tmpfs", path, "tmpfs", flags, data)
        self.mounted.append(path)
        _syscalls.mount(None, path, None, constants.MS_SHARED if shared else constants.MS_PRIVATE, None)

    def plan(
        self,
        config: Json,
        namespaces: Sequence[str] = (),
        userns: bool = False,
        options: Json = None,
        join: Mapping[str, str] | None = None,
    ) -> Json:
        names = [n for n in ("mount", "pid", *namespaces, *(("user",) if userns else ())) if n not in (join or {})]
        plans = {"namespaces": hand.namespaces(*names, join=join)}
        if userns:
            plans["idmaps"] = {**MAP, "newuidmap": None, "newgidmap": None, "setgroups": "allow"}
        ctx = hand.Ctx(plans, options)
        ctx.bundle = str(self.bundle)
        linux = config.get("linux", {})
        nodes = (
            (
                "root",
                root,
                {"/root": {"path": "rootfs", **config.get("root", {})}, "/linux/rootfsPropagation": linux.get("rootfsPropagation")},
            ),
            ("mounts", mounts, {"/mounts": config.get("mounts", [])}),
            ("paths", paths, {"/linux/maskedPaths": linux.get("maskedPaths"), "/linux/readonlyPaths": linux.get("readonlyPaths")}),
            ("devices", devices, {"/linux/devices": linux.get("devices")}),
        )
        ctx.plans.update(config.get("plans", {}))
        for name, part, node in nodes:
            ctx.plans[name] = part.plan(node, ctx)
        return ctx.plans

    def go(
        self, config: Json, look: Callable[..., object] | None = None, between: Callable[..., object] | None = None, **how: Option
    ) -> Json:
        """Makes the plan, then calls the verbs in a child; returns the result of `look(See)`. If a verb fails, its StepFailure is raised here."""
        self.freeze()
        plans = self.plan(config, **how)
        host, mine = handshake.pair()
        wanted = set(plans["namespaces"]["new"]) - {"cgroup"}
        flags = 0
        for name in wanted:
            flags |= ns.FLAGS[name]
        pid, pidfd = _syscalls.clone3(flags)
        if pid == 0:
            _child(mine, host, plans, self.bundle, look, between)
        mine.close()
        try:
            return self._serve(host, plans, pid)
        finally:
            host.close()
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            os.close(pidfd)

    def _serve(self, link: handshake.Link, plans: Json, pid: int) -> Json:
        if plans["namespaces"]["userns"]:
            for which in ("uid", "gid"):
                with open("/proc/%d/%s_map" % (pid, which), "w", encoding="ascii") as file:
                    file.write("".join("%d %d %d\n" % tuple(line) for line in MAP[which]))
        link.send(b"p")
        while True:
            message, data, _fds = link.receive()
            if message == handshake.ASK:
                run = SimpleNamespace(pid=pid, plans=plans)
                answer, fds = steps.call(data["part"], "host_answer", "host", plans[data["part"]], run, data["request"])
                link.send(handshake.ANSWER, answer, fds)
                for fd in fds:
                    os.close(fd)
            elif message == b"v":
                return data
            elif message == handshake.FAILED:
                raise steps.rebuild(data, "init")
            else:
                raise AssertionError("the child ended without an answer" if message == b"" else data)


def _child(
    link: handshake.Link,
    other: handshake.Link,
    plans: Json,
    bundle: pathlib.Path,
    look: Callable[..., object] | None,
    between: Callable[..., object] | None,
) -> None:
    try:
        other.close()
        os.setsid()
        os.chdir(bundle)
        link.expect(b"p")
        if plans["namespaces"]["userns"]:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        if "cgroup" in plans["namespaces"]["new"]:
            _syscalls.unshare(constants.CLONE_NEWCGROUP)
        run = hand.Run(plans, id="c1", bundle=str(bundle), proc=proc.Proc().prepare(True), link=link, ask=link.ask)
        for part, verb in STEPS:
            name = part.__name__.rpartition(".")[2] if part else None
            if part is None:
                if between is not None:
                    between(See(run))
            elif plans.get(name) is not None:
                steps.call(name, verb, "init", plans[name], run)
        value = look(See(run)) if look else None
        link.sock.send(b"v" + json.dumps(value).encode())
    except PyruncError as e:
        link.sock.send(handshake.FAILED + json.dumps(e.record()).encode())
    except BaseException:
        link.sock.send(b"t" + json.dumps(traceback.format_exc()).encode())
    finally:
        os._exit(0)


def snapshot(top: pathlib.Path) -> dict[str, list[object]]:
    """{path: type, mode, owner, times, content} of a tree; links are not followed."""
    found = {}
    for folder, names, files in os.walk(top):
        for name in [".", *names, *files]:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            content = None
            if stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            found[os.path.relpath(path, top)] = [info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, info.st_rdev, content]
    return found
