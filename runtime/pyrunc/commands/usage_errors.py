"""Errors in command lines: their sentences, which are runc's, and what was probably meant. Loaded only for them."""

from __future__ import annotations

from pyrunc.commands import COMMANDS
from pyrunc.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyrunc.cmdline import Globals
    from pyrunc.commands import Command


def unknown_option(word: str, name: str, kinds: Iterable[str], short: Iterable[str], command: str) -> UsageError:
    """word: as it was given, with its dashes. kinds, short: the names and short forms that `command`, or "" for no command, has."""
    if name[:1] in ("-", ""):
        return UsageError("bad-flag-syntax", "bad flag syntax: %s" % word, command, None, "write one or two dashes and a name")
    joined = word[1] != "-" and len(name) > 1 and all(letter in short for letter in name)
    hint = "short options can't be combined: %s; " % " ".join("-" + letter for letter in name) if joined else _meant(name, kinds, "--")
    hint += "see 'pyrunc %s--help'" % (command + " " if command else "")
    return UsageError("unknown-option", "flag provided but not defined: -%s" % name, command, name, hint)


def wrong_arguments(command: str, row: Command, count: int) -> UsageError:
    """count: of the positionals that were given."""
    if row.most == row.fewest:
        text = "requires exactly %d argument(s)" % row.fewest
    else:
        text = "requires %s %s argument(s)" % (("a minimum of", row.fewest) if count < row.fewest else ("a maximum of", row.most))
    return UsageError("wrong-arguments", '"%s" %s' % (command, text), command, None, "see 'pyrunc %s --help'" % command)


def unknown_command(command: str) -> UsageError:
    """The hint also covers the commands of docker and podman."""
    from pyrunc.commands import help_data

    hint = help_data.ELSEWHERE.get(command) or _meant(command, COMMANDS) + "'pyrunc --help' lists the commands"
    return UsageError("unknown-command", "No help topic for '%s'" % command, command, None, hint)


def _meant(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The beginning of a hint about an unknown word."""
    from pyrunc.oci.nearest import question

    hint = question(word, [name.replace("_", "-") for name in known], prefix)
    return hint and hint + " "


def log_options(argv: Sequence[str]) -> Globals:
    """The log options of a command line that can't be parsed, so that this error is logged too."""
    found: Globals = {}
    words = list(argv)
    while words:
        name, given, value = words.pop(0).lstrip("-").partition("=")
        if name in ("log", "log-format"):
            if not given and words:
                value = words.pop(0)
            if value:
                found[name.replace("-", "_")] = value  # type: ignore[literal-required]  # one of the two names above
        elif name in COMMANDS and COMMANDS[name].first_ends:
            break
    if found.get("log_format") not in (None, "text", "json"):
        del found["log_format"]
    return found
