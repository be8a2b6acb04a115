"""`--help` fits on a screen, explains every option and has examples that the parser accepts; its tables only name existing options."""

import shlex

import pytest

from pyrunc import cli
from pyrunc import commands as command_table
from pyrunc.commands import help as _help
from pyrunc.commands import help_data

LINES, WIDTH = 50, 80


@pytest.mark.parametrize("command", ["", *command_table.COMMANDS])
def test_it_fits_a_screen(command):
    lines = (_help.of(command) if command else _help.top()).splitlines()
    assert len(lines) <= (LINES if command else 24), len(lines)
    assert [line for line in lines if len(line) > WIDTH] == []


@pytest.mark.parametrize("command", ["", *command_table.COMMANDS])
def test_every_option_is_explained(command):
    kinds = command_table.COMMANDS[command].options if command else command_table.GLOBAL
    assert [name for name in kinds if not _help.meaning(command, name)] == []
    assert not command or _help.ABOUT[command]


@pytest.mark.parametrize("command", ["", *command_table.COMMANDS])
def test_examples_are_command_lines(command):
    """The parser accepts each of them, and each is about its command. (A redirection is left to the shell.)"""
    examples = help_data.EXAMPLES[command]
    assert 1 <= len(examples) <= 3
    for line in examples:
        words = shlex.split(line.partition(" > ")[0])
        assert words[0] == "pyrunc"
        _top, found, _options, _args = cli.parse(words[1:])
        assert found == command or not command
        assert line in (_help.of(command) if command else _help.top())


def test_every_command_can_be_found_on_the_first_screen():
    text = _help.top().replace("\n", " ").split()
    assert [name for name in command_table.COMMANDS if name not in text] == []
    assert [line.split()[0] for line in _help.commands().splitlines()] == list(command_table.COMMANDS)


def test_each_command_is_in_one_group():
    assert sorted(name for _title, names in help_data.GROUPS for name in names) == sorted(command_table.COMMANDS)


def test_commands_of_docker_are_not_commands_of_pyrunc():
    assert not set(help_data.ELSEWHERE) & set(command_table.COMMANDS)


def test_the_tables_name_what_exists():
    named = {name for _title, names in help_data.GROUPS for name in names} | set(help_data.EXAMPLES) - {""}
    assert named - set(command_table.COMMANDS) == set()
    options = {name for row in command_table.COMMANDS.values() for name in row.options} | set(command_table.GLOBAL)
    for key in help_data.VALUES:
        command, _, name = key.rpartition(" --")
        assert name in (command_table.COMMANDS[command].options if command else options), key


def test_offered_formats_are_accepted():
    """The values that are offered for --format are those that the command accepts."""
    for command, row in command_table.COMMANDS.items():
        if "format" not in row.options:
            continue
        module = cli.load(command)
        with open(module.__file__) as file:
            text = file.read()
        for word in help_data.value(command, "format"):
            assert '"%s"' % word in text, (command, word)


@pytest.mark.parametrize(
    "usage, found",
    [
        ("ID [SIGNAL]", [(help_data.IDS, False), (help_data.SIGNAL, False)]),
        ("add|remove ID [DESTINATION...]", [(("add", "remove"), False), (help_data.IDS, False), (None, True)]),
        ("[ID...]", [(help_data.IDS, True)]),
        ("", []),
    ],
)
def test_positionals(usage, found):
    assert help_data.positionals(usage) == found
