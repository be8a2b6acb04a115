"""Stands in for the standard library's package of this name, which the interpreter wants when it sets up its codecs.

UTF-8, Latin-1 and ASCII are built in and never looked up by name; of the others pyrunc uses unicode_escape alone.
"""

import _codecs


def _search(name):
    if name == "unicode_escape":
        return (_codecs.unicode_escape_encode, _codecs.unicode_escape_decode, None, None)
    return None


_codecs.register(_search)
