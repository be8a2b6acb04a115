"""The import barrier: after close(), nothing can be imported any more in this process and its children.

Init closes it before its first row. From then on, paths may lead to files of the container: a lazily imported module, a codec, or a source
line that a default exception hook shows would be *its* code or text (the class of CVE-2019-14271).
"""

from __future__ import annotations

import gc
import sys


def _silent(*_args: object) -> None:
    """Replaces the default hooks, which open source files by path."""


def close() -> None:
    """Removes all ways to find a module, and freezes the collector (so that no finaliser of an old object runs later)."""
    sys.meta_path.clear()
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    sys.excepthook = _silent
    sys.unraisablehook = _silent
    gc.disable()
    gc.freeze()
