"""doctor [BUNDLE]: shows what this host supports, which properties are affected by what it lacks, and the remedy. Changes nothing.

The exit status is 1 if no container can be created here, or, with a bundle, if that bundle would be refused.
"""

from __future__ import annotations

import posix

from pyrunc import fileio, helper_process, jsonio, render
from pyrunc.cgroup import hierarchies
from pyrunc.commands import choice
from pyrunc.errors import PyruncError, quote
from pyrunc.linux import caps, filters, ns, probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyrunc.cmdline import Options

    Row = tuple[str, str, str, str, str]  # what, state, seen, affects, remedy


GOOD, LESS, BAD = "ok", "less", "missing"
CAP_SYS_RESOURCE, CAP_SYS_ADMIN = 24, 21


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "doctor", "table", "json")
    rows = [row for check in CHECKS for row in check()]
    problems = _bundle(args[0]) if args else []
    if style == "json":
        keys = ("what", "state", "seen", "affects", "remedy")
        text = jsonio.dumps({"host": [dict(zip(keys, row, strict=True)) for row in rows], "bundle": problems}, indent=2) + "\n"
    else:
        text = _table(rows) + "".join("bundle: %s\n" % quote(words, 1000) for words in problems)
    fileio.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 1 if problems or any(row[1] == BAD for row in rows) else 0


def _table(rows: list[Row]) -> str:
    columns = render.width(1)
    lines = []
    for what, state, seen, affects, remedy in rows:
        lines += render.wrapped(seen, columns, "%-8s %-26s " % (state, what), " " * 36)
        if state != GOOD:
            lines += render.wrapped("affects %s; %s" % (affects, remedy), columns, " " * 11, " " * 11)
    return "\n".join(lines) + "\n"


def _row(what: str, good: bool, seen: str, affects: str, remedy: str, needed: bool = False) -> Row:
    return what, GOOD if good else (BAD if needed else LESS), seen, affects, remedy


# -- checks: each yields rows (what, state, seen, affects, remedy) -----------------------------------------------------------


def _kernel() -> Iterator[Row]:
    major, minor = probe.kernel()
    seen = posix.uname().release
    yield _row(
        "kernel 5.12 or later", (major, minor) >= (5, 12), seen, "everything: mounts are made by descriptor", "boot a newer kernel", True
    )
    yield _row(
        "private mask source",
        (major, minor) >= (6, 15),
        seen,
        "/linux/maskedPaths without /dev/null in the root",
        "mount a tmpfs on /dev",
    )


def _namespaces() -> Iterator[Row]:
    lacking = [kind for kind in ns.FLAGS if not ns.exists(kind)]
    yield _row(
        "namespaces",
        not lacking,
        "all" if not lacking else "without " + ", ".join(lacking),
        "/linux/namespaces",
        "boot a kernel that is built with them",
    )
    limits = []
    for name in ("user", "pid", "net", "mnt"):
        try:
            if int(fileio.read_file("/proc/sys/user/max_%s_namespaces" % name, 64)) == 0:
                limits.append(name)
        except (OSError, ValueError):
            continue
    yield _row(
        "limits of namespaces",
        not limits,
        "0 for " + ", ".join(limits) if limits else "above 0",
        "/linux/namespaces",
        "raise user.max_*_namespaces",
    )


def _cgroups() -> Iterator[Row]:
    layout = hierarchies.layout()
    seen = {1: "version 1", 2: "version 2", "hybrid": "versions 1 and 2 (hybrid)"}.get(layout.version, "none mounted")
    yield _row("cgroups", layout.version is not None, seen, "/linux/cgroupsPath, /linux/resources", "mount cgroup2 on /sys/fs/cgroup")
    if layout.version == 2:
        try:
            there = fileio.fsdecode(fileio.read_file(layout.mounts["unified"][0] + "/cgroup.controllers", 4096)).split()
        except OSError:
            there = []
    else:
        there = [key for key in layout.mounts if key not in ("unified", "name=systemd")]
    wanted = ("cpu", "cpuset", "memory", "pids")
    lacking = [name for name in wanted if name not in there]
    remedy = "enable them, or have them delegated (systemd: Delegate=cpu cpuset memory pids)"
    yield _row("controllers", not lacking, " ".join(sorted(there)) or "none", "/linux/resources: " + ", ".join(lacking), remedy)


