"""What the machine has: cgroups, security modules, NUMA nodes. And the suite's own mount namespace.

Rule: a case names what it needs; this module has the name, the check, and the text to show if it is missing.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from typing import TYPE_CHECKING

from oci_conformance import system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oci_conformance.shapes import Words


TOP = "/sys/fs/cgroup"
CAP_NET_ADMIN, CAP_SYS_NICE, CAP_SYS_RESOURCE = 12, 23, 24  # linux/capability.h
DEFAULT_UIDS = 100000  # host ids of the user namespaces in the cases


class Machine:
    def __init__(self, probe_is_compiled: bool = True) -> None:
        self.probe_is_compiled = probe_is_compiled
        self.kernel = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in platform.release().split(".")[:2])
        self.unified, self.controllers = hierarchies()
        self.cpus = sorted(os.sched_getaffinity(0))

    @property
    def pure_v2(self) -> bool:
        return self.unified == TOP

    def version_2(self, controller: str) -> bool:
        """Whether a controller is a version 2 controller here."""
        names = system.read(os.path.join(self.unified, "cgroup.controllers")) if self.unified else ""
        return controller not in self.controllers and controller in (names or "").split()

    def cgroup(self, controller: str, path: str) -> str | None:
        """The directory of a cgroupsPath in the hierarchy that has the controller, or None. `unified` is the version 2 hierarchy itself."""
        if controller in self.controllers:
            return self.controllers[controller] + path
        if self.unified and (controller == "unified" or self.version_2(controller)):
            return self.unified + path
        return None

    def directory(self, controller: str, path: str) -> str:
        """The same for a controller that exists because of a case's `needs`."""
        found = self.cgroup(controller, path)
        if found is None:
            raise LookupError("no %s controller is mounted" % controller)
        return found

    def cgroups(self) -> list[str]:
        """The mount points of all hierarchies."""
        return sorted({*self.controllers.values(), *([self.unified] if self.unified else [])})

    def lacks(self, need: str) -> str | None:
        """None if the machine has it, otherwise a sentence that says what is missing."""
        kind, _, name = need.partition(":")
        if kind == "controller":
            return None if self.cgroup(name, "") else "no %s controller is mounted" % name
        if kind == "v1" and name:
            return None if name in self.controllers else "there is no %s controller of version 1" % name
        has, words = NEEDS[need]
        return None if has(self) else words


