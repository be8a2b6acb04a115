"""The Python API of pyrunc, which `import pyrunc` provides: Runtime, Bundle, Container, results and exceptions.

It drives the command line through one helper process (keeper.py) and imports nothing of the runtime itself except the example config, so
that applications never contain code that enters namespaces. Runtime and Container are synchronous and can be used by many threads;
AsyncRuntime and AsyncContainer are for asyncio.
"""

from pyrunc.api.aio import AsyncContainer, AsyncRuntime
from pyrunc.api.bundle import Bundle
from pyrunc.api.container import Container
from pyrunc.api.errors import (
    AlreadyExistsError,
    BugError,
    Error,
    HookError,
    NotFoundError,
    NotInstalledError,
    ProgramFailed,
    RefusedError,
    StateError,
    StepError,
    TimeoutExpired,
    UnsupportedError,
    UsageError,
)
from pyrunc.api.results import Completed, Difference, ExitStatus, Mount, Problem, State, Stats
from pyrunc.api.runtime import Runtime

__all__ = [
    "AlreadyExistsError", "AsyncContainer", "AsyncRuntime", "BugError", "Bundle", "Completed", "Container", "Difference", "Error", "ExitStatus", "HookError", "Mount", "NotFoundError",
    "NotInstalledError", "Problem", "ProgramFailed", "RefusedError", "Runtime", "State", "StateError", "Stats", "StepError",
    "TimeoutExpired", "UnsupportedError", "UsageError",
]  # fmt: skip
