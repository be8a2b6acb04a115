"""The types of the bench's data. Rule: types only, no code."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

Json = Any  # part of the document with the figures: it may have been read from a file of an earlier run
Document = dict[str, Json]
Config = dict[str, Json]  # a config.json of bundles/, just read
Say = Callable[[str], None]  # progress
Runtimes = Sequence[tuple[str, str]]  # (label, absolute path)
Rows = list[list[str]]  # a table, its head first
Section = tuple[str, Rows, list[str], str]  # title, table, sentences, plot as SVG
Took = dict[str, float]  # step: ms


class Figures(TypedDict):
    """The summary of a list of measured values."""

    median: float
    q1: float
    q3: float
    min: float
    max: float
    n: int


Value = Figures | float  # a value in a plot
