"""delete [--force] ID: gives everything back and forgets the id."""

from pyrunc import store
from pyrunc.engine import lifecycle
from pyrunc.errors import CALLER_TEXT, StateError

WORDS = CALLER_TEXT["unknown"]
FORCE_LOCK_MS = 5_000


def main(options, args):
    force = options.get("force", False)
    try:
        box = store.open_box(store.root_of(options["globals"]), args[0])
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
        box.lock("delete", FORCE_LOCK_MS if force else store.LOCK_WAIT_MS)
    except StateError as e:
        if e.words == WORDS:  # another delete was quicker
            if force:
                return 0
            raise
        if not force:
            raise
        if lifecycle.called_from_hook(box):
            raise StateError("a hook can't delete its own container", box.id, hint="let the hook fail: then everything is undone") from None
        lifecycle.break_lock(box, "delete")
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
