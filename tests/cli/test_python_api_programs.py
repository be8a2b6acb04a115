"""Programs that use `import pyrunc`: one that ends without closing anything, and one of an ordinary user."""

import os
import subprocess

import pytest

import harness

PYTHON = str(harness.ROOT / ".venv/bin/python")


@pytest.mark.kernel
@pytest.mark.slow
def test_a_program_that_ends_without_closing(pyrunc, waiting, token):
    """The helper ends with the program, however that ends; its containers stay."""
    code = (
        "import os, pyrunc, sys\n"
        "rt = pyrunc.Runtime(sys.argv[1], root=sys.argv[2])\n"
        "rt.create(sys.argv[3], sys.argv[4]).start()\n"
        "print(rt._caller._stop.peek()[2][0].pid, flush=True)\n"
        "os._exit(0)\n"
    )
    id = pyrunc.new_id()
    done = subprocess.run(
        [PYTHON, "-c", code, pyrunc.path, pyrunc.root, waiting, id], capture_output=True, text=True, timeout=harness.WATCHDOG
    )
    assert done.returncode == 0, done
    try:
        with harness.Watched(int(done.stdout)) as watched:
            watched.wait()
    except ProcessLookupError:
        pass  # it was faster
    assert pyrunc.status(id) == "running"


@pytest.mark.kernel
def test_without_root(pyrunc, scratch):
    """Bundle.busybox() checks the current user and creates a rootless config."""
    root = scratch / "rootless-api"
    root.mkdir()
    os.chown(root, 1000, 1000)
    code = (
        "import pyrunc, sys\n"
        "with pyrunc.Runtime(sys.argv[1], root=sys.argv[2]) as rt, pyrunc.Bundle.busybox(['/bin/sh', '-c', 'id -u; exit 6']) as bundle:\n"
        "    print(rt.run(bundle), rt.containers())\n"
    )
    argv = [PYTHON, "-c", code, pyrunc.path, root / "state"]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=harness.WATCHDOG, user=1000, group=1000, extra_groups=[], cwd="/"
        )
    except PermissionError:
        pytest.skip("uid 1000 may not execute the interpreter in its directory")
    assert "status=6, stdout=b'0\\n'" in done.stdout and done.stdout.endswith(" []\n"), done
