"""checkpoint: saves a container's processes to image files with CRIU (criu.org/Main_Page, criu(8)).

Invariant: until CRIU reports that the images are complete, the container is unchanged. If something fails before, it is thawed, unless it
was frozen at the beginning; afterwards, unless it is left running, it is deleted like with `delete --force`.
"""

from __future__ import annotations

import posix

from pyrunc import fileio, log
from pyrunc.cgroup import superblock
from pyrunc.engine import criu, criu_external, criu_log, lifecycle, netlock, planner, signals, status
from pyrunc.errors import CallError, StateError, StepFailure, UsageError, errno_text, quote
from pyrunc.linux import fs, jsonbytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrunc.engine.run import Run
    from pyrunc.engine.shapes import Message, Settings
    from pyrunc.parts.plans import Plans
    from pyrunc.state_dir import StateDir

LOG = "dump.log"
CLONE_NEWNET = 0x40000000
CGROUP_MODES: dict[str | None, int] = {None: 3, "soft": 3, "full": 4, "strict": 5, "ignore": 0}
NETWORK_LOCKS: dict[str | None, int] = {"iptables": 1, "nftables": 2, "skip": 3}
CONFIG = "org.criu.config"
CONFIG_FILES = ("/etc/criu/pyrunc.conf", "/etc/criu/runc.conf")  # the first one that exists; CRIU ignores a missing one
LOG_LEVEL = 4


class Folders:
    """The open directories for images and logs: `images`, `work`, `work_path`. close() them."""

    def __init__(self, path: str, make: bool) -> None:
        self.made: list[str] = []
        self.images = self.work = _open(path, make, "image", self.made)
        self.work_path = path

    def set_work(self, path: str | None, log_name: str) -> None:
        """If a work directory is given, logs are written there rather than next to the images. It is created if it is missing. The log of
        an earlier run is removed, so that old errors are not taken for new ones."""
        if path:
            self.work = _open(path, True, "work", self.made)
            self.work_path = path
        _remove(self.work, log_name)

    def replace(self, images: int, work: int) -> None:
        """Opens the same directories again, in another process."""
        self.close()
        self.images, self.work = images, work

    def close(self) -> None:
        for fd in {self.images, self.work}:
            posix.close(fd)

    def discard(self) -> None:
        """Removes the directories that were created for this and are still empty; a log in them is kept."""
        for path in reversed(self.made):
            try:
                posix.rmdir(path)
            except OSError:
                return


def _open(path: str, make: bool, what: str, made: list[str]) -> int:
    try:
        if make:
            done = ""
            for name in path.split("/")[1:]:
                done += "/" + name
                try:
                    posix.mkdir(done, 0o700)
                    made.append(done)
                except FileExistsError:
                    continue
        return fs.open(path, posix.O_RDONLY | posix.O_DIRECTORY)
    except OSError as e:
        words = "cannot open the %s directory %s: %s" % (what, quote(path), errno_text(e.errno))
        raise StepFailure(
            "directory-not-opened", words, "criu.folders", "host", None, CallError.of(e, "mkdir").call, e.errno, path
        ) from None


def common(run: Run, settings: Settings, folders: Folders, log_name: str) -> Message:
    """The options that dump and restore have in common. settings: see commands/checkpoint.py."""
    mode = (
        settings["manage_cgroups_mode"] if run.stored.state.get("cgroup_paths") else "ignore"
    )  # otherwise it would handle those of the host
    opts = {
        "images_dir_fd": folders.images,
        "work_dir_fd": folders.work,
        "log_level": LOG_LEVEL,
        "log_file": log_name,
        "notify_scripts": True,
        "manage_cgroups": True,
        "manage_cgroups_mode": CGROUP_MODES[mode],
        "empty_ns": CLONE_NEWNET,  # its devices belong to the engine, to hooks, or to netDevices
        # the container's own terminal is restored with a new master for us; that of an outside shell is replaced by the restorer's
        "orphan_pts_master": not planner.module("fds").inherits_stdio(run.plans) or not settings["shell_job"],
        "config_file": _config_file(run),
        "network_lock": NETWORK_LOCKS.get(settings["network_lock"]),
    }
    for name in ("shell_job", "ext_unix_sk", "tcp_established", "tcp_close", "file_locks", "link_remap", "auto_dedup", "lazy_pages"):
        if settings[name]:
            opts[name] = True
    return opts


