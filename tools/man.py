#!/usr/bin/python3
"""`make man`: manual pages from the table of commands, pyrunc.8 and one for each command, in mdoc(7).

    man.py DIRECTORY            writes pyrunc.8, pyrunc-create.8, … there

The description of a command is the docstring of its module; options, meanings and examples are those of --help. The date is
SOURCE_DATE_EPOCH, or today.
"""

from __future__ import annotations

import ast
import datetime
import os
import pathlib
import re
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "runtime"))
from pyrunc import commands as command_table  # noqa: E402
from pyrunc.commands import help as _help  # noqa: E402
from pyrunc.commands import help_data  # noqa: E402

ABOUT = """\
runs containers from bundles. A bundle is a directory with a root file system and a config.json, as the runtime specification of the Open
Container Initiative describes it. pyrunc has the command line of runc, and is called by podman, Docker, containerd, buildah and CRI-O, or by hand.

Options are written as -x, --option value or --option=value. Global options come before the command, or after it where the command has no option
of that name; options of the command come before or after the arguments. Where the arguments are a command line, as with exec, options end at
the first argument.

Each command has a page of its own; start with pyrunc-spec(8), pyrunc-run(8) and pyrunc-validate(8).
"""
ERRORS = """\
A failure is one line on standard error: what failed, then in brackets the place in config.json, the step, the system call and the errno, then
what to do. At a terminal the error is shown with an excerpt of the config, its meaning and the remedy. With --log the line is written to the
log, too, as text or as a JSON object with a stable code (PYR-2130), which pyrunc-explain(8) explains.
"""
FILES = (
    ("/run/pyrunc", "The state of root's containers, unless --root gives another directory."),
    ("$XDG_RUNTIME_DIR/pyrunc", "The state of a user's containers."),
    ("config.json", "The config of a container, in its bundle."),
)
ENVIRONMENT = (
    ("PYRUNC_TRACE", "File to append the command's steps to, as with --trace."),
    ("XDG_RUNTIME_DIR", "Where the state of a user's containers is."),
    ("NO_COLOR", "No colours at terminals, if it is set."),
)


def escaped(text: str) -> str:
    """Escapes a text line for roff: backslashes, a control character at its beginning, and dashes that users copy."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("–", "\\(en").replace("→", "\\(->")
    text = text.replace("()", "\\&()")  # otherwise it is treated as a function name
    return "\\&" + text if text[:1] in (".", "'") else text


def macro(word: str) -> str:
    """An argument of a macro: quoted, and never treated as a macro itself."""
    return '"\\&%s"' % escaped(word).replace('"', '""') if re.search(r'[\s".,:;()\[\]|]', word) or len(word) < 4 else escaped(word)


def paragraphs(text: str) -> list[str]:
    """Plain text with blank lines between paragraphs → lines of roff, one sentence per line."""
    lines = []
    for number, block in enumerate(re.split(r"\n\s*\n", text.strip())):
        lines += [".Pp"] if number else []
        joined = " ".join(block.split())
        for sentence in re.split(r"(?<=[A-Za-z)\]`][.;])\s+", joined):
            lines += [escaped(line) for line in textwrap.wrap(sentence, 72, break_long_words=False, break_on_hyphens=False)]
    return lines


def description(command: str) -> str:
    """The docstring of the command's module, without the usage it begins with."""
    source = ROOT / "runtime/pyrunc/commands" / (command + ".py")
    text = ast.get_docstring(ast.parse(source.read_text())) or ""
    text = text.replace("`", "")
    first, colon, rest = text.partition(": ")
    text = rest if colon and "\n" not in first else text
    return text[:1].upper() + text[1:]


def head(name: str, title: str, date: str) -> list[str]:
    return [
        '.\\" Made by tools/man.py from the table of commands.', ".Dd " + date, ".Dt %s 8" % name.upper(), ".Os",
        ".Sh NAME", ".Nm " + name, ".Nd " + escaped(title.rstrip(".")),
    ]  # fmt: skip


def option_list(kinds: Mapping[str, str], short: dict[str, str], command: str = "") -> list[str]:
    others = _help.other_names(short)
    lines = [".Bl -tag -width Ds"]
    for name, kind in kinds.items():
        value = help_data.value(command, name)
        word = "|".join(value) if isinstance(value, tuple) else (value or "value").lower()
        argument = "" if kind == command_table.B else " Ar " + macro(word)
        names = ["Fl \\-" + escaped(name)] + ["Fl " + escaped(other[1:]) for other in others.get(name, ())]
        lines.append(".It " + " , ".join(one + argument for one in names))
        lines += paragraphs(_help.meaning(command, name))
    return [*lines, ".El"]


