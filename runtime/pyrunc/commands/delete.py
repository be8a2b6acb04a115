"""delete [--force] ID: releases everything that the container holds and removes its state. With --regex, ID is a regular expression, and every
container that it matches is deleted. --force kills the container first, and succeeds if there is none of that id."""

from __future__ import annotations

from pyrunc import store
from pyrunc.engine import lifecycle, regex_match
from pyrunc.errors import StateError
from pyrunc.state_dir import LOCK_WAIT_MS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.state_dir import StateDir


FORCE_LOCK_MS = 5_000


def main(options: Options, args: list[str]) -> int:
    if options.get("regex"):
        regex_match.each(options, args[0], "delete", lambda id: delete_one(options, id))
        return 0
    delete_one(options, args[0])
    return 0


def delete_one(options: Options, id: str) -> None:
    """PyruncError."""
    force = options.get("force", False)
    try:
        state_dir = store.open_state_dir(store.root_of(options["globals"]), id)
    except StateError as e:
        if force and e.reason == "unknown-container":
            return
        raise
    try:
        _delete(state_dir, options, force)
    finally:
        state_dir.close()


def _delete(state_dir: StateDir, options: Options, force: bool) -> None:
    try:
        _lock(state_dir, force)
    except StateError as e:
        if force and e.reason == "unknown-container":  # deleted by another command in the meantime
            return
        raise
    try:
        state_dir.load()
    except StateError as e:
        missing = e.reason == "unknown-container"
        if force or missing:
            lifecycle.delete_broken(state_dir, options, e)
        if force:
            return
        raise
    lifecycle.delete(state_dir, options, force)


def _lock(state_dir: StateDir, force: bool) -> None:
    """Waits for the lock, unless its holder is a command that waits for us. With `force`, a holder that takes too long is killed."""
    try:
        state_dir.lock(0)
        return
    except StateError as e:
        if e.reason == "unknown-container":
            raise
    if lifecycle.called_from_hook(state_dir):
        raise StateError(
            "called-from-hook", "a hook can't delete its own container", state_dir.id, hint="let the hook fail; then everything is undone"
        )
    try:
        state_dir.lock(FORCE_LOCK_MS if force else LOCK_WAIT_MS)
    except StateError as e:
        if not force or e.reason == "unknown-container":
            raise
        lifecycle.break_lock(state_dir)