def _config_file(run: Run) -> str | None:
    """The file from the annotation (none, if that is empty), if annotations may name files; else the one that runc passes to CRIU."""
    given: str | None = planner.module("meta").annotation(run.plans, CONFIG)
    if given is None:
        given = "" if run.annotations.get(CONFIG) == "" else _default_config()
    return given or None


def _default_config() -> str:
    """The administrator's configuration file for CRIU: pyrunc's, or else runc's."""
    for path in CONFIG_FILES[:-1]:
        try:
            posix.stat(path)
            return path
        except OSError:
            continue
    return CONFIG_FILES[-1]


def checkpoint(state_dir: StateDir, options: Mapping[str, object], settings: Settings) -> None:
    """Dumps a running or paused container, which is locked. StateError, Unsupported, StepFailure."""
    now = status.of(state_dir)
    if now not in ("running", "paused"):
        raise StateError("wrong-state", "Container cannot be checkpointed in %s state" % now, state_dir.id, now)
    run = lifecycle.run_of(state_dir, options)
    _check(run, settings)
    left = netlock.recover(state_dir, run.plans)
    if left:
        raise StateError("network-locked", left, state_dir.id, now)
    cancel = run.cancel = signals.Cancel()
    folders = None
    kept = superblock.Keeper()
    try:
        found = criu.version(cancel)
        log.debug("criu version %d" % found)
        if settings["pre_dump"]:
            criu.require("mem_track", cancel)
        if settings["lazy_pages"]:
            criu.require("lazy_pages", cancel)
        folders = Folders(settings["image_path"], make=True)
        folders.set_work(settings["work_path"], LOG)
        _check_parent(folders, settings)
        _dump(run, settings, folders, frozen=now == "paused")
        if not settings["leave_running"] and not settings["pre_dump"]:
            cancel.ignore()  # its processes have exited: remove the rest, whatever signal arrives
            lifecycle.delete(state_dir, options, force=True)
    except BaseException:
        if folders is not None:
            folders.discard()
        raise
    finally:
        lost = kept.put_back()
        if lost:
            log.warn(lost)
        run.cancel = None
        cancel.close()
        if folders is not None:
            folders.close()


def _check(run: Run, settings: Settings) -> None:
    added = [one["destination"] for one in run.stored.state.get("mounts") or ()]
    if added:
        words = "%s was mounted after create, and a restore would not know it" % quote(added[0])
        raise StateError("live-mounts", words, run.id, "running", "remove it with 'mounts remove'")
    check_restorable(run.plans)


def check_restorable(plans: Plans) -> None:
    """Calls check_restorable of each part that has it: Refusal of a plan that CRIU can't restore."""
    for part in plans:
        check = getattr(planner.module(part), "check_restorable", None)
        if check is not None:
            check(planner.entry(plans, part))


def _check_parent(folders: Folders, settings: Settings) -> None:
    """Checks --parent-path: the parent's images are found by a path relative to the new ones."""
    path = settings["parent_path"]
    if not path:
        return
    if path[0] == "/":
        raise UsageError(
            "absolute-parent-path", "--parent-path must be relative", "checkpoint", "parent-path", "it starts at the image path"
        )
    try:
        posix.close(fs.open(path, posix.O_PATH | posix.O_DIRECTORY, dir_fd=folders.images))
    except OSError as e:
        raise UsageError(
            "no-parent-path", "invalid --parent-path: stat %s: %s" % (quote(path), errno_text(e.errno)), "checkpoint", "parent-path"
        ) from None


