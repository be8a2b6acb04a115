"""Helpers shared by the Kubernetes tests."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import cri as api
from sandbox import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cri import Cri
    from harness import Option


@contextlib.contextmanager
def pod(cri: Cri, name: str, **options: Option) -> Iterator[str]:
    """A pod sandbox, which is stopped and removed with its containers at the end."""
    sandbox = cri.run_pod(name, **options)
    try:
        yield sandbox
    finally:
        cri.remove_pod(sandbox)


def started(cri: Cri, sandbox: str, name: str, *command: str, **options: Option) -> str:
    container = cri.create(sandbox, name, command, **options)
    cri.start(container)
    return container


def finished(cri: Cri, sandbox: str, name: str, script: str, **options: Option) -> tuple[int, str]:
    """(exit code, output) of a container that runs a shell script."""
    container = started(cri, sandbox, name, "sh", "-c", script, **options)
    wait_until("it has exited", lambda: cri.status(container)[0] == api.EXITED)
    code, output = cri.status(container)[1], cri.log(sandbox, name)
    cri.remove(container)
    return code, output
