"""The shapes of the bench's data. Rule: types only, nothing to run."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

Json = Any  # a part of the figures' document: it may have been read from a file that an earlier bench wrote
Document = dict[str, Json]
Config = dict[str, Json]  # a config.json of bundles/, just read
Say = Callable[[str], None]  # progress
Runtimes = Sequence[tuple[str, str]]  # (label, absolute path)
Rows = list[list[str]]  # a table, its head first
Section = tuple[str, Rows, list[str], str]  # title, table, sentences, plot as SVG
Took = dict[str, float]  # step: ms


class Figures(TypedDict):
    """What is left of a list of measured values."""

    median: float
    q1: float
    q3: float
    min: float
    max: float
    n: int


Value = Figures | float  # what a plot shows
