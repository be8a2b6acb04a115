"""pyrunc: an OCI low-level container runtime in Python. `import pyrunc` provides the names of pyrunc.api (docs/python.md), each loaded on
first use: every command of the runtime loads this file, and none of them needs the API."""

__all__ = (
    "AlreadyExistsError", "AsyncContainer", "AsyncRuntime", "BugError", "Bundle", "Completed", "Container", "Difference", "Error", "ExitStatus", "HookError", "Mount", "NotFoundError",
    "NotInstalledError", "Problem", "ProgramFailed", "RefusedError", "Runtime", "State", "StateError", "Stats", "StepError",
    "TimeoutExpired", "UnsupportedError", "UsageError",
)  # fmt: skip


__version__ = "0.1.0"  # commands/version.py has the same


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError("module 'pyrunc' has no attribute '%s'" % name)
    found: object = getattr(__import__("pyrunc.api", None, None, __all__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name[:2] == "__")})  # modules of the runtime are not part of the API
