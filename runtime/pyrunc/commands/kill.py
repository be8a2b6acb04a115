"""kill [--all] ID [SIGNAL]: sends a signal to the container's init, SIGTERM by default. SIGNAL is a number or a name, in upper or lower case, with
or without SIG. With --regex, ID is a regular expression, and every running container that it matches gets the signal."""

from __future__ import annotations

from pyrunc import store
from pyrunc.engine import lifecycle, regex_match
from pyrunc.errors import StateError, UsageError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options


NAMES = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "IOT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11,
    "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CLD": 17, "CONT": 18, "STOP": 19, "TSTP": 20, "TTIN": 21,
    "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28, "IO": 29, "POLL": 29, "PWR": 30, "SYS": 31,
    "RTMIN": 34, "RTMAX": 64,
}  # fmt: skip


def signal_number(text: str) -> int:
    """'TERM', 'sigkill', '9', 'SIGRTMIN+3' → int. UsageError `unknown signal "X"`."""
    if text.isascii() and text.isdigit():
        return min(int(text), 1 << 30)
    name = text.upper()
    name = name[3:] if name[:3] == "SIG" else name
    if name in NAMES:
        return NAMES[name]
    for base, sign in (("RTMIN", "+"), ("RTMAX", "-")):
        head, found, offset = name.partition(sign)
        if head == base and found and offset.isascii() and offset.isdigit() and int(offset) <= 30:
            return NAMES[base] + (int(offset) if sign == "+" else -int(offset))
    from pyrunc.commands import choice

    hint = choice.suggested(name, tuple(NAMES)) + "give a number, or a name such as TERM, SIGKILL or RTMIN+3"
    raise UsageError("unknown-signal", 'unknown signal "%s"' % quote(text), "kill", None, hint)


def main(options: Options, args: list[str]) -> int:
    number = signal_number(args[1]) if len(args) > 1 else 15
    if options.get("regex"):
        regex_match.each(options, args[0], "kill", lambda id: _kill(options, id, number, True))
    else:
        _kill(options, args[0], number, False)
    return 0


def _kill(options: Options, id: str, number: int, one_of_many: bool) -> None:
    try:
        lifecycle.kill(store.open_state(options, id), number, options.get("all", False))
    except StateError as e:
        if not one_of_many or e.reason not in ("not-running", "unknown-container"):
            raise
