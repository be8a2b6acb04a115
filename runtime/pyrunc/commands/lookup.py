"""Finds a container by its id, for the commands that people type: for an unknown id the error suggests similar ones. The commands that engines
call use the store directly, with the same sentences."""

from __future__ import annotations

from pyrunc import store
from pyrunc.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.store import StateDir


def open_state(options: Options, id: str) -> StateDir:
    """As store.open_state()."""
    try:
        return store.open_state(options, id)
    except StateError as e:
        if e.reason == "unknown-container" and e.hint is None:
            from pyrunc.oci.nearest import nearest

            close = nearest(id, store.ids(store.root_of(options["globals"])))
            e.hint = "did you mean %s?" % " or ".join(close) if close else "'pyrunc list' shows the ids"
        raise
