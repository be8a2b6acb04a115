# The table that specs/derive.py writes, for type checkers. A rule is a tuple, its kind first.

from typing import Literal, TypeAlias

Unit: TypeAlias = tuple[str, int, int | None, bool]  # (characters, least, most or None, whether these are the ones excluded)

Text: TypeAlias = tuple[Literal["s"]]
Flag: TypeAlias = tuple[Literal["b"]]
Range: TypeAlias = tuple[Literal["i"], int, int]  # lowest and highest
Number: TypeAlias = tuple[Literal["n"], int | None]  # lowest
Choice: TypeAlias = tuple[Literal["e"], tuple[str, ...]]
Pattern: TypeAlias = tuple[Literal["p"], str, tuple[Unit, ...]]  # the schema's regular expression, and the same as units
Object: TypeAlias = tuple[Literal["o"], tuple[str, ...], dict[str, "Rule"], "Rule | None"]  # required, properties, of all other keys
List: TypeAlias = tuple[Literal["a"], "Rule", int]  # of each element, and how many there must be
Anything: TypeAlias = tuple[Literal["x"]]
Rule: TypeAlias = Text | Flag | Range | Number | Choice | Pattern | Object | List | Anything

FOREIGN: tuple[str, ...]
ROOTS: dict[str, Object]
