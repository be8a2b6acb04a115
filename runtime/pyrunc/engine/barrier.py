"""The import barrier: after close() nothing can be imported any more, in this process and what it forks.

Init closes it before the first row of its own. From then on the files that paths lead to may be the container's: a lazily imported
module, a codec, or a source line that a default exception hook wants to show would be *its* code or text (CVE-2019-14271's class).
"""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _silent(*_args: Any) -> None:
    """In place of the default hooks, which open source files by path."""


def close() -> None:
    """Clears every way to find a module and freezes the collector (no finaliser of old objects runs later)."""
    sys.meta_path.clear()
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    sys.excepthook = _silent
    sys.unraisablehook = _silent
    gc.disable()
    gc.freeze()
