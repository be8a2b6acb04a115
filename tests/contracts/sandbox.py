"""The private world in which real callers (podman, containerd, dockerd, buildah) run, seen from the outside.

Owns starting and ending that world (holder.py), running programs in it, and finding what was left behind in it.
Invariant: it only kills processes that it started, and always by process id.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness import Json, Option


HOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "holder.py")
BASE = "/run/contracts"
CONTAINER_ID = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_+.-]*")  # other names in a state root belong to the runtime
CGROUP_ROOT = "/sys/fs/cgroup"
USER, UID = "tester", 4321
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


Found = TypeVar("Found")


class TimedOut(Exception):
    """A program in the world did not end within its (generous) time limit."""


class Result:
    """The result of a program: its exit status and all its output."""

    def __init__(self, argv: Sequence[str], status: int | None, out: str, err: str) -> None:
        self.argv, self.status, self.out, self.err = argv, status, out, err

    @property
    def text(self) -> str:
        return self.out + self.err

    def ok(self) -> Result:
        """Returns the result itself if the program succeeded; otherwise raises an AssertionError that shows everything."""
        return self.exits(0)

    def exits(self, status: int) -> Result:
        assert self.status == status, f"exit status {self.status}, expected {status}\n{self}"
        return self

    def __repr__(self) -> str:
        return f"$ {' '.join(self.argv)}\n-> {self.status}\nstdout: {self.out}\nstderr: {self.err}"


def wait_until(what: str | Callable[[], str], check: Callable[[], Found], seconds: float = 60) -> Found:
    """Polls `check` until it returns a true value, and returns that value; fails with `what` after a generous time."""
    end = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"still not so after {seconds} s: {what() if callable(what) else what}")
        select.select([], [], [], 0.02)


def read(path: str) -> str:
    """The text of a file, or "" if it is gone (processes and cgroups may disappear at any time)."""
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


class Sandbox:
    """A private world. `cgroup` is the name of the parent cgroup for the containers of the callers; it is unique to this run."""

    def __init__(self, keep: Sequence[str] = (), programs: str | None = None) -> None:
        """`keep`: directories that stay visible. `programs`: a directory whose programs take precedence over those of the system."""
        self.cgroup = f"oc-contracts-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.daemons: dict[str, subprocess.Popen[Json]] = {}
        self.holder = subprocess.Popen([sys.executable, "-I", HOLDER, *keep], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdin and self.holder.stdout
        self.pid = int(self.holder.stdout.readline() or 0)
        if self.holder.stdout.readline() != "ready\n":
            raise RuntimeError("the private namespaces could not be made (root is needed); see the message above")
        for name in ("home", "tmp"):
            os.makedirs(self.outer(f"{BASE}/{name}"))
        self.env = {
            "PATH": f"{programs}:{SYSTEM_PATH}" if programs else SYSTEM_PATH,
            "HOME": f"{BASE}/home",
            "TMPDIR": f"{BASE}/tmp",
            "TERM": "xterm",
            "XDG_RUNTIME_DIR": "",
        }
        self.forgotten: set[str] = set()
        self.first_mounts = set(self.mounts())
        self.first_cgroups = self.stray_cgroups()

    # -- programs ------------------------------------------------------------------------------------------------------

    def outer(self, path: str) -> str:
        """The path of a file in the world, as seen from this process."""
        return f"/proc/{self.pid}/root{path}"

    def argv(self, argv: Sequence[str]) -> list[str]:
        return ["nsenter", "--target", str(self.pid), "--mount", "--net", "--pid", "--", *argv]

    def popen(self, argv: Sequence[str], env: Mapping[str, str] | None = None, **options: Option) -> subprocess.Popen[Json]:
        return subprocess.Popen(self.argv(argv), env={**self.env, **(env or {})}, **options)

    def socket(self) -> socket.socket:
        """A TCP socket in the network namespace of the world; this process then returns to its own namespace."""
        places = [f"/proc/{name}/ns/net" for name in ("thread-self", self.pid)]
        own, inside = (os.open(place, os.O_RDONLY | os.O_CLOEXEC) for place in places)
        try:
            os.setns(inside, os.CLONE_NEWNET)
            try:
                return socket.socket()
            finally:
                os.setns(own, os.CLONE_NEWNET)
        finally:
            os.close(own)
            os.close(inside)

    def run(
        self,
        argv: Sequence[str],
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        seconds: float = 90,
        cwd: str | None = None,
    ) -> Result:
        """Runs a program to its end. `stdin` is text for it; without that it reads /dev/null."""
        argv = ["env", "-C", cwd, *argv] if cwd else list(argv)
        with self.popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
        ) as process:
            try:
                out, err = process.communicate(stdin, timeout=seconds)
            except subprocess.TimeoutExpired:
                self.end(process, signal.SIGKILL)
                out, err = process.communicate()
                raise TimedOut(f"not done after {seconds} s\n{Result(argv, None, out, err)}") from None
        return Result(argv, process.returncode, out, err)

    def run_together(self, commands: Sequence[Sequence[str]], env: Mapping[str, str] | None = None, seconds: float = 120) -> list[Result]:
        """Runs several programs at the same time; returns their results in the same order."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes = [self.popen(argv, env=env, **pipes) for argv in commands]
        results = []
        for argv, process in zip(commands, processes, strict=True):
            out, err = process.communicate(timeout=seconds)
            results.append(Result(argv, process.returncode, out, err))
        return results

    def run_on_tty(self, argv: Sequence[str], seconds: float = 90) -> Result:
        """Runs a program on a new terminal; its output is what the terminal showed."""
        master, slave = os.openpty()
        process = self.popen(["setsid", "-c", "-w", *argv], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        end, shown = time.monotonic() + seconds, b""
        while True:
            left = end - time.monotonic()
            if left <= 0 or not select.select([master], [], [], left)[0]:
                self.end(process, signal.SIGKILL)
                process.wait()
                raise TimedOut(f"not done after {seconds} s\n{Result(argv, None, shown.decode(errors='replace'), '')}")
            try:
                data = os.read(master, 65536)
            except OSError:
                data = b""
            if not data:
                break
            shown += data
        os.close(master)
        return Result(argv, process.wait(), shown.decode(errors="surrogateescape"), "")

    @staticmethod
    def child(process: subprocess.Popen[Json]) -> int | None:
        """The program that nsenter runs, which is its only child (nsenter has to fork to enter a process namespace)."""
        children = read(f"/proc/{process.pid}/task/{process.pid}/children").split()
        return int(children[0]) if children else None

    def end(self, process: subprocess.Popen[Json], number: int) -> None:
        child = self.child(process)
        if child:
            os.kill(child, number)

    def start_daemon(self, name: str, argv: Sequence[str], ready: Callable[[], object], env: Mapping[str, str] | None = None) -> None:
        """Starts a daemon and waits until `ready()`; its output goes to BASE/NAME.log."""
        with open(self.outer(f"{BASE}/{name}.log"), "w") as log:
            process = self.popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.daemons[name] = process

        def check() -> object:
            if process.poll() is not None:
                raise AssertionError(f"{name} ended with {process.returncode}:\n{self.log(name)}")
            return ready()

        wait_until(lambda: f"{name} answers; its log:\n{self.log(name)}", check, 60)

    def log(self, name: str) -> str:
        return read(self.outer(f"{BASE}/{name}.log"))[-6000:]

    def stop_daemon(self, name: str) -> None:
        process = self.daemons.pop(name, None)
        if process is None:
            return
        self.end(process, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            self.end(process, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"{name} did not end on SIGTERM:\n{self.log(name)}") from None

    def close(self) -> list[str]:
        """Ends the world: the kernel kills all its processes and drops its mounts. Then removes our cgroups; returns those that are still in use and
        can't be removed."""
        assert self.holder.stdin and self.holder.stdout
        handles = [os.open(path, os.O_PATH) for path in self.hierarchies()]  # keeps hierarchies alive that are only mounted in the world
        self.holder.stdin.close()
        self.holder.wait()
        self.holder.stdout.close()
        left = []
        for handle in handles:
            for path, _, _ in os.walk(f"/proc/self/fd/{handle}/{self.cgroup}", topdown=False):
                try:
                    os.rmdir(path)
                except OSError:
                    left.append(path)
            os.close(handle)
        return left

    # -- files ---------------------------------------------------------------------------------------------------------

    def write(self, path: str, text: str | bytes, mode: int = 0o644) -> str:
        outer = self.outer(path)
        os.makedirs(os.path.dirname(outer), exist_ok=True)
        with open(outer, "wb" if isinstance(text, bytes) else "w") as file:
            file.write(text)
        os.chmod(outer, mode)
        return path

    def read(self, path: str) -> str:
        return read(self.outer(path))

    def exists(self, path: str) -> bool:
        return os.path.exists(self.outer(path))

    def add_user(self) -> None:
        """Creates an ordinary user in the world, with subordinate ids, in a writable overlay on /etc: the real one is not changed."""
        if self.exists(f"{BASE}/etc-upper"):
            return
        for name in ("etc-upper", "etc-work"):
            os.makedirs(self.outer(f"{BASE}/{name}"))
        layers = f"lowerdir=/etc,upperdir={BASE}/etc-upper,workdir={BASE}/etc-work"
        self.run(["mount", "-t", "overlay", "-o", layers, "overlay", "/etc"]).ok()
        self.first_mounts.add("/etc")
        for name, line in (
            ("passwd", f"{USER}:x:{UID}:{UID}::{BASE}/tester:/bin/sh\n"),
            ("group", f"{USER}:x:{UID}:\n"),
            ("subuid", f"{USER}:200000:65536\n"),
            ("subgid", f"{USER}:200000:65536\n"),
        ):
            self.write(f"/etc/{name}", self.read(f"/etc/{name}") + line)

    # -- state of the world --------------------------------------------------------------------------------------------

    def inner_pid(self, host_pid: int | str) -> int | None:
        for line in read(f"/proc/{host_pid}/status").splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
        return None

    def processes(self) -> dict[int, str]:
        """{process id: command line} in the world, without the holder, the daemons, and the process that keeps rootless podman's namespace."""
        known = {1} | {self.inner_pid(child) for child in map(self.child, self.daemons.values()) if child}
        found = {}
        for name in os.listdir(self.outer("/proc")):
            if name.isdigit() and int(name) not in known:
                words = read(self.outer(f"/proc/{name}/cmdline")).replace("\0", " ").strip()
                status = read(self.outer(f"/proc/{name}/stat"))
                if status and words not in ("podman", "catatonit -P"):
                    found[int(name)] = words or status
        return found

    def mounts(self) -> list[str]:
        """Mount points in the world that are not part of the permanent setup of a caller."""
        standing = ("/netns/default", "/run/netns", "/podman/root/overlay", "/docker/overlay2", "/containerd/io.containerd.grpc")
        points = [line.split(" ")[4] for line in read(f"/proc/{self.pid}/mountinfo").splitlines()]
        return [point for point in points if not point.endswith(standing)]

    def new_mounts(self) -> list[str]:
        return [point for point in self.mounts() if point not in self.first_mounts]

    def hierarchies(self) -> list[str]:
        """Mount points of the cgroup hierarchies as seen from this process: one (v2) or one per controller (v1, hybrid)."""
        root = self.outer(CGROUP_ROOT)
        if os.path.exists(f"{root}/cgroup.controllers"):
            return [root]
        return [f"{root}/{name}" for name in os.listdir(root) if not os.path.islink(f"{root}/{name}")]

    def cgroups(self) -> list[str]:
        """Our cgroup and the directories below it, in every hierarchy."""
        found = []
        for hierarchy in self.hierarchies():
            for path, _, _ in os.walk(os.path.join(hierarchy, self.cgroup)):
                found.append(path)
        return found

    def container_cgroups(self) -> list[str]:
        """Like cgroups(), without the permanent ones: our own, that of podman for conmon, and that of BuildKit for its steps."""
        standing = (self.cgroup, f"{self.cgroup}/conmon", f"{self.cgroup}/buildkit")
        return [path for path in self.cgroups() if not path.endswith(standing)]

    def stray_cgroups(self) -> set[str]:
        """cgroups of containers whose caller sets no cgroupsPath (buildah, BuildKit): children or siblings of our cgroup."""
        found: set[str] = set()
        for hierarchy in self.hierarchies():
            for path, names, _ in os.walk(hierarchy):
                found.update(os.path.join(path, name) for name in names if name.startswith("buildah-"))
        return found

    def listing(self, path: str) -> list[str]:
        """The paths of the entries in a directory; none if it doesn't exist."""
        try:
            return [f"{path}/{name}" for name in os.listdir(self.outer(path))]
        except OSError:
            return []

    def state_directories(self) -> list[str]:
        """Containers that a runtime still knows: entries in the state roots that callers use."""
        roots = [f"/run/{name}" for name in ("runc", "crun", "pyrunc", "youki")]
        roots += self.listing("/run/containerd/runc")
        for path in self.listing(f"{BASE}/docker-run") + self.listing(f"{BASE}/remapped-run"):
            if "/runtime-" in path:
                roots += self.listing(path)
        return [path for root in roots for path in self.listing(root) if CONTAINER_ID.fullmatch(os.path.basename(path))]

    def leftovers(self) -> list[str]:
        """Everything that a finished container must not leave behind, as lines of text."""
        lines = [f"process {pid}: {words}" for pid, words in sorted(self.processes().items())]
        lines += [f"mount {point}" for point in self.new_mounts()]
        lines += [f"cgroup {path}" for path in self.container_cgroups()]
        lines += [f"cgroup {path}" for path in sorted(self.stray_cgroups() - self.first_cgroups)]
        lines += [f"state {path}" for path in self.state_directories()]
        return [line for line in lines if line not in self.forgotten]

    def forget(self) -> None:
        """Ignores from now on what is left now, so that one failed test doesn't make all later ones fail."""
        self.forgotten.update(self.leftovers())
