"""completion bash|zsh|fish: prints the completion script for a shell. It is made from the table of commands, so no option can be missing.

The scripts get the ids of containers from `pyrunc list -q`, with the --root of the command line. They run the command that is on the line, so a
copy under another name completes its own containers.
"""

from __future__ import annotations

from pyrunc import codes, fileio
from pyrunc import commands as command_table
from pyrunc.commands import help as _help
from pyrunc.commands import help_data
from pyrunc.errors import UsageError, quote
from pyrunc.linux import caps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.help_data import Kind

    OptionRow = tuple[list[str], bool, Kind, str, bool]  # names with dashes, takes a value, kind of the value, meaning, repeats


SHELLS = ("bash", "zsh", "fish")


def main(options: Options, args: list[str]) -> int:
    if args[0] not in SHELLS:
        raise UsageError("unknown-shell", "no completion for the shell %s" % quote(args[0]), "completion", None, "use bash, zsh or fish")
    fileio.write_all(1, {"bash": bash, "zsh": zsh, "fish": fish}[args[0]]().encode())
    return 0


def _command_options(command: str) -> list[OptionRow]:
    """The options of a command, as OptionRow; the global options for "" as command."""
    kinds, short = (
        (command_table.COMMANDS[command].options, command_table.COMMANDS[command].short)
        if command
        else (command_table.GLOBAL, command_table.GLOBAL_SHORT)
    )
    others = _help.other_names(short)
    found = [
        (
            ["--" + name, *others.get(name, ())],
            kind != command_table.B,
            help_data.value(command, name),
            _help.meaning(command, name),
            kind == command_table.R,
        )
        for name, kind in kinds.items()
    ]
    if command:
        found.append((["--help", "-h"], False, None, "show this", False))
    return found


def _words(kind: Kind) -> tuple[str, ...] | None:
    """The words of a kind, or None if they are not known in advance."""
    if kind == help_data.COMMAND:
        return tuple(command_table.COMMANDS)
    if kind == help_data.CODE:
        return tuple(row["code"] for row in codes.rows())
    if type(kind) is tuple:
        return kind
    return {help_data.SIGNAL: help_data.SIGNALS, help_data.CAPABILITY: caps.NAMES}.get(str(kind))


def _commands() -> list[tuple[str, list[tuple[Kind, bool]]]]:
    """[(command, its positionals)]"""
    return [(name, help_data.positionals(_help.POSITIONAL.get(name, ""))) for name in command_table.COMMANDS]


# ---------------------------------------------------------------- bash


BASH = """# bash completion for pyrunc, written by `pyrunc completion bash`
_pyrunc_options() {
    case $1 in
%(options)s    esac
}
_pyrunc_value() { # command option: how the value of an option is completed; nothing for an option without a value
    case "$1 $2" in
%(values)s    esac
}
_pyrunc_positional() { # command number
    case "$1 $2" in
%(positionals)s    esac
}
_pyrunc_complete() { # what [the word]
    local word=${2-$cur}
    case $1 in
        FILE) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
        DIR) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
        ID) mapfile -t COMPREPLY < <(compgen -W "$("$program" "${globals[@]}" list -q 2>/dev/null)" -- "$word") ;;
        ANY) COMPREPLY=() ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$1" -- "$word") ;;
    esac
}
_pyrunc() {
    local IFS=$' \\t\\n' cur=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]} command="" number=0 i=1 word what globals=() last=""
    [[ $program == "~/"* ]] && program=$HOME/${program:2}
    COMPREPLY=()
    # bash splits words at `=`: --bundle=/x is `--bundle` `=` `/x`
    while ((i < COMP_CWORD)); do
        word=${COMP_WORDS[i]}
        if [[ $word == -?* ]]; then
            what=$(_pyrunc_value "$command" "$word")
            if [[ -n $what ]]; then
                [[ ${COMP_WORDS[i + 1]} == = ]] && ((i += 1))
                if ((i + 1 >= COMP_CWORD)); then
                    [[ $cur == = ]] && cur=""
                    _pyrunc_complete "$what"
                    return
                fi
                [[ $word == --root ]] && globals=(--root "${COMP_WORDS[i + 1]}")
                ((i += 1))
            fi
        elif [[ -z $command ]]; then
            command=$word
        else
            ((number += 1))
        fi
        ((i += 1))
    done
    if [[ $cur == -* ]]; then
        _pyrunc_complete "$(_pyrunc_options "$command")"
    elif [[ -z $command ]]; then
        _pyrunc_complete "%(commands)s"
    else
        _pyrunc_complete "$(_pyrunc_positional "$command" "$number")"
    fi
}
complete -F _pyrunc pyrunc
"""


