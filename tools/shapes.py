"""Types that several tools share. Rule: types only, no code."""

from collections.abc import Callable
from typing import Any

Json = Any  # a document that has just been read: reports, configurations, what qemu and the schemas say
Option = Any  # keyword arguments that are passed to subprocess.run, which checks them
Say = Callable[[str], None]  # takes a line of progress
