"""The first process of the private world in which the daemons of the callers run.

It owns one rule: when its standard input ends, everything started inside ends with it. There are new mount, network and process namespaces
(mount_namespaces(7), network_namespaces(7), pid_namespaces(7)); `/run`, `/var/tmp` and `/dev/shm` are new tmpfs mounts, so the hard-coded
paths of the callers (`/run/runc`, `/run/containerd/s`, `/dev/shm/libpod_lock`, …) are private. The mounts are shared among the processes
inside, as on a host with systemd, so that other processes see a mount that leaks out of a container; nothing propagates to the real host.

Run as a program: prints the process id of the inner process, then `ready`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
MS_REC, MS_PRIVATE, MS_SHARED = 1 << 14, 1 << 18, 1 << 20
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND = 2, 4, 8, 4096
PR_SET_PDEATHSIG = 1
CGROUP_ROOT = "/sys/fs/cgroup"

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: object) -> None:
    """Calls a libc function; on failure, raises OSError with its name."""
    if getattr(libc, name)(*args) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str | None = None) -> None:
    """mount(2) with str arguments."""
    as_bytes = [None if text is None else text.encode() for text in (source, target, fstype)]
    call("mount", *as_bytes, ctypes.c_ulong(flags), None if data is None else data.encode())


def every_hierarchy() -> None:
    """On version 1, each controller gets a mount point here, in a tmpfs of the world. containerd gives up on a process if a hierarchy in
    /proc/PID/cgroup is missing in its mount table (there are no metrics, and processes that the kernel kills for lack of memory are not
    reported), and criu, crun or another test may create such a hierarchy at any time."""
    if os.path.exists(CGROUP_ROOT + "/cgroup.controllers"):
        return
    links = {entry.name: os.readlink(entry) for entry in os.scandir(CGROUP_ROOT) if entry.is_symlink()}
    mounted: set[str] = set()
    handles: dict[str, int] = {}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            words = line.split()
            if os.path.dirname(words[4]) == CGROUP_ROOT:
                handles[os.path.basename(words[4])] = os.open(words[4], os.O_PATH)
                mounted.update(words[-1].split(","))
    mount("tmpfs", CGROUP_ROOT, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755")
    for name, handle in handles.items():
        os.mkdir(f"{CGROUP_ROOT}/{name}")
        mount(f"/proc/self/fd/{handle}", f"{CGROUP_ROOT}/{name}", None, MS_REC | MS_BIND)
        os.close(handle)
    for name, target in links.items():
        os.symlink(target, f"{CGROUP_ROOT}/{name}")
    with open("/proc/cgroups") as file:
        for name, _, _, enabled in (line.split() for line in file if not line.startswith("#")):
            if enabled == "1" and name not in mounted:
                os.mkdir(f"{CGROUP_ROOT}/{name}")
                try:
                    mount("cgroup", f"{CGROUP_ROOT}/{name}", "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, name)
                except OSError:  # in use by version 2, or mounted together with another one
                    os.rmdir(f"{CGROUP_ROOT}/{name}")


def inner(keep: Sequence[str]) -> None:
    """Sets up the private mounts, then reaps orphans forever. `keep`: directories below the covered ones that stay visible."""
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    handles = {path: os.open(path, os.O_PATH) for path in keep if path.startswith(("/run/", "/var/tmp/"))}
    for target, mode in (("/run", "0755"), ("/var/tmp", "1777"), ("/dev/shm", "1777")):
        mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode}")
    for path, handle in handles.items():
        os.makedirs(path)
        mount(f"/proc/self/fd/{handle}", path, None, MS_REC | MS_BIND)
        os.close(handle)
    every_hierarchy()
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount(None, "/", None, MS_REC | MS_SHARED)
    os.makedirs("/run/lock")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print("ready", flush=True)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.sigwait({signal.SIGCHLD})


def main() -> None:
    """The outer half: creates the namespaces, waits for the end of its standard input, and kills the inner half (and with it every process in the
    namespaces)."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    call("unshare", CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        inner(sys.argv[1:])
    print(child, flush=True)
    while os.read(0, 4096):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