def _rights() -> Iterator[Row]:
    try:
        effective = caps.effective()
    except OSError:
        effective = 0
    root = posix.geteuid() == 0
    admin = bool(effective >> CAP_SYS_ADMIN & 1)
    yield _row(
        "rights",
        root and admin,
        "uid %d%s" % (posix.geteuid(), "" if admin else " without CAP_SYS_ADMIN"),
        "rootless: id maps, cgroups",
        "see spec --rootless",
    )
    resource = bool(effective >> CAP_SYS_RESOURCE & 1)
    yield _row(
        "CAP_SYS_RESOURCE", resource, "yes" if resource else "no", "/process/rlimits above the caller's, /process/oomScoreAdj below the caller's",
        "run with the capability",
    )  # fmt: skip


def _ids() -> Iterator[Row]:
    for tool in ("newuidmap", "newgidmap"):
        path = "/usr/bin/" + tool
        yield _row(
            tool, _exists(path), path if _exists(path) else "not found", "/linux/uidMappings of users other than root", "install uidmap"
        )


def _security() -> Iterator[Row]:
    for name, there in (("AppArmor", probe.apparmor()), ("SELinux", probe.selinux())):
        pointer = "/process/apparmorProfile" if name == "AppArmor" else "/process/selinuxLabel, /linux/mountLabel"
        yield _row(
            name,
            there,
            "on" if there else "off",
            pointer + ": refused while it is off",
            "remove the property, or boot with the module enabled",
        )
    listener = filters.supports_flag(filters.FLAG_NEW_LISTENER)
    yield _row("seccomp notify", listener, "yes" if listener else "no", "/linux/seccomp with SCMP_ACT_NOTIFY", "Linux 5.0 or later")
    version = probe.landlock()
    yield _row(
        "Landlock",
        version > 0,
        "version %d" % version if version else "no",
        "/annotations/org.pyrunc.landlock: refused without it",
        "boot with lsm=landlock,…",
    )


def _libraries() -> Iterator[Row]:
    for name, payload in (("schema", {"document": {"ociVersion": "1.3.0"}, "what": "config"}), ("syscalls", {"names": ["read"]})):
        library = {"schema": "jsonschema", "syscalls": "libseccomp"}[name]
        affected = {"schema": "validate: messages of the schema", "syscalls": "/linux/seccomp, unless the filter is cached"}[name]
        try:
            helper_process.call(name, payload)
            yield _row(library, True, "loads", affected, "")
        except PyruncError as e:
            yield _row(library, False, quote(e.words), affected, e.hint or "install it")


def _programs() -> Iterator[Row]:
    criu = next((p for p in ("/usr/sbin/criu", "/usr/bin/criu", "/usr/local/sbin/criu") if _exists(p)), None)
    yield _row("criu", criu is not None, criu or "not found", "checkpoint, restore", "install criu")
    ps = _exists("/usr/bin/ps") or _exists("/bin/ps")
    yield _row("ps", ps, "found" if ps else "not found", "ps without --format json", "install procps")


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


CHECKS = (_kernel, _namespaces, _cgroups, _rights, _ids, _security, _libraries, _programs)


def quick() -> list[Row]:
    """The rows that need no helper process; for `explain`."""
    return [row for check in (_kernel, _namespaces, _cgroups, _rights, _ids, _security) for row in check()]


def _bundle(path: str) -> list[str]:
    """Why create would refuse this bundle here: a sentence for each problem."""
    from pyrunc.engine import planner, prepare

    bundle = prepare.bundle_of({"bundle": path})
    try:
        config = prepare.read_config({}, bundle)
    except PyruncError as e:
        return [e.sentence()]
    _plans, problems, _warnings = planner.plan_all(config, planner.Context("doctor", bundle, config, {"command": "plan"}))
    return [problem.sentence() for problem in problems]