def hierarchies() -> tuple[str | None, dict[str, str]]:
    """(mount point of version 2 or None, {controller: mount point} of version 1) as /proc/self/mountinfo shows them."""
    unified: str | None = None
    controllers: dict[str, str] = {}
    for line in (system.read("/proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        root, point = left.split()[3:5]
        kind, _, options = (right.split(" ", 2) + ["", ""])[:3]
        if kind == "cgroup2" and not unified:
            unified = point
        elif kind == "cgroup" and root == "/":
            for name in options.split(","):
                if name not in ("rw", "ro", "xattr", "clone_children", "noprefix"):
                    controllers.setdefault(name.removeprefix("name="), point)
    return unified, controllers


def delegated() -> bool:
    return os.path.exists("/sys/kernel/cgroup/delegate")


def swap() -> bool:
    return len((system.read("/proc/swaps") or "").splitlines()) > 1


def mounted(kind: str) -> bool:
    return any(" - %s " % kind in line for line in (system.read("/proc/self/mountinfo") or "").splitlines())


def apparmor() -> bool:
    return (system.read("/sys/module/apparmor/parameters/enabled") or "").startswith("Y")


def capability(number: int) -> bool:
    return bool(int(system.status_of("self").get("CapEff", "0"), 16) >> number & 1)


NEEDS: dict[str, tuple[Callable[[Machine], bool], str]] = {
    "probe": (lambda m: m.probe_is_compiled, "the probe is the shell script: no C compiler, and this case needs system calls"),
    "v1": (lambda m: bool(m.controllers), "there is no cgroup hierarchy of version 1"),
    "v2": (lambda m: m.pure_v2, "the machine has no pure version 2 cgroups"),
    "unified": (lambda m: bool(m.unified), "there is no cgroup hierarchy of version 2"),
    "delegate": (lambda m: delegated(), "the kernel has no /sys/kernel/cgroup/delegate"),
    "swap": (lambda m: swap() or "memory" in m.controllers, "there is no swap, so swap limits do not exist"),
    "apparmor": (lambda m: apparmor(), "AppArmor is not enabled"),
    "no-apparmor": (lambda m: not apparmor(), "AppArmor is enabled"),
    "selinux": (lambda m: os.path.exists("/sys/fs/selinux/enforce"), "SELinux is not enabled"),
    "no-selinux": (lambda m: not os.path.exists("/sys/fs/selinux/enforce"), "SELinux is enabled"),
    "resctrl": (lambda m: mounted("resctrl"), "no resctrl file system is mounted"),
    "no-resctrl": (lambda m: not mounted("resctrl"), "a resctrl file system is mounted"),
    "numa": (lambda m: os.path.exists("/proc/self/numa_maps"), "the kernel has no NUMA policies"),
    "two-cpus": (lambda m: len(m.cpus) > 1, "there is only one processor to run on"),
    "time-namespace": (lambda m: os.path.exists("/proc/self/ns/time"), "the kernel has no time namespaces"),
    "mount_setattr": (lambda m: m.kernel >= (5, 12), "the kernel is older than 5.12 and has no mount_setattr"),
    "idmap": (lambda m: m.kernel >= (6, 3), "the kernel is older than 6.3: no mappings on tmpfs"),
    "symfollow": (lambda m: m.kernel >= (5, 10), "the kernel is older than 5.10 and has no nosymfollow"),
    "rsymfollow": (lambda m: m.kernel >= (5, 14), "the kernel is older than 5.14 and has no recursive nosymfollow"),
    "user-namespace": (lambda m: system.read("/proc/sys/user/max_user_namespaces") != "0\n", "user namespaces are turned off"),
    "sys-resource": (lambda m: capability(CAP_SYS_RESOURCE), "this process has no CAP_SYS_RESOURCE"),
    "sys-nice": (lambda m: capability(CAP_SYS_NICE), "this process has no CAP_SYS_NICE"),
    "net-admin": (lambda m: capability(CAP_NET_ADMIN), "this process has no CAP_NET_ADMIN"),
    "block-device": (lambda m: block_device() is not None, "there is no block device"),
    "io-weight": (lambda m: weighted(m), "no I/O scheduler supports weights for cgroups"),
    "weighted-disk": (
        lambda m: block_device("[bfq]") is not None,
        "no disk uses bfq, the only scheduler that supports weights for cgroups",
    ),
    "realtime-cgroup": (lambda m: realtime(m), "the kernel has no realtime scheduling by cgroup"),
    "huge-pages": (lambda m: bool(huge_pages()), "the kernel has no huge pages"),
}


def block_device(scheduler: str = "") -> tuple[int, int] | None:
    """(major, minor) of a whole disk, or None. With a scheduler: of a disk that uses it."""
    for name in sorted(os.listdir("/sys/block")) if os.path.isdir("/sys/block") else []:
        numbers = (system.read("/sys/block/%s/dev" % name) or "").strip()
        if scheduler not in (system.read("/sys/block/%s/queue/scheduler" % name) or ""):
            continue
        if numbers and not name.startswith(("ram", "zram")) and (system.read("/sys/block/%s/size" % name) or "0").strip() != "0":
            major, minor = numbers.split(":")
            return int(major), int(minor)
    return None


def weighted(machine: Machine) -> bool:
    top = machine.controllers.get("blkio") or machine.unified or ""
    below = [top, *(os.path.join(top, name) for name in (os.listdir(top) if os.path.isdir(top) else []))]
    names = ("blkio.bfq.weight", "blkio.weight", "io.bfq.weight", "io.weight")
    return any(os.path.exists(os.path.join(directory, name)) for directory in below for name in names)


def realtime(machine: Machine) -> bool:
    top = machine.controllers.get("cpu")
    return top is not None and os.path.exists(os.path.join(top, "cpu.rt_runtime_us"))


def huge_pages() -> list[str]:
    """["2MB", …]: the page sizes in the hugetlb controller's notation."""
    found = []
    for name in sorted(os.listdir("/sys/kernel/mm/hugepages")) if os.path.isdir("/sys/kernel/mm/hugepages") else []:
        kib = int(name.removeprefix("hugepages-").removesuffix("kB"))
        found.append("%dGB" % (kib >> 20) if kib >= 1 << 20 else "%dMB" % (kib >> 10) if kib >= 1 << 10 else "%dKB" % kib)
    return found


@contextlib.contextmanager
def own_mounts() -> Iterator[None]:
    """Creates a private mount namespace for the suite, so that mounts that a runtime leaves behind do not affect the host. All controllers
    of a version 1 host are mounted there: crun assumes that every controller in /proc/cgroups is mounted, and fails otherwise."""
    system.unshare(system.CLONE_NEWNS)
    system.mount(None, "/", None, system.MS_REC | system.MS_PRIVATE)
    held: list[str] = []
    try:
        complete_cgroups(held)
    except OSError:
        pass  # a runtime that needs them will report it
    keeper = keep(held) if held else None
    try:
        yield
    finally:
        if keeper:
            os.kill(keeper, signal.SIGKILL)
            os.waitpid(keeper, 0)
        for point in held:
            try:
                os.rmdir(hold(point))
                system.umount(point, 0)
            except OSError:
                pass


def hold(point: str) -> str:
    """A cgroup for the duration of the run: a hierarchy without cgroups is destroyed when one of its mounts is unmounted, even if there are
    others, and then everything in it fails with ENODEV."""
    return os.path.join(point, "oci-conformance-%d" % os.getpid())


def keep(points: list[str]) -> int:
    """Starts a process in these cgroups, so that they are not considered abandoned. Returns its pid."""
    directories = [hold(point) for point in points]
    pid = os.fork()
    if not pid:
        try:
            system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.pause()
        finally:
            os._exit(0)
    for directory in directories:
        with open(os.path.join(directory, "cgroup.procs"), "w") as file:
            file.write(str(pid))
    return pid


def complete_cgroups(held: list[str]) -> None:
    unified, controllers = hierarchies()
    lines = [line.split() for line in (system.read("/proc/cgroups") or "").splitlines()[1:]]
    missing = [name for name, _, _, enabled in lines if enabled == "1" and name not in controllers]
    if not controllers or unified == TOP or not missing:
        return
    points: dict[str, list[str]] = {}
    for name, point in controllers.items():
        points.setdefault(point, []).append(name)
    links = {name: os.readlink(os.path.join(TOP, name)) for name in os.listdir(TOP) if os.path.islink(os.path.join(TOP, name))}
    system.umount(TOP)
    system.mount("tmpfs", TOP, "tmpfs", 0, "mode=755")
    for point, names in points.items():
        os.mkdir(point)
        known = {line[0] for line in lines}
        data = ",".join(name if name in known else "none,name=" + name for name in names)
        system.mount("cgroup", point, "cgroup", 0, data)
    if unified:
        os.mkdir(unified)
        system.mount("cgroup2", unified, "cgroup2")
    for name, target in links.items():
        os.symlink(target, os.path.join(TOP, name))
    for name in missing:  # a version 2 controller that no cgroup uses becomes a version 1 controller while it is mounted
        point = os.path.join(TOP, name)
        os.mkdir(point)
        for _ in range(20):
            if mounted_and_held(name, point):
                held.append(point)
                break
            time.sleep(0.1)  # the hierarchy of an earlier run is being destroyed
        else:
            os.rmdir(point)


def mounted_and_held(name: str, point: str) -> bool:
    try:
        system.mount("cgroup", point, "cgroup", 0, name)
    except OSError:
        return False
    try:
        os.mkdir(hold(point))
    except OSError:
        system.umount(point)
        return False
    return True


def about(machine: Machine) -> Words:
    """For the head of a report."""
    kind = "version 2" if machine.pure_v2 else "version 1" if not machine.unified else "version 1 and 2"
    return {"kernel": platform.release(), "architecture": platform.machine(), "cgroups": kind, "python": platform.python_version()}