def tagged(rows: Iterable[tuple[str, str]], kind: str) -> list[str]:
    lines = [".Bl -tag -width Ds"]
    for name, text in rows:
        lines += [".It %s %s" % (kind, macro(name)), *paragraphs(text)]
    return [*lines, ".El"]


def examples(command: str) -> list[str]:
    lines: list[str] = []
    for line in help_data.EXAMPLES.get(command, ()):
        lines += ["", escaped(line)] if lines else [escaped(line)]
    return [".Sh EXAMPLES", ".Bd -literal -offset indent", *[line for line in lines if line], ".Ed"] if lines else []


def synopsis(name: str, command: str, kinds: Mapping[str, str]) -> list[str]:
    words = _help.POSITIONAL.get(command, "").split()
    lines = [".Sh SYNOPSIS", ".Nm pyrunc", ".Op Ar global\\-options"]
    lines += [".Cm " + command] + ([".Op Ar options"] if kinds else [])
    return lines + [".Ar " + macro(word.lower()) for word in words]


def of_command(command: str, date: str) -> str:
    kinds, short = command_table.COMMANDS[command].options, command_table.COMMANDS[command].short
    name = "pyrunc-" + command
    lines = head(name, _help.ABOUT[command], date) + synopsis(name, command, kinds)
    lines += [".Sh DESCRIPTION", *paragraphs(description(command))]
    if kinds:
        lines += [".Pp", "The options are as follows:", *option_list(kinds, short, command)]
    lines += [".Pp", "Global options are in", ".Xr pyrunc 8 ."]
    if command in help_data.ENVIRONMENT_OF:
        lines += [".Sh ENVIRONMENT", *tagged(help_data.ENVIRONMENT_OF[command], "Ev")]
    if command in help_data.FILES_OF:
        lines += [".Sh FILES", *tagged(help_data.FILES_OF[command], "Pa")]
    lines += [".Sh EXIT STATUS", *tagged(help_data.EXIT.get(command, help_data.FAILED), "Li"), *examples(command)]
    return "\n".join([*lines, ".Sh SEE ALSO", *references(["pyrunc", *("pyrunc-" + name for name in related(command))])]) + "\n"


def related(command: str) -> list[str]:
    """The commands of the same group in --help."""
    return sorted(name for _title, names in help_data.GROUPS if command in names for name in names if name != command)


def references(names: list[str]) -> list[str]:
    return [".Xr %s 8%s" % (name, " ," if name != names[-1] else "") for name in names]


def of_all(date: str) -> str:
    lines = head("pyrunc", "container runtime", date)
    lines += [".Sh SYNOPSIS", ".Nm", ".Op Ar global\\-options", ".Ar command", ".Op Ar options", ".Op Ar arguments"]
    lines += [".Sh DESCRIPTION", ".Nm", *paragraphs(ABOUT), ".Pp", "The global options are as follows:"]
    lines += option_list(command_table.GLOBAL, command_table.GLOBAL_SHORT)
    lines += [".Ss Commands", ".Bl -tag -width Ds"]
    for command in command_table.COMMANDS:
        lines += [".It Xr pyrunc-%s 8" % command, escaped(_help.ABOUT[command])]
    lines += [".El", ".Sh ENVIRONMENT", *tagged(ENVIRONMENT, "Ev"), ".Sh FILES", *tagged(FILES, "Pa")]
    lines += [".Sh EXIT STATUS", *paragraphs("The page of each command has its exit statuses. In general:")]
    lines += [*tagged((*help_data.FAILED, ("others", "Those of the program: see pyrunc-run(8) and pyrunc-exec(8).")), "Li"), *examples("")]
    lines += [".Sh DIAGNOSTICS", *paragraphs(ERRORS), ".Sh SEE ALSO"]
    names = sorted("pyrunc-" + command for command in command_table.COMMANDS)
    lines += references(names)
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """{file name: text}"""
    moment = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH") or datetime.datetime.now().timestamp()), datetime.UTC)
    date = "%s %d, %d" % (moment.strftime("%B"), moment.day, moment.year)
    return {"pyrunc.8": of_all(date), **{"pyrunc-%s.8" % command: of_command(command, date) for command in command_table.COMMANDS}}


def main(argv: list[str]) -> int:
    if len(argv) != 1 or argv[0].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 1
    target = pathlib.Path(argv[0])
    target.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (target / name).write_text(text)
    print("%s: %d manual pages" % (target, len(command_table.COMMANDS) + 1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