def _bash_what(kind: Kind) -> str:
    words = _words(kind)
    return " ".join(words) if words else str(kind or "ANY")


def bash() -> str:
    options, values, positionals = [], [], []
    for command in ("", *command_table.COMMANDS):
        rows = _command_options(command)
        options.append('        "%s") echo "%s" ;;\n' % (command, " ".join(" ".join(names) for names, *_ in rows)))
        for names, takes, kind, _meaning, _repeats in rows:
            if takes:
                pattern = "|".join('"%s %s"' % (command, name) for name in names)
                values.append('        %s) echo "%s" ;;\n' % (pattern, _bash_what(kind)))
    for command, words in _commands():
        for number, (kind, repeats) in enumerate(words):
            pattern = '"%s "*' % command if repeats and number == 0 else '"%s %d"' % (command, number)
            if repeats and number:
                pattern = "|".join('"%s %d"' % (command, n) for n in range(number, number + 9))
            positionals.append('        %s) echo "%s" ;;\n' % (pattern, _bash_what(kind)))
    parts = {"options": "".join(options), "values": "".join(values), "positionals": "".join(positionals)}
    return BASH % {**parts, "commands": " ".join(command_table.COMMANDS)}


# ---------------------------------------------------------------- zsh


ZSH = """#compdef pyrunc
# zsh completion for pyrunc, written by `pyrunc completion zsh`
_pyrunc_ids() {
    local -a ids globals
    local at=${words_of_line[(i)--root(|=*)]}
    if [[ $words_of_line[at] == --root=* ]]; then
        globals=(--root ${(Q)words_of_line[at]#--root=})
    elif (( at < $#words_of_line )); then
        globals=(--root ${(Q)words_of_line[at+1]})
    fi
    ids=(${(f)"$(_call_program ids ${(q)words_of_line[1]} ${(q)globals} list -q 2>/dev/null)"})
    compadd -a ids
}
_pyrunc() {
    local curcontext=$curcontext state line
    local -a words_of_line=($words)
    local -A opt_args
    _arguments -C -S \\
%(globals)s        '1:command:->command' '*::argument:->argument' && return
    case $state in
        command)
            local -a commands=(
%(commands)s            )
            _describe command commands ;;
        argument)
            case $words[1] in
%(cases)s            esac ;;
    esac
}
if [[ $funcstack[1] == _pyrunc ]]; then _pyrunc "$@"; else compdef _pyrunc pyrunc; fi
"""


def _zsh_action(kind: Kind) -> str:
    words = _words(kind)
    if words:
        return "(%s)" % " ".join(words)
    return {help_data.DIR: "_files -/", help_data.FILE: "_files", help_data.IDS: "_pyrunc_ids"}.get(str(kind), "")


def _zsh_quoted(text: str) -> str:
    return "'%s'" % text.replace("'", "'\\''")


def _zsh_text(text: str) -> str:
    for char in "\\[]:":
        text = text.replace(char, "\\" + char)
    return text


def _zsh_specs(command: str) -> list[str]:
    specs = []
    for names, takes, kind, meaning, repeats in _command_options(command):
        for name in names:
            mark = "+" if takes and not name.startswith("--") else "=" if takes else ""
            spec = "%s%s[%s]" % (name, mark, _zsh_text(meaning))
            if takes:
                spec += ":%s:%s" % (name.lstrip("-"), _zsh_action(kind))
            specs.append(("*" if repeats else "") + spec)
    return specs


