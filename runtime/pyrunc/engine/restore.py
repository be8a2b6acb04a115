"""restore: restores a container from the images of a checkpoint. CRIU takes the place of init; everything else is done as in create.

Invariant: the container's permissions and resources come from the bundle's config and this host, as planned; only its processes and their
memory come from the images. CRIU runs in the container's cgroups and in a private mount namespace, so a restore that failed or was killed
leaves neither mounts nor processes behind.
"""

from __future__ import annotations

import posix
from _signal import SIGKILL

from pyrunc import fileio, log
from pyrunc.cgroup import superblock
from pyrunc.cgroup.fs import levels
from pyrunc.engine import (
    checkpoint,
    child,
    criu,
    criu_external,
    criu_images,
    criu_log,
    host,
    pid_output,
    planner,
    restore_mounts,
    signals,
    steps,
)
from pyrunc.engine.order import RESTORE
from pyrunc.errors import PyruncError, Refusal, StepFailure, quote
from pyrunc.linux import _syscalls, fs, netlink, pidfd, tty
from pyrunc.linux import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.engine.checkpoint import Folders
    from pyrunc.engine.host import Undo
    from pyrunc.engine.run import Run
    from pyrunc.engine.shapes import Entry, Message, Settings

LOG = "restore.log"
INVENTORY = "inventory.img"  # every image directory contains it, and the dump writes it last
ROOT, SOURCES, SPARE = "criu-root", "criu-sources", "notify"


def restore(run: Run, warnings: list[list[str]], settings: Settings) -> None:
    """Brings the container to `running`; run.pid and run.pidfd are its init, our child. On any failure nothing is left behind."""
    cancel = run.cancel = signals.Cancel()
    folders = None
    kept = superblock.Keeper()
    undo = host.Undo(run)
    talks: list[criu.Talk] = []
    others = set(child.children())  # the program that executed us may have left some
    try:
        criu.version(cancel)
        _check_options(settings)
        checkpoint.check_restorable(run.plans)
        if settings["lazy_pages"]:
            criu.require("lazy_pages", cancel)
        folders = checkpoint.Folders(settings["image_path"], make=False)
        streams = _streams(folders, settings)
        folders.set_work(settings["work_path"], LOG)
        host.reserve(run, warnings)
        try:
            _make(run, settings, folders, streams, undo, talks)
            _publish(run)
        except BaseException as e:
            _unwind(run, undo, talks, others)
            criu_log.sweep(folders.work, LOG)
            if isinstance(e, StepFailure):
                raise criu_log.explain(e, folders.work, folders.work_path, LOG) from None
            raise
    finally:
        lost = kept.put_back()
        if lost:
            log.warn(lost)
        run.cancel = None
        cancel.close()
        if folders is not None:
            folders.close()
        if run.state_dir is not None:
            run.stored.unlock()
    if cancel.number:  # too late to stop it, because it is complete; the signal still ends this process
        raise signals.Interrupted(cancel.number)


def _check_options(settings: Settings) -> None:
    profile = settings["lsm_profile"]
    if profile and profile.partition(":")[0] not in ("apparmor", "selinux"):
        raise Refusal("bad-lsm-profile", "invalid --lsm-profile %s" % quote(profile), None, "use apparmor:NAME or selinux:LABEL")


def _streams(folders: Folders, settings: Settings) -> list[Message]:
    """Checks whether this is a checkpoint, before anything is created."""
    try:
        found = posix.stat(INVENTORY, dir_fd=folders.images).st_size
    except OSError as e:
        found = -(e.errno or 1)
    if found <= 0:
        what = "is empty" if found == 0 else "is missing"
        words = "the image directory %s holds no complete checkpoint: %s %s" % (quote(settings["image_path"]), INVENTORY, what)
        raise StepFailure("no-checkpoint", words, "restore.images", "host", path=settings["image_path"])
    streams = criu_external.restored_streams(folders.images)
    criu_images.check(folders.images, settings["image_path"])
    return streams


