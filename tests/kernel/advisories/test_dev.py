"""The /dev of the image: links, files and pipes in place of null, console, ptmx, pts and of /dev itself."""

import os
import select
import stat
import subprocess

import pytest

import harness
from advisory_tools import bind, replace

pytestmark = pytest.mark.kernel

ROUNDS = 25
DEVPTS = ("/dev/pts",)  # no terminal can be opened without it; the controls have it


def null_of(path, shape):
    if shape == "link":
        path.symlink_to("/marker")
    elif shape == "file":
        path.write_text("file")
    elif shape == "fifo":
        os.mkfifo(path)
    elif shape == "1:5":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))


@pytest.mark.parametrize("shape", ["link", "file", "fifo", "1:5", "missing"])
@pytest.mark.parametrize("dev", ["image", "bind"])
def test_cve_2025_31133_the_cover_of_a_masked_file(runtime, no_dev, harmless, shape, dev):
    """A masked file is masked: it can't be read, writes do not reach it, and nothing else in the image changes."""
    script = "{ timeout 2 cat /secret | head -c 6; echo lost >/secret & wait; stat -c %t:%T /secret; } >/result 2>/errors"  # without /dev/null: the one in the image is used
    bundle = no_dev({"/linux/maskedPaths": ["/secret"]}, args=["/bin/sh", "-c", script])
    control = harmless(bundle, prepare=lambda twin: (twin.rootfs / "secret").write_text("secret"))
    assert (control.bundle.rootfs / "result").read_text() == "1:3\n"
    folder = bundle.path / "dev" if dev == "bind" else None
    if folder:
        folder.mkdir()
        bundle.patch({"/mounts/-": bind(folder, "/dev")})
    (bundle.rootfs / "marker").write_text("marker")
    (bundle.rootfs / "secret").write_text("secret")
    null_of((folder or bundle.rootfs / "dev") / "null", shape)
    result = runtime.run(bundle)
    assert (bundle.rootfs / "marker").read_text() == "marker" and (bundle.rootfs / "secret").read_text() == "secret"
    seen = (bundle.rootfs / "result").read_text() if (bundle.rootfs / "result").exists() else ""
    assert "secret" not in seen and "marker" not in seen
    assert result.code != 0 or seen.split()[-1:] == ["1:3"], (result, seen)