def zsh() -> str:
    pad = " " * 8
    globals_ = "".join("%s%s \\\n" % (pad, _zsh_quoted(spec)) for spec in _zsh_specs(""))
    commands, cases = [], []
    for command, words in _commands():
        commands.append("%s%s\n" % (pad * 2, _zsh_quoted("%s:%s" % (command, _zsh_text(_help.ABOUT.get(command, ""))))))
        specs = _zsh_specs(command)
        for kind, repeats in words:
            specs.append("%s:argument:%s" % ("*" if repeats else "", _zsh_action(kind)))
        cases.append("%s%s) _arguments -S %s ;;\n" % (pad * 2, command, " ".join(map(_zsh_quoted, specs))))
    return ZSH % {"globals": globals_, "commands": "".join(commands), "cases": "".join(cases)}


# ---------------------------------------------------------------- fish


FISH = """# fish completion for pyrunc, written by `pyrunc completion fish`
function __pyrunc_words # what stands before the cursor, without the global options: the command, then its words
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case %(with_value)s
                set -e words[1]
            case '-*'
            case '*'
                break
        end
        set -e words[1]
    end
    string join \\n -- $words
end
function __pyrunc_in # command: are we behind it?
    set -l words (__pyrunc_words)
    test "$words[1]" = "$argv[1]"
end
function __pyrunc_number # command [options with values]: how many positionals stand behind it; fails elsewhere, or where a value is due
    set -l words (__pyrunc_words)
    test "$words[1]" = "$argv[1]"; or return 1
    set -l number 0
    set -l skip 0
    for word in $words[2..]
        if test $skip = 1
            set skip 0
        else if contains -- $word $argv[2..]
            set skip 1
        else if not string match -q -- '-*' $word
            set number (math $number + 1)
        end
    end
    test $skip = 0; and echo $number
end
function __pyrunc_at # number command ...: is it the turn of its positional?
    set -l number (__pyrunc_number $argv[2..]); and test $number -eq $argv[1]
end
function __pyrunc_from # the same, of that one or a later one
    set -l number (__pyrunc_number $argv[2..]); and test $number -ge $argv[1]
end
function __pyrunc_ids
    set -l words (commandline -opc)
    set -l globals
    if set -l at (contains -i -- --root $words)
        set globals --root $words[(math $at + 1)]
    else if set -l given (string match -- '--root=*' $words)
        set globals $given[1]
    end
    eval (string escape -- $words[1] $globals list -q) 2>/dev/null
end
complete -c pyrunc -f
"""


def _fish_quoted(text: str) -> str:
    return "'%s'" % text.replace("\\", "\\\\").replace("'", "\\'")


def _fish_action(kind: Kind) -> str:
    words = _words(kind)
    if words:
        return " -a " + _fish_quoted(" ".join(words))
    return {
        help_data.DIR: " -a '(__fish_complete_directories)'",
        help_data.FILE: " -F",
        help_data.IDS: " -a '(__pyrunc_ids)'",
    }.get(str(kind), "")


def fish() -> str:
    with_value = [name for names, takes, *_ in _command_options("") if takes for name in names]
    lines = [FISH % {"with_value": " ".join(with_value)}]
    for command in ("", *command_table.COMMANDS):
        where = _fish_quoted("__pyrunc_in %s" % command if command else "test -z (__pyrunc_words)[1]")
        for names, takes, kind, meaning, _repeats in _command_options(command):
            flags = " ".join("-l " + n[2:] if n.startswith("--") else "-s " + n[1:] for n in names)
            action = " -x" + _fish_action(kind) if takes and kind != help_data.FILE else " -r -F" if takes else ""
            lines.append("complete -c pyrunc -n %s %s%s -d %s\n" % (where, flags, action, _fish_quoted(meaning)))
    for command, words in _commands():
        about = _fish_quoted(_help.ABOUT.get(command, ""))
        lines.append("complete -c pyrunc -n 'test -z (__pyrunc_words)[1]' -a %s -d %s\n" % (command, about))
        skip = " ".join(name for names, takes, *_ in _command_options(command) if takes for name in names)
        for number, (kind, repeats) in enumerate(words):
            action = _fish_action(kind)
            if action:
                where = _fish_quoted("__pyrunc_%s %d %s %s" % ("from" if repeats else "at", number, command, skip))
                lines.append("complete -c pyrunc -n %s%s\n" % (where, action))
    return "".join(lines)
