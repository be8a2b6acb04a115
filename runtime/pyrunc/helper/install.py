"""Helper `install`: finds the engines' configuration files, shows the changes, keeps a copy of the old file and writes the new one.

Payload: see commands/install.py. Answer: {"text"}, the output for the user. All changes are computed before the first is written, so that a
refusal changes no file. A file is replaced as a whole (rename), with its owner and mode.
"""

from __future__ import annotations

import difflib
import errno
import os
import stat

from pyrunc import errors
from pyrunc.helper import engines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.helper.shapes import Payload

FILES = {
    "docker": "/etc/docker/daemon.json",
    "podman": "/etc/containers/containers.conf.d/50-pyrunc.conf",
    "containerd": "/etc/containerd/config.toml",
}
EDITS = {"docker": engines.docker, "podman": engines.podman, "containerd": engines.containerd}
AFTER = {
    "docker": "to apply it: systemctl reload docker; then: docker run --runtime %s ...",
    "podman": "podman reads it at its next start: podman --runtime %s run ...",
    "containerd": "to apply it: systemctl restart containerd; the handler (RuntimeClass) is %s",
}
LIMIT = 4 << 20


def run(payload: Payload) -> dict[str, str]:
    plans = [_plan(engine, payload) for engine in payload["engines"]]
    text = []
    for engine, path, old, new in plans:
        if new == old:
            text.append("%s: nothing to change\n" % path)
            continue
        text.append(_diff(path, old, new))
        if payload["dry_run"]:
            text.append("%s: not written (--dry-run)\n" % path)
            continue
        disposable = engine == "podman" and new is None and old is not None and engines.podman_made(old)
        kept = _replace(path, None if disposable else old, new)
        text.append("%s: %s%s\n" % (path, "removed" if new is None else "written", "; the previous file is %s" % kept if kept else ""))
        if not payload["uninstall"]:
            text.append(AFTER[engine] % payload["name"] + "\n")
    return {"text": "".join(text)}


def _plan(engine: str, payload: Payload) -> tuple[str, str, str | None, str | None]:
    """-> (engine, path, old text or None, new text or None)."""
    path = payload["config"] or FILES[engine]
    if payload["user"] is not None and payload["config"] is None:
        if engine != "podman":
            raise errors.Refusal(
                "needs-root",
                "only root can write %s; nothing was changed" % path,
                None,
                "run it as root, or give a file with --config",
            )
        path = payload["user"] + "/containers/containers.conf.d/50-pyrunc.conf"
    path = os.path.realpath(path)
    old = _read(path)
    if engine == "podman":
        beside = os.path.dirname(os.path.dirname(path)) + "/containers.conf"  # podman reads no drop-in if it can't read its main file
        engines.check_toml(beside, _read(beside) or "")
    if payload["uninstall"] and old is None:
        return engine, path, old, old
    return engine, path, old, EDITS[engine](path, old or "", payload)


def _read(path: str) -> str | None:
    """The content of a configuration file; None if there is no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise _failure(e, "open", path) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        engines.refuse(path, "not a regular file")
    with os.fdopen(fd, "rb") as file:
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        engines.refuse(path, "larger than %d bytes" % LIMIT)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        engines.refuse(path, "not UTF-8: byte %d" % e.start)


def _diff(path: str, old: str | None, new: str | None) -> str:
    lines = difflib.unified_diff(
        (old or "").splitlines(keepends=True),
        (new or "").splitlines(keepends=True),
        "/dev/null" if old is None else path,
        "/dev/null" if new is None else path,
        n=2,
    )
    return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)


def _replace(path: str, old: str | None, new: str | None) -> str | None:
    """Replaces the file by the new text, or removes it if that is None. If the old text is given, a copy of it is kept next to the file.

    Returns the name of the copy, or None. If it fails, the directory is unchanged."""
    fresh, kept = "%s.new-%d" % (path, os.getpid()), None
    try:
        if new is not None:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            _new_file(fresh, new, path)
        kept = _keep(path, old) if old is not None else None
        if new is None:
            os.unlink(path)
        else:
            os.rename(fresh, path)
        return kept
    except OSError as e:
        for name in (fresh, kept):
            if name and os.path.exists(name):
                os.unlink(name)
        raise _failure(e, "write", path) from None


def _keep(path: str, text: str) -> str:
    """Writes the old text next to the file, under an unused name; returns that name."""
    for number in range(1, 1000):
        name = path + ".before-pyrunc" + ("" if number == 1 else ".%d" % number)
        try:
            _new_file(name, text, path)
            return name
        except FileExistsError:
            continue
    raise FileExistsError(errno.EEXIST, "", name)


def _new_file(name: str, text: str, like: str) -> None:
    """Makes a file that must not exist, with the mode and owner of `like` (0644 and ours if that doesn't exist)."""
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            try:
                there = os.stat(like)
                os.fchown(fd, there.st_uid, there.st_gid)
                os.fchmod(fd, stat.S_IMODE(there.st_mode))
            except FileNotFoundError:
                os.fchmod(fd, 0o644)
            os.fsync(fd)
    except OSError as e:
        os.unlink(name)
        raise errors.CallError(e.errno or 0, e.strerror or str(e), name) from None


def _failure(e: OSError, call: str, path: str) -> errors.StepFailure:
    words = "%s %s: %s" % (call, errors.quote(e.filename or path), errors.errno_text(e.errno))
    return errors.StepFailure("engine-config", words, call=call, errno=e.errno, path=path, hint="the engine's configuration is unchanged")
