"""Options whose value is one of a few words."""

from __future__ import annotations

from pyrunc.errors import UsageError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options


def format_of(options: Options, command: str, *words: str) -> str:
    """The value of --format; the first of `words` is the default. UsageError."""
    return chosen(options.get("format", words[0]), words, command, "format", "bad-format", "invalid format option: %s")


def chosen(value: str, words: tuple[str, ...], command: str, option: str, reason: str, text: str) -> str:
    """The value of an option, which must be one of `words`. text: the sentence of the UsageError, with %s for the value."""
    if value in words:
        return value
    raise UsageError(reason, text % quote(value), command, option, suggested(value, words) + "use " + listed(words))


def engine_of(options: Options, command: str) -> str:
    """The value of --engine: a known engine, or `all`. UsageError."""
    from pyrunc.engine import engines

    return chosen(options["engine"], (*engines.ENGINES, "all"), command, "engine", "bad-engine", "invalid engine: %s")


def suggested(word: str, words: tuple[str, ...], prefix: str = "") -> str:
    """The beginning of a hint: "did you mean json? ", or "" if no word is similar."""
    from pyrunc.oci.nearest import question

    hint = question(word, words, prefix)
    return hint and hint + " "


def listed(words: tuple[str, ...]) -> str:
    """'a, b or c'"""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
