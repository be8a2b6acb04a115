"""Finds a container for the commands that people type: by its id below --root, or else by its name in an engine, or the beginning of its id
there. For an unknown one the error suggests similar ids. The commands that only engines call use the store directly, with the same sentences."""

from __future__ import annotations

from pyrunc import store
from pyrunc.errors import StateError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.engine.engines import Found
    from pyrunc.state_dir import StateDir

FULL_ID = 64  # characters of an id that engines give: never a name, and never the beginning of an id


def open_state(options: Options, id: str, quiet: bool = False) -> StateDir:
    """The container with its state read, as store.open_state(), or the engine's container that is meant. StateError; for a name that several
    containers have, with all of them. quiet: engines call the command too, so with an explicit
    --root the sentence has no hint."""
    try:
        return store.open_state(options, id)
    except StateError as e:
        is_pod = "/" in id  # NAMESPACE/POD/CONTAINER, which is not an id
        if not is_pod and (e.reason != "unknown-container" or e.hint is not None):
            raise
        found = _of_engines(options, id)
        if found is None:
            if not (quiet and "root" in options["globals"]):
                e.hint = e.hint or _hint(options, id)
            raise
    return store.open_state_dir(found["root"], found["id"]).load()


def _of_engines(options: Options, word: str) -> Found | None:
    """The one container of an engine that a word names; None for none. An explicit --root is searched alone."""
    if "root" in options["globals"] or len(word) >= FULL_ID:
        return None
    from pyrunc.engine import engines

    found = engines.matching(word)
    if not found:
        return None
    if len(found) > 1:
        shown = ", ".join("%s %s" % (one["engine"], one["name"] or one["id"][:12]) for one in found[:5])
        raise StateError(
            "ambiguous-name", "%s names %d containers: %s" % (quote(word), len(found), shown), word, None, "give more of the id"
        )
    if found[0]["runtime"] != "pyrunc":
        words = "container %s of %s was made by %s" % (found[0]["name"] or found[0]["id"], found[0]["engine"], found[0]["runtime"])
        raise StateError("foreign-state", words, word, None, "use that runtime for it, with --root %s" % found[0]["root"])
    return found[0]


def _hint(options: Options, id: str) -> str:
    from pyrunc.oci.nearest import question

    hint = question(id, store.ids(store.root_of(options["globals"])))
    if hint:
        return hint
    if "root" in options["globals"]:
        return "'pyrunc list' shows the ids"
    return "'pyrunc list' shows the ids below --root, 'pyrunc list --engine all' those of engines"
