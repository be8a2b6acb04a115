"""delete [--force] ID: gives everything back and forgets the id. With --regex ID is a regular expression for the ids of many."""

from pyrunc import store
from pyrunc.engine import lifecycle, matching
from pyrunc.errors import CALLER_TEXT, StateError

WORDS = CALLER_TEXT["unknown"]
FORCE_LOCK_MS = 5_000


def main(options, args):
    if options.get("regex"):
        matching.each(options, args[0], "delete", lambda id: delete_one(options, id))
        return 0
    return delete_one(options, args[0])


def delete_one(options, id):
    """Exit status. PyruncError."""
    force = options.get("force", False)
    try:
        box = store.open_box(store.root_of(options["globals"]), id)
    except StateError as e:
        if force and e.words == WORDS:
            return 0
        raise
    try:
        return _delete(box, options, force)
    finally:
        box.close()


def _delete(box, options, force):
    try:
        _lock(box, force)
    except StateError as e:
        if force and e.words == WORDS:  # another delete was quicker
            return 0
        raise
    try:
        box.load()
    except StateError as e:
        missing = e.words == WORDS
        if force or missing:
            lifecycle.delete_broken(box, options, e)
        if force:
            return 0
        raise
    lifecycle.delete(box, options, force)
    return 0


def _lock(box, force):
    """Waits for whoever holds the lock, unless that is a command that waits for us; `force` ends one that holds it for too long."""
    try:
        box.lock(0)
        return
    except StateError as e:
        if e.words == WORDS:
            raise
    if lifecycle.called_from_hook(box):
        raise StateError("a hook can't delete its own container", box.id, hint="let the hook fail: then everything is undone")
    try:
        box.lock(FORCE_LOCK_MS if force else store.LOCK_WAIT_MS)
    except StateError as e:
        if not force or e.words == WORDS:
            raise
        lifecycle.break_lock(box)
