"""seal.py: the steps of CVE-2019-5736 against a sealed interpreter, and the results of the three methods of sealing."""

import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import subprocess

import pytest

import harness
import kernel_constants
from pyrunc import seal
from pyrunc.linux import _syscalls, constants
from tail import ready

pytestmark = pytest.mark.kernel

RUNTIME = os.path.dirname(os.path.dirname(os.path.abspath(seal.__file__)))
PYTHON = "/usr/bin/python3"
WAYS = {"overlay": seal.OVERLAY, "memfd": seal.MEMFD, "unnamed": seal.UNNAMED}
SEALS = kernel_constants.F_SEAL_SEAL | kernel_constants.F_SEAL_SHRINK | kernel_constants.F_SEAL_GROW | kernel_constants.F_SEAL_WRITE

# A launcher that seals itself with one method, then describes itself and waits for a line.
LAUNCHER = """
import sys
sys.path.append(%r)
import posix
from pyrunc import seal
seal.WAYS = %r
was = seal.is_sealed()
seal.ensure([sys.argv[0], *sys.argv[1:]])
posix.write(1, repr((was, seal.is_sealed(), sys.argv, sys.executable, posix.readlink("/proc/self/exe"))).encode() + b"\\n")
posix.read(0, 1)
"""


@pytest.fixture(scope="module")
def interpreter():
    """The path of the host's interpreter; its hash is compared at the end."""
    path = os.path.realpath(PYTHON)
    before = hashlib.sha256(open(path, "rb").read()).hexdigest()
    yield path
    assert hashlib.sha256(open(path, "rb").read()).hexdigest() == before


class Sealed:
    def __init__(self, tmp_path, way, *args, env=None, python=PYTHON):
        script = tmp_path / "launcher.py"
        script.write_text(LAUNCHER % (RUNTIME, (WAYS[way],) if way in WAYS else ()))
        self.process = subprocess.Popen([python, "-I", "-S", str(script), *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        ready(self.process.stdout.fileno(), "the sealed process")
        line = self.process.stdout.readline()
        assert line, self.process.wait()
        self.was, self.now, self.argv, self.executable, self.exe = eval(line)
        self.pid = self.process.pid
        self.path = "/proc/%d/exe" % self.pid

    def end(self):
        self.process.stdin.close()
        assert self.process.wait() == 0
        self.process.stdout.close()


@pytest.fixture(params=WAYS)
def sealed(request, tmp_path, interpreter):
    made = Sealed(tmp_path, request.param, "create", "-x", "id", env={"A": "b", "LANG": "C"})
    made.way = request.param  # type: ignore[attr-defined]
    yield made
    made.end()


def test_it_executes_itself_once_with_the_same_arguments(sealed):
    assert (sealed.was, sealed.now) == (True, True)  # the second run, which is sealed, writes the line
    assert sealed.argv[1:] == ["create", "-x", "id"] and sealed.argv[0].endswith("/launcher.py")
    assert sealed.executable == PYTHON
    assert sealed.exe.startswith({"overlay": "/python3", "memfd": "/memfd:pyrunc", "unnamed": "/"}[sealed.way])


def test_the_environment_is_exactly_the_callers(sealed):
    assert open("/proc/%d/environ" % sealed.pid, "rb").read() == b"A=b\0LANG=C\0"


def test_it_is_the_same_program(sealed, interpreter):
    assert open(sealed.path, "rb").read() == open(interpreter, "rb").read()


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_APPEND])
def test_it_cannot_be_opened_for_writing_while_it_runs(sealed, flags):
    with pytest.raises(OSError) as failed:
        os.open(sealed.path, flags)
    assert failed.value.errno in (errno.EROFS, errno.EPERM, errno.ETXTBSY)


