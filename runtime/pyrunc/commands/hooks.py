"""hooks ID: how the hooks of a container went: exit status or signal, duration, and the end of what they wrote. The last 4 KiB of each
stream are kept in the state, and go with it: poststop hooks run when it is gone. --format text or json."""

from pyrunc import lean, picture
from pyrunc.commands.named import open_state
from pyrunc.errors import UsageError, quote

KEPT = {"kind": str, "index": int, "path": str, "ended": str, "code": int, "ms": int, "stdout": str, "stderr": str}


def main(options, args):
    style = options.get("format", "text")
    if style not in ("text", "json"):
        raise UsageError("invalid format option: %s" % quote(style), "hooks", "format", "use text or json")
    notes = open_state(options, args[0]).state.get("hooks") or ()
    found = [row(note) for note in notes if type(note) is dict and all(type(note.get(key)) is kind for key, kind in KEPT.items())]
    text = lean.dumps(found, indent=2) + "\n" if style == "json" else _text(found, picture.Paint())
    lean.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 0


def row(note):
    """A note of parts/hooks.py -> {"kind", "index", "path", "ended", "status", "signal", "ms", "stdout", "stderr"}. ended: exit, signal,
    timeout or cancel (a signal has stopped the command)."""
    by_signal = note["ended"] != "exit"
    return {
        "kind": note["kind"], "index": note["index"], "path": note["path"], "ended": note["ended"],
        "status": None if by_signal else note["code"], "signal": note["code"] if by_signal else None, "ms": note["ms"],
        "stdout": note["stdout"], "stderr": note["stderr"],
    }  # fmt: skip


def _text(found, paint):
    lines = []
    for one in found:
        how = "exit status %d" % one["status"] if one["status"] is not None else "%s (signal %d)" % (one["ended"], one["signal"])
        good = one["status"] == 0
        lines.append(
            "%s %d  %s  %s  %d ms"
            % (paint(one["kind"], "bold"), one["index"], quote(one["path"]), paint(how, "green" if good else "red"), one["ms"])
        )
        for name in ("stdout", "stderr"):
            lines += ["    %s %s" % (paint(name + ":", "cyan"), one[name])] if one[name] else []
    return "".join(line + "\n" for line in lines)
