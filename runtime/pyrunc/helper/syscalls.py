"""Helper: numbers of system calls by name, as libseccomp knows them for this machine."""

from pyrunc.helper.seccomp import library


def run(payload):
    """payload: {"names": [...]} → {name: number, -1 for one that is not known}."""
    lib = library()
    return {name: lib.resolve_syscall(lib.Arch.NATIVE, name) for name in payload["names"]}