def _make(run: Run, settings: Settings, folders: Folders, streams: list[Message], undo: Undo, talks: list[criu.Talk]) -> None:
    held = planner.entry(run.plans, "resources")
    if held:
        run.plans["resources"] = planner.module("resources").before_restore(held)
    steps.walk(RESTORE, "prepare", "host", run, undo)
    if settings["manage_cgroups_mode"] == "strict":
        _check_new(run)
    entry = planner.entry(run.plans, "namespaces")
    fds, inherited, joined = planner.module("criu.namespaces").restored(entry, run, criu.FIRST_FD)
    inherits = planner.module("fds").inherits_stdio(run.plans)
    for name in (ROOT, SOURCES, SPARE):
        posix.mkdir(name, 0o755, dir_fd=run.dir_fd)
    root, sources, spare = ("%s/%s" % (run.dir, name) for name in (ROOT, SOURCES, SPARE))
    sources = restore_mounts.folder(run, sources)
    mounts = restore_mounts.named(run, sources, spare)
    talk = criu.Talk(lambda: _in_criu(run, settings, root, sources), fds, inherits, run.cgroup_fd)
    talks.append(talk)
    run.pid, run.pidfd = talk.pid, talk.pidfd
    state_dir = run.stored
    state_dir.state["start_time"] = pidfd.start_time(talk.pid)
    state_dir.state["restore_log"] = [folders.work_path, LOG]
    state_dir.record("pid", talk.pid)  # until there is an init, `delete --force` of an unfinished restore kills CRIU
    steps.walk(RESTORE, "placed", "host", run, undo)
    reopened = talk.begin()
    if reopened:
        folders.replace(*reopened)
    opts = checkpoint.common(run, settings, folders, LOG)
    opts.update(
        evasive_devices=True,
        rst_sibling=True,
        root=root if planner.module("root").has_own_namespace(run.plans) else None,
        cg_root=_cgroup_roots(talk.pid),
        join_ns=joined,
        inherit_fd=inherited + (streams if inherits else []),
        ext_mnt=[{"key": name, "val": path} for name, path in mounts],
        lsm_profile=settings["lsm_profile"],
        lsm_mount_context=settings["lsm_mount_context"],
    )
    if opts["manage_cgroups_mode"] == checkpoint.CGROUP_MODES["strict"]:  # already checked; otherwise it is the same as "full"
        opts["manage_cgroups_mode"] = checkpoint.CGROUP_MODES["full"]
    answer = talk.request(criu.RESTORE, {"opts": opts}, lambda *note: _notified(run, settings, held, *note), run.cancel)
    talk.finish()
    talk.close()
    if "console" in run.fds:  # no master has come for it
        raise StepFailure(
            "terminal-mismatch", "the images contain no terminal, but the config has one", "restore.terminal", "host", "/process/terminal"
        )
    if run.pid == talk.pid:
        raise StepFailure(
            "criu-failed",
            "criu failed: it restored pid %s without a word" % (answer.get("restore") or {}).get("pid"),
            "criu",
            "host",
        )


def _check_new(run: Run) -> None:
    """strict: the container's cgroups must not have existed before. CRIU can't check that, because it finds those that we have created."""
    record = run.stored.state.get("cgroups") or {}
    for key, path in (run.stored.state.get("cgroup_paths") or {}).items():
        if record["existed"].get(key, 0) >= len(levels(record["mounts"][key], path)):
            raise StepFailure(
                "cgroup-exists",
                "the cgroup %s is there already" % quote(path),
                "restore.cgroups",
                "host",
                "/linux/cgroupsPath",
                path=path,
            )


def _in_criu(run: Run, settings: Settings, root: str, sources: str) -> list[int]:
    """In the child that becomes CRIU. Returns the directories of images and logs in its mount namespace, the only ones that it can use: it
    mounts below its working directory."""
    steps.walk(RESTORE, "criu", "host", run)
    part, entry = planner.module("root"), planner.entry(run.plans, "root")
    if not part.has_own_namespace(run.plans):
        return []
    _syscalls.unshare(c.CLONE_NEWNS)
    trees = restore_mounts.clones(run)
    run.root_fd = part.mount_on(entry, root)
    criu_external.asked_of(run, "mounts", "make_mount_points", run)
    restore_mounts.attach(trees, sources)
    part.keep_readonly(entry, run.root_fd)
    opened = restore_mounts.open_images(run, sources, settings["image_path"])
    return [opened, fs.open(settings["work_path"] or settings["image_path"], posix.O_RDONLY | posix.O_DIRECTORY)]


