"""Replaces the standard library's package of this name, which the interpreter imports when it sets up its codecs.

UTF-8, Latin-1 and ASCII are built in and never looked up by name; of the others pyrunc only uses unicode_escape.
"""

import _codecs


def _search(name: str) -> "tuple[object, ...] | None":
    if name == "unicode_escape":
        return (_codecs.unicode_escape_encode, _codecs.unicode_escape_decode, None, None)
    return None


_codecs.register(_search)
