"""What helpers receive and answer, as types: nothing here exists at run time."""

from typing import Any, Protocol, TypeAlias

Json: TypeAlias = Any  # of a request, an answer or an engine's file, which have just been read; who calls a helper by name knows the rest
Payload: TypeAlias = dict[str, Json]  # of a request; the helper's docstring says what it has
Document: TypeAlias = dict[str, Json]  # an engine's file: each member is checked before it is used
Want: TypeAlias = dict[str, Json]  # what `install` is to set (helper/engines.py)
Profile: TypeAlias = dict[str, Json]  # a seccomp profile, planned by parts/seccomp (helper/seccomp.py)
Rule: TypeAlias = dict[str, Json]  # of a Profile
Foreign: TypeAlias = Any  # an object of pyseccomp, which has no types

Attribute: TypeAlias = tuple[int, int, bool]  # number, value, whether older versions may lack it
Row: TypeAlias = tuple[int, int, tuple[tuple[int, int, int, int], ...]]  # action, number of the call, comparisons

class Library(Protocol):
    """The calls of libseccomp: linux/_libseccomp, or helper/pyseccomp_calls.py."""

    def program(self, default: int, arch: int, attributes: tuple[Attribute, ...], rules: tuple[Row, ...], /) -> bytes: ...
    def numbers(self, arch: int, names: list[str], /) -> list[int]: ...
    def native(self) -> int: ...
    def version(self) -> str: ...
