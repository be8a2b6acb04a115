"""Suggests which known name was probably meant. Loaded only if a name is unknown."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 3


def nearest(word: str, names: Iterable[str], most: int = MOST) -> list[str]:
    """The names closest to `word`, best first, without duplicates: by the number of changed, added, missing or swapped letters (ignoring
    case); names that begin or end with the word come first. Empty if none is close."""
    word = word[:200].lower()
    if not word:
        return []
    ranked = []
    for name in dict.fromkeys(names):
        low = name.lower()
        cost = distance(word, low[:200])
        if low.endswith(word) or low.startswith(word):
            cost = min(cost, 1)
        elif len(word) > 2 and word in low:
            cost = min(cost, 2)
        if cost <= max(2, len(word) // 2):
            ranked.append((cost, len(name), name))
    return [name for _cost, _length, name in sorted(ranked)[:most]]


def question(word: str, names: Iterable[str], prefix: str = "") -> str:
    """ "did you mean start, state or stats?" about an unknown word; "" if no name is near."""
    close = [prefix + name for name in nearest(word, names)]
    return "did you mean %s?" % " or ".join(filter(None, (", ".join(close[:-1]), close[-1]))) if close else ""


def distance(a: str, b: str) -> int:
    """The Damerau distance (optimal string alignment) of two strings."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        now = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, now[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            now.append(cost)
        before, last = last, now
    return last[-1]