def test_cve_2025_31133_a_race_for_a_shared_null(runtime, no_dev, harmless, swap):
    """A sibling exchanges /dev/null in a /dev that both share."""
    bundle = no_dev({"/linux/maskedPaths": ["/secret"]}, args=["/bin/sh", "-c", "cat /secret >/result; echo lost >/secret"])
    shared = bundle.path / "shared"
    shared.mkdir()
    bundle.patch({"/mounts/-": bind(shared, "/dev")})
    os.mknod(shared / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    harmless(bundle, prepare=lambda twin: (twin.rootfs / "secret").write_text("secret"))
    (shared / "other").symlink_to("/marker")
    swap(shared / "null", shared / "other")
    (bundle.rootfs / "marker").write_text("marker")
    (bundle.rootfs / "secret").write_text("secret")
    for _ in range(ROUNDS):
        result = runtime.run(bundle)
        seen = (bundle.rootfs / "result").read_text() if (bundle.rootfs / "result").exists() else ""
        assert "secret" not in seen and "marker" not in seen, result
        assert (bundle.rootfs / "marker").read_text() == "marker" and (bundle.rootfs / "secret").read_text() == "secret"


def read_all(fd):
    data = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    while poll.poll(harness.WATCHDOG * 1000):
        try:
            piece = os.read(fd, 4096)
        except OSError:
            break
        if not piece:
            break
        data += piece
    return data.decode()


def console(runtime, bundle, listener):
    """What the program with a terminal writes; None if create or start was refused."""
    id = runtime.new_id()
    if runtime.call("create", "--bundle", bundle, "--console-socket", listener.path, id).code:
        return None
    _, fds, _ = listener.receive()
    try:
        if runtime.call("start", id).code:
            return None
        return read_all(fds[0])
    finally:
        os.close(fds[0])


@pytest.mark.parametrize("shape", ["pts-link", "console-link", "console-file", "ptmx-file", "ptmx-directory", "ptmx-fifo"])
@pytest.mark.parametrize("pts", [False, True], ids=["", "devpts"])
def test_cve_2025_52565_the_console_is_a_terminal(runtime, no_dev, listener, shape, pts):
    """/dev/console is a terminal of the container, 136:N, or there is no container."""
    keep = DEVPTS if pts else ()
    script = "stat -L -c 'console %t:%T' /dev/console; echo written >/dev/console"
    bundle, control = (no_dev({"/process/terminal": True}, ["/bin/sh", "-c", script], kept) for kept in (keep, DEVPTS))
    seen = console(runtime, control, listener)
    assert seen is not None and "console 88:" in seen and "written" in seen, seen
    (bundle.rootfs / "marker").write_text("marker")
    dev = bundle.rootfs / "dev"
    (dev / "pts").mkdir()
    if shape == "pts-link":
        for number in range(10):
            (dev / "pts" / str(number)).symlink_to("/marker")
    elif shape == "console-link":
        (dev / "console").symlink_to("/marker")
    elif shape == "console-file":
        (dev / "console").write_text("")
    elif shape == "ptmx-file":
        (dev / "ptmx").write_text("")
    elif shape == "ptmx-directory":
        (dev / "ptmx").mkdir()
    else:
        os.mkfifo(dev / "ptmx")
    seen = console(runtime, bundle, listener)
    assert (bundle.rootfs / "marker").read_text() == "marker"
    assert seen is None or "console 88:" in seen, seen


@pytest.mark.parametrize("pts", [False, True], ids=["", "devpts"])
@pytest.mark.parametrize("there", [False, True], ids=["dangling", "existing"])
def test_cve_2026_88264_a_console_that_leads_out(runtime, no_dev, listener, host, pts, there):
    bundle, control = (no_dev({"/process/terminal": True}, ["/bin/echo", "works"], kept) for kept in (DEVPTS if pts else (), DEVPTS))
    assert console(runtime, control, listener) == "works\r\n"
    (bundle.rootfs / "dev/console").symlink_to(host / ("victim" if there else "created"))
    console(runtime, bundle, listener)


@pytest.mark.parametrize("terminal", [False, True], ids=["", "terminal"])
def test_cve_2026_41579_a_dev_that_leads_out(runtime, no_dev, listener, host, harmless, terminal):
    """No node and no link is created there, and an existing ptmx stays."""
    (host / "dev").mkdir()
    (host / "dev/ptmx").write_text("")
    host.freeze()
    bundle, control = (no_dev({"/process/terminal": terminal}, ["/bin/echo", "works"], kept) for kept in ((), DEVPTS))
    assert "works" in (console(runtime, control, listener) if terminal else harmless(control).out)
    replace(bundle.rootfs / "dev", host / "dev")
    if terminal:
        console(runtime, bundle, listener)
    else:
        runtime.run(bundle)


@pytest.mark.parametrize("shape", ["link", "file"])
@pytest.mark.parametrize("stream", ["pipe", "file"])
def test_cve_2026_88265_output_goes_to_the_caller(runtime, no_dev, harmless, shape, stream):
    """0 is the device number of pipes as well as files."""
    bundle = no_dev(args=["/bin/sh", "-c", "echo mine; echo mine >&2"])
    assert harmless(bundle).out == "mine\nworks\n"
    (bundle.rootfs / "marker").write_text("")
    if shape == "link":
        (bundle.rootfs / "dev/null").symlink_to("/marker")
    else:
        (bundle.rootfs / "dev/null").write_text("")
    if stream == "file":
        result = runtime.run(bundle)
        code, out = result.code, result.out
    else:
        done = subprocess.run(
            runtime.argv("run", "--bundle", bundle, runtime.new_id()),
            stdin=subprocess.DEVNULL, capture_output=True, env=runtime.env, text=True, timeout=harness.WATCHDOG,
        )  # fmt: skip
        code, out = done.returncode, done.stdout
    assert code != 0 or out == "mine\n"
    assert (bundle.rootfs / "marker").read_text() == ""
    assert shape == "link" or (bundle.rootfs / "dev/null").read_bytes() == b""
