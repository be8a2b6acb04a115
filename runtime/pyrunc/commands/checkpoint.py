"""checkpoint [options] ID: saves the container's processes to image files, and deletes the container unless --leave-running or --pre-dump is given."""

from __future__ import annotations

import posix

from pyrunc import store
from pyrunc.engine import checkpoint
from pyrunc.errors import UsageError, errno_text, quote
from pyrunc.linux import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Json
    from pyrunc.engine.shapes import PageServer, Settings


FLAGS = (
    "leave_running", "tcp_established", "tcp_close", "tcp_skip_in_flight", "ext_unix_sk", "shell_job", "file_locks", "pre_dump",
    "auto_dedup", "lazy_pages", "link_remap",
)  # fmt: skip
TEXTS = ("parent_path", "manage_cgroups_mode", "network_lock", "lsm_profile", "lsm_mount_context")
EBADF = 9


def main(options: Options, args: list[str]) -> int:
    settings = settings_of(options, "checkpoint")
    state_dir = store.open_state(options, args[0])
    state_dir.lock().load()
    try:
        checkpoint.checkpoint(state_dir, options, settings)
    finally:
        state_dir.unlock()
    return 0


def settings_of(options: Options, command: str) -> Settings:
    """The settings of checkpoint and restore for CRIU, with absolute paths and checked values. UsageError."""
    settings: dict[str, Json] = {name: options.get(name, False) for name in FLAGS}
    settings.update((name, options.get(name)) for name in TEXTS)
    for name, default in (("image_path", "checkpoint"), ("work_path", None)):
        given = str(options.get(name) or default or "")
        settings[name] = store.absolute(given) if given else None
    for name in ("image_path", "work_path", "parent_path"):
        if "\0" in (settings[name] or ""):
            raise UsageError("nul-in-path", "--%s has a NUL byte" % name.replace("_", "-"), command, name)
    if settings["manage_cgroups_mode"] not in checkpoint.CGROUP_MODES:
        raise UsageError(
            "bad-cgroups-mode",
            "Invalid manage-cgroups-mode value",
            command,
            "manage-cgroups-mode",
            "use soft, full, strict or ignore",
        )
    lock = settings["network_lock"]
    if lock is not None and lock not in checkpoint.NETWORK_LOCKS:
        raise UsageError(
            "bad-network-lock",
            "invalid network-lock value: %s" % quote(lock),
            command,
            "network-lock",
            "use iptables, nftables or skip",
        )
    for name in options.get("empty_ns") or ():
        if name != "network":
            raise UsageError(
                "bad-namespace",
                'namespace "%s" is not supported' % quote(name),
                command,
                "empty-ns",
                "only network is supported, and it is the default",
            )
    settings["page_server"] = _page_server(options.get("page_server"), command)
    settings["status_fd"] = _status_fd(options.get("status_fd"), command)
    return settings  # type: ignore[return-value]  # made of the names above


def _page_server(text: str | None, command: str) -> PageServer | None:
    """'10.0.0.1:27' or '[::1]:27' -> {"address", "port"}; None if the option is not given."""
    if not text:
        return None
    address, colon, port = text.rpartition(":")
    if address[:1] == "[" and address[-1:] == "]":
        address = address[1:-1]
    elif ":" in address:
        colon = ""
    if not colon or not address or not port:
        raise UsageError("bad-page-server", "Use --page-server ADDRESS:PORT to specify page server", command, "page-server")
    if not port.isascii() or not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
        raise UsageError("bad-port", "Invalid port number", command, "page-server", "1 to 65535")
    return {"address": address, "port": int(port)}


def _status_fd(text: str | None, command: str) -> int:
    """A writable descriptor of the caller; -1 if the option is not given."""
    if text is None or text == "-1":
        return -1
    if not text.isascii() or not text.isdigit() or len(text) > 7:
        raise UsageError("bad-number", 'invalid value "%s" for flag -status-fd: want a number' % quote(text), command, "status-fd")
    fd = int(text)
    if fd not in fds.inherited():
        raise UsageError("bad-status-fd", "invalid --status-fd argument %d: %s" % (fd, errno_text(EBADF)), command, "status-fd")
    import fcntl

    if fcntl.fcntl(fd, fcntl.F_GETFL) & posix.O_ACCMODE == posix.O_RDONLY:
        raise UsageError("bad-status-fd", "invalid --status-fd argument %d: not writable" % fd, command, "status-fd")
    return fd
