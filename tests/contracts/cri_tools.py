"""What the tests of Kubernetes share."""

import contextlib

import cri as api
from sandbox import wait_until


@contextlib.contextmanager
def pod(cri, name, **options):
    """A pod sandbox, stopped and removed at the end with what is in it."""
    sandbox = cri.run_pod(name, **options)
    try:
        yield sandbox
    finally:
        cri.remove_pod(sandbox)


def started(cri, sandbox, name, *command, **options):
    container = cri.create(sandbox, name, command, **options)
    cri.start(container)
    return container


def finished(cri, sandbox, name, script, **options):
    """(exit code, output) of a container that runs a shell script to its end."""
    container = started(cri, sandbox, name, "sh", "-c", script, **options)
    wait_until("it has exited", lambda: cri.status(container)[0] == api.EXITED)
    code, output = cri.status(container)[1], cri.log(sandbox, name)
    cri.remove(container)
    return code, output
