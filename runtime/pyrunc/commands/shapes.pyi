"""Documents that commands read and print, as types: nothing here exists at run time."""

from typing import Any, Protocol, TypeAlias

from pyrunc.cmdline import Options

Json: TypeAlias = Any  # a value in one of the documents below
Document: TypeAlias = dict[str, Json]  # a config, resources or mounts that were just read: the validator checks them
Output: TypeAlias = dict[str, Json]  # what --format json prints: cli/test_formats.py checks it against docs/schemas

class Module(Protocol):
    """A module of commands/ that is a command."""

    __file__: str | None

    def main(self, options: Options, args: list[str]) -> int: ...