def _dump(run: Run, settings: Settings, folders: Folders, frozen: bool) -> None:
    paths = run.stored.state.get("cgroup_paths") or {}
    opts = common(run, settings, folders, LOG)
    opts.update(
        pid=run.pid,
        leave_running=settings["leave_running"] or None,
        tcp_skip_in_flight=settings["tcp_skip_in_flight"] or None,
        root=planner.module("root").path_of(run.plans),
        freeze_cgroup=planner.module("cgroups").freezer(run.plans, paths),
        cgroup_dump_controller=_hierarchies(run, paths),
        ps=settings["page_server"],
        external=planner.module("criu.namespaces").dumped(planner.entry(run.plans, "namespaces"), run.pid),
    )
    if settings["parent_path"]:
        opts.update(parent_img=settings["parent_path"], track_mem=True)
    if not settings["pre_dump"]:
        streams, outside = criu_external.dumped_streams(run)
        opts["external"] += outside
        opts["ext_mnt"] = [{"key": point, "val": name} for point, name in criu_external.dumped_mounts(run)]
        _write(folders.images, criu_external.DESCRIPTORS, jsonbytes.dumps(streams))

    seen = set()

    def notified(script: str, _pid: int, _fds: list[int]) -> None:
        log.debug("criu: %s" % script)
        seen.add(script)
        if script == "status-ready" and settings["status_fd"] >= 0:
            _say_ready(settings)

    # processes of a user namespace have to read their images, which are in a directory that only root can enter
    talk = criu.Talk(umask=0o022 if planner.module("namespaces").in_userns(run.plans) else 0o077)
    try:
        netlock.expect(run.stored, settings["network_lock"])
        talk.begin()
        talk.request(criu.PRE_DUMP if settings["pre_dump"] else criu.DUMP, {"opts": opts}, notified, run.cancel)
        talk.finish(ignore_status=settings["pre_dump"])  # after a pre-dump it waits for the next one, and reports an error when we exit
    except BaseException as e:
        talk.close()
        _as_it_was(paths, frozen)
        answered = isinstance(e, StepFailure) and e.reason == "criu-answered"
        # a killed CRIU leaves the lock behind; one that failed by itself has removed it
        left = netlock.recover(run.stored, run.plans) if "pre-dump" in seen and not answered else None
        if isinstance(e, StepFailure):
            e.hint = left or e.hint
            raise criu_log.explain(e, folders.work, folders.work_path, LOG) from None
        raise
    finally:
        talk.close()
        netlock.forget(run.stored)


def _hierarchies(run: Run, paths: dict[str, str]) -> list[str]:
    """The hierarchies that CRIU handles: those of the container's cgroups. In other hierarchies the container is in its caller's cgroup,
    often the root, and CRIU would save and restore the cgroups of the whole system. [] means all: if there are no others, and in a cgroup
    namespace, where CRIU needs all of them."""
    own, others = [], False
    if planner.module("namespaces").is_new(run.plans, "cgroup"):
        return []
    for line in fileio.fsdecode(fileio.read_file("/proc/%d/cgroup" % run.pid, 1 << 20)).split("\n"):
        fields = line.split(":", 2)
        if len(fields) != 3:
            continue
        if paths.keys() & set(fields[1].split(",") if fields[1] else ["unified"]):
            own.append(fields[1])
        else:
            others = True
    return own if others else []


def _as_it_was(paths: dict[str, str], frozen: bool) -> None:
    """Thaws the container's cgroup, which a killed CRIU leaves frozen."""
    if not paths or frozen:
        return
    from pyrunc.cgroup import freeze

    try:
        if freeze.is_frozen(paths):
            freeze.thaw(paths)
    except OSError as e:
        log.warn("the container is left frozen: %s" % e)


def _say_ready(settings: Settings) -> None:
    """CRIU waits for the process that fetches the pages: writes one NUL byte and closes the descriptor, once."""
    fd, settings["status_fd"] = settings["status_fd"], -1
    try:
        posix.write(fd, b"\0")
    except OSError as e:
        log.warn("can't write \\0 to status fd: %s" % e)
    posix.close(fd)


def _write(folder_fd: int, name: str, data: bytes) -> None:
    """Replaces a file of an earlier dump, without following links."""
    _remove(folder_fd, name)
    fd = fs.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW, 0o600, dir_fd=folder_fd)
    try:
        fileio.write_all(fd, data)
    finally:
        posix.close(fd)


def _remove(folder_fd: int, name: str) -> None:
    try:
        fs.unlink(name, dir_fd=folder_fd)
    except FileNotFoundError:
        return
