"""kill --regex and delete --regex: a command for every container whose id matches."""

from __future__ import annotations

from pyrunc import helper_process, log, store
from pyrunc.errors import PyruncError, Refusal, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrunc.cmdline import Options


def each(options: Options, pattern: str, command: str, act: Callable[[str], None]) -> None:
    """Calls act(id) for the ids that contain a match. A failure does not prevent trying the others: afterwards the first error is raised,
    with its id, and the others are logged. It is not an error if no id matches. UsageError for an invalid regular expression."""
    names = store.ids(store.root_of(options["globals"]))
    try:
        chosen = helper_process.call("regex", {"pattern": pattern, "names": names})
    except Refusal as e:
        raise UsageError("bad-regex", e.words, command, "regex") from None
    first = None
    for id in chosen:
        try:
            act(id)
        except PyruncError as e:
            log.debug("%s %s: %s" % (command, id, e.sentence()))
            if first is None:
                first = e
                e.words = "%s: %s" % (id, e.words)
    if first is not None:
        raise first