def _cgroup_roots(pid: int) -> list[Message]:
    """The container's cgroups on this host, for each hierarchy, whatever their names were at the dump."""
    found = []
    for line in fileio.fsdecode(fileio.read_file("/proc/%d/cgroup" % pid, 1 << 20)).split("\n"):
        fields = line.split(":", 2)
        if len(fields) == 3:
            found.append({"ctrl": fields[1], "path": fields[2]})
    return found


def _notified(run: Run, settings: Settings, held: Entry, script: str, pid: int, fds: list[int]) -> None:
    log.debug("criu: %s, pid %d" % (script, pid))
    if script == "setup-namespaces":
        run.pid = pid
        if planner.module("namespaces").is_new(run.plans, "network"):
            _loopback(pid)
        steps.walk(RESTORE, "setup", "host", run)
    elif script == "post-restore":
        _restored(run, settings, held, pid)
    elif script == "orphan-pts-master" and fds:
        if "console" not in run.fds:
            raise StepFailure(
                "terminal-mismatch",
                "the images contain a terminal, but the config has none",
                "restore.terminal",
                "host",
                "/process/terminal",
            )
        console = run.fds.pop("console")
        try:
            tty.send_master(console, fds[0])
        finally:
            if run.options["detach"]:  # otherwise it is the foreground's own end
                posix.close(console)


def _loopback(pid: int) -> None:
    """Brings up loopback, as create does: CRIU does not touch the devices of the new network namespace."""
    fd = posix.open("/proc/%d/ns/net" % pid, posix.O_RDONLY | posix.O_CLOEXEC)
    route = None
    try:
        route = netlink.Route.inside(fd)
        route.set_up(netlink.LOOPBACK_INDEX, True)
    finally:
        posix.close(fd)
        if route is not None:
            route.close()


def _restored(run: Run, settings: Settings, held: Entry, pid: int) -> None:
    """All processes exist but are stopped: from here on this is the container's init."""
    run.pid = run.init_pid = run.userns_pid = pid
    run.pidfd = posix.pidfd_open(pid)
    run.stored.state["start_time"] = pidfd.start_time(pid)
    host.record_places(run)
    run.stored.record("pid", pid)
    if held:
        run.plans["resources"] = held
        left = planner.module("resources").after_restore(held, settings["manage_cgroups_mode"] in ("full", "strict"))
        if left is not None:
            steps.call("resources", "host_apply", "host", left, run)
    steps.walk(RESTORE, "restored", "host", run)


def _publish(run: Run) -> None:
    """Writes the state and then the pid file, because callers wait for its existence."""
    for name in (ROOT, SOURCES):
        posix.rmdir(name, dir_fd=run.dir_fd)
    run.stored.state.pop("restore_log")
    run.stored.record("status", "running")
    if run.options.get("pid_file"):
        pid_output.write_pid_file(run.options["pid_file"], run.pid)


def _unwind(run: Run, undo: Undo, talks: list[criu.Talk], others: set[int]) -> None:
    """Kills CRIU and everything that it has created, releases everything and the id."""
    if run.cancel is not None:
        run.cancel.ignore()
    for talk in talks:
        try:
            talk.close()
        except OSError as e:
            log.warn("criu could not be killed: %s" % e)
    try:
        _end_all(run, others)
    except (PyruncError, OSError) as e:
        log.warn("processes of the restore: %s" % e)
    undo.all()
    try:
        run.stored.forget()
    except OSError as e:
        log.warn("cannot remove %s: %s" % (run.stored.path, e))


def _end_all(run: Run, others: set[int]) -> None:
    """Kills the restored processes: the first one is our child, the others are its descendants, and all are in the container's cgroups."""
    while children := [pid for pid in child.children() if pid not in others]:
        for pid in children:
            posix.kill(pid, SIGKILL)  # our unreaped child: the pid can't have been reused
        for pid in children:
            posix.waitid(posix.P_PID, pid, posix.WEXITED)
    paths = run.stored.state.get("cgroup_paths") or {}
    if paths:
        from pyrunc.cgroup import kill

        kill.end_all(paths)