def test_a_file_that_was_opened_while_it_ran_is_not_the_hosts(sealed, interpreter):
    """The exploit opens an O_PATH descriptor now, and O_WRONLY through /proc/self/fd once ETXTBSY is over."""
    held = os.open(sealed.path, os.O_PATH)
    assert not os.path.samestat(os.fstat(held), os.stat(interpreter))
    sealed.end()
    again = "/proc/self/fd/%d" % held
    if sealed.way == "overlay":
        with pytest.raises(OSError) as failed:
            os.open(again, os.O_WRONLY)
        assert failed.value.errno == errno.EROFS
        os.close(held)
        return
    fd = os.open(again, os.O_WRONLY)
    if sealed.way == "memfd":
        for change in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, 1 << 30)):
            with pytest.raises(PermissionError):
                change()
    else:  # only that process used the unnamed copy: it is not executed again, and it can't get a name
        assert os.fstat(fd).st_nlink == 0
        with pytest.raises(OSError) as failed:
            os.link("/proc/self/fd/%d" % fd, "/run/pyrunc-linked", follow_symlinks=True)
        assert failed.value.errno in (errno.ENOENT, errno.EXDEV)
    os.close(fd)
    os.close(held)


@pytest.mark.parametrize("way", ["overlay"])
def test_no_mount_call_makes_it_writable(tmp_path, interpreter, way):
    """Attempts of a process with CAP_SYS_ADMIN in a new mount namespace: remount, clone and clear, reconfigure."""
    sealed = Sealed(tmp_path, way)
    pid, fd = _syscalls.clone3(constants.CLONE_NEWNS)
    if pid == 0:
        os._exit(_attack(sealed.path, str(tmp_path / "target")))
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    sealed.end()
    assert os.waitstatus_to_exitcode(status) == 0


def _attack(path, target):
    """0 if every way to get a writable descriptor was refused; otherwise the number of the one that worked."""
    _syscalls.mount(None, "/", None, constants.MS_REC | constants.MS_PRIVATE, None)
    open(target, "w").close()
    before = os.stat(target)  # it may be on an overlay itself
    moves = (_remount, _remount_bind, _clone_and_clear, _reconfigure)
    for i, move in enumerate(moves):
        try:
            move(path, target)
        except OSError:
            pass
        for name in (path, target):
            try:
                os.open(name, os.O_WRONLY)
            except OSError:
                continue
            if name == path or not os.path.samestat(os.stat(target), before):
                return i + 1
    return 0


def _remount(path, _target):
    _syscalls.mount(None, path, None, constants.MS_REMOUNT, None)


def _remount_bind(path, target):
    _syscalls.mount(path, target, None, constants.MS_BIND, None)
    _syscalls.mount(None, target, None, constants.MS_REMOUNT | constants.MS_BIND, None)
    _syscalls.mount(None, target, None, constants.MS_REMOUNT, None)


def _clone_and_clear(path, target):
    fd = _syscalls.open_tree(constants.AT_FDCWD, path, constants.OPEN_TREE_CLONE)
    _syscalls.mount_setattr(fd, "", constants.AT_EMPTY_PATH, 0, constants.MOUNT_ATTR_RDONLY, 0, -1)
    _syscalls.move_mount(fd, "", constants.AT_FDCWD, target, constants.MOVE_MOUNT_F_EMPTY_PATH)


def _reconfigure(path, target):
    for place in (path, target):
        fd = _syscalls.fspick(constants.AT_FDCWD, place, 0)
        _syscalls.fsconfig(fd, constants.FSCONFIG_SET_FLAG, "rw", None, 0)
        _syscalls.fsconfig(fd, constants.FSCONFIG_CMD_RECONFIGURE, None, None, 0)


def test_memory_of_a_sealed_memfd_cannot_be_changed(tmp_path, interpreter):
    sealed = Sealed(tmp_path, "memfd")
    fd = os.open(sealed.path, os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    mapped = libc.mmap(None, 4096, 3, 1, fd, 0)  # PROT_READ | PROT_WRITE, MAP_SHARED
    assert mapped == ctypes.c_void_p(-1).value and ctypes.get_errno() in (errno.EACCES, errno.EPERM)
    os.close(fd)
    sealed.end()


# --- is it sealed?


def test_this_process_is_not(interpreter):
    assert seal.is_sealed() is False


def test_the_environment_is_not_consulted(tmp_path, interpreter):
    script = tmp_path / "ask.py"
    script.write_text("import sys; sys.path.append(%r)\nfrom pyrunc import seal\nsys.exit(seal.is_sealed())" % RUNTIME)
    env = {name: "1" for name in ("_LIBCONTAINER_CLONED_BINARY", "PYRUNC_SEALED", "SEALED", "_PYRUNC_SEALED")}
    assert subprocess.run([PYTHON, "-I", "-S", script], env=env).returncode == 0


@pytest.mark.parametrize(
    "missing",
    [0, kernel_constants.F_SEAL_WRITE, kernel_constants.F_SEAL_SEAL, kernel_constants.F_SEAL_GROW, kernel_constants.F_SEAL_SHRINK],
)
def test_a_tmpfs_file_without_all_seals(tmp_path, missing):
    """A memfd has no link in any case, which is safe by itself; a file with a name on a tmpfs would need seals, and has none."""
    fd = os.memfd_create("pyrunc", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, kernel_constants.F_ADD_SEALS, SEALS & ~missing)
    assert _syscalls.is_sealed_file(fd) is True
    os.close(fd)
    with open("/dev/shm/pyrunc-seal-%d" % os.getpid(), "w") as file:
        assert _syscalls.is_sealed_file(file.fileno()) is False
        os.unlink(file.name)


def test_a_read_only_overlay_with_a_path_is_not_a_seal(tmp_path):
    """The root of a read-only Docker container looks like this; it has an upper layer and can be remounted."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/file").write_text("x")
    pid, fd = _syscalls.clone3(constants.CLONE_NEWNS)
    if pid == 0:
        try:
            _syscalls.mount(None, "/", None, constants.MS_REC | constants.MS_PRIVATE, None)
            _syscalls.mount("tmpfs", str(tmp_path), "tmpfs", 0, None)
            for name in ("lower", "upper", "work", "merged"):
                (tmp_path / name).mkdir()
            (tmp_path / "lower/file").write_text("x")
            options = ",".join("%s=%s" % (k, tmp_path / v) for k, v in (("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")))
            _syscalls.mount("overlay", str(tmp_path / "merged"), "overlay", constants.MS_RDONLY, options)
            os._exit(_syscalls.is_sealed_file(os.open(tmp_path / "merged/file", os.O_RDONLY)))
        finally:
            os._exit(9)
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 0


def test_without_any_method_the_step_fails(tmp_path, interpreter):
    script = tmp_path / "launcher.py"
    script.write_text(LAUNCHER % (RUNTIME, ()))
    done = subprocess.run([PYTHON, "-I", "-S", script], input="", capture_output=True, text=True, timeout=harness.WATCHDOG)
    assert done.returncode == 1 and done.stdout == "" and "StepFailure" in done.stderr, done


def test_the_failure_names_call_and_errno(monkeypatch):
    from pyrunc.errors import CallError, StepFailure

    def refused(way):
        raise CallError(errno.EACCES, "refused", None, "memfd_create")

    monkeypatch.setattr(seal, "sealed_file", refused)
    with pytest.raises(StepFailure) as failed:
        seal.ensure(["x"])
    assert (failed.value.step, failed.value.call, failed.value.errno) == ("seal.ensure", "memfd_create", errno.EACCES)


def test_a_directory_with_colons_and_backslashes(tmp_path, interpreter):
    """Both have a meaning in lowerdir="""
    folder = tmp_path / "a:b\\c"
    folder.mkdir()
    python = folder / "python3"
    python.write_bytes(open(interpreter, "rb").read())
    python.chmod(0o755)
    code = (
        "import sys; sys.path.append(%r)\nfrom pyrunc import seal\nimport posix\nfd = seal.sealed_file(seal.OVERLAY)\n"
        "a, b = posix.fstat(fd), posix.stat('/proc/self/exe')\nassert a.st_size == b.st_size and seal._syscalls.is_sealed_file(fd)"
        % RUNTIME
    )
    subprocess.run([python, "-I", "-S", "-c", code], env={"PYTHONHOME": "/usr"}, check=True)


def test_without_privileges_a_memfd_is_used(package_for_all, interpreter):
    script = package_for_all / "launcher.py"
    script.write_text(LAUNCHER % (str(package_for_all), seal.WAYS))
    run = subprocess.run([PYTHON, "-I", "-S", script], input=b"", capture_output=True, user=65534, group=65534, extra_groups=[])
    assert b"memfd:pyrunc" in run.stdout, run.stderr


def test_standard_library_is_found_again(tmp_path, interpreter):
    script, ask = tmp_path / "library.py", "import json; print(json.__file__)"
    script.write_text(LAUNCHER % (RUNTIME, (seal.OVERLAY,)) + ask + "\n")
    expected = subprocess.run([PYTHON, "-I", "-S", "-c", ask], capture_output=True, text=True, check=True).stdout
    done = subprocess.run([PYTHON, "-I", "-S", script], input="", capture_output=True, text=True, timeout=harness.WATCHDOG)
    assert done.stdout.startswith("(True, True,") and done.stdout.endswith("\n" + expected), done


def test_an_executable_in_the_root_directory(tmp_path, interpreter):
    """Its directory is / itself, so an overlay is not possible, and the next method is tried."""
    python = "/pyrunc-test-python%d" % os.getpid()
    shutil.copy(interpreter, python)
    code = "import sys; sys.path.append(%r)\nfrom pyrunc import seal\nseal.sealed_file(seal.OVERLAY)" % RUNTIME
    try:
        done = subprocess.run([python, "-I", "-S", "-c", code], env={"PYTHONHOME": "/usr"}, capture_output=True, text=True)
        assert done.returncode and "CallError: [Errno %d]" % errno.EINVAL in done.stderr
        made = Sealed(tmp_path, "memfd", python=python, env={"PYTHONHOME": "/usr"})
        made.end()
    finally:
        os.unlink(python)


# --- the running program is sealed, not the file at its path


def covered(tmp_path, way, replace):
    """Runs a copy of the interpreter while its path leads to another file. -> the end of the sealed file, and the errors."""
    folder = tmp_path / way
    folder.mkdir()
    python, other = folder / "python3", folder / "other"
    shutil.copy(PYTHON, python)
    shutil.copy(PYTHON, other)
    with open(other, "ab") as file:
        file.write(b"another one")
    code = (
        "import sys; sys.path.append(%r)\nfrom pyrunc import seal\nimport posix, time\n"
        "posix.write(1, b'.'); posix.read(0, 1)\n"
        "fd = seal.sealed_file(seal.%s)\nposix.lseek(fd, -11, 2)\nposix.write(1, posix.read(fd, 11))" % (RUNTIME, way.upper())
    )
    started = str(python)
    if replace == "mounted":  # `other` is running; an overlay of the directory would contain the file below the mount
        script = 'mount --make-rprivate / && mount --bind %s %s && exec %s -I -S -c "$0"' % (other, python, python)
        argv = ["unshare", "-m", "sh", "-c", script, code]
    else:
        argv = [started, "-I", "-S", "-c", code]
    process = subprocess.Popen(
        argv, env={"PYTHONHOME": "/usr", "PATH": os.environ["PATH"]}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.read(1) == b".", process.stderr.read()
    if replace == "renamed":
        os.rename(other, python)
    out, errors = process.communicate(b"x")
    return out, errors


@pytest.mark.parametrize("replace", ["mounted", "renamed"])
def test_the_overlay_of_another_file_at_the_path_is_refused(tmp_path, interpreter, replace):
    out, errors = covered(tmp_path, "overlay", replace)
    assert out == b"" and b"Error: [Errno" in errors


@pytest.mark.parametrize(("replace", "ends"), [("mounted", True), ("renamed", False), ("not at all", False)])
def test_the_copy_is_of_the_running_file(tmp_path, interpreter, replace, ends):
    for way in ("memfd", "unnamed") + (("overlay",) if replace == "not at all" else ()):
        out, errors = covered(tmp_path, way, replace)
        assert len(out) == 11 and (out == b"another one") is ends, errors


def test_the_compiled_launcher_keeps_running_when_it_is_covered(tmp_path, static_launcher):
    """The attack: the launcher is mounted over an older one, and that one must not run the command."""
    launcher = tmp_path / "pyrunc"
    shutil.copy("/bin/echo", launcher)
    script = 'mount --make-rprivate / && mount --bind "$0" "$1" && exec "$1" create --bundle /nowhere x'
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, static_launcher, launcher], capture_output=True, text=True)
    assert done.stdout == "" and done.stderr.startswith("create failed: chdir /nowhere"), done
