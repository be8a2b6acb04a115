"""seal.py: the moves of CVE-2019-5736 against a sealed interpreter, and what the three ways of sealing give."""

import ctypes
import errno
import fcntl
import hashlib
import os
import subprocess
import sys

import pytest

from pyrunc import seal
from pyrunc.linux import _syscalls, constants
from tail import ready

pytestmark = pytest.mark.kernel

RUNTIME = os.path.dirname(os.path.dirname(os.path.abspath(seal.__file__)))
PYTHON = "/usr/bin/python3"
WAYS = ("_overlay", "_memfd", "_unnamed")

# A launcher that seals itself in one way only, then says what it is and waits for a line.
LAUNCHER = """
import sys
sys.path.append(%r)
import posix
from pyrunc import seal
for name in %r:
    if name != %r:
        def refused():
            raise OSError(1, "not this one")
        setattr(seal, name, refused)
was = seal.is_sealed()
seal.ensure([sys.argv[0], *sys.argv[1:]])
posix.write(1, repr((was, seal.is_sealed(), sys.argv, sys.executable, posix.readlink("/proc/self/exe"))).encode() + b"\\n")
posix.read(0, 1)
"""


@pytest.fixture(scope="module")
def interpreter():
    """Path and hash of the host's interpreter: the hash is compared when all is over."""
    path = os.path.realpath(PYTHON)
    before = hashlib.sha256(open(path, "rb").read()).hexdigest()
    yield path
    assert hashlib.sha256(open(path, "rb").read()).hexdigest() == before


class Sealed:
    def __init__(self, tmp_path, way, *args, env=None, python=PYTHON):
        script = tmp_path / "launcher.py"
        script.write_text(LAUNCHER % (RUNTIME, WAYS, way))
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
    made.way = request.param
    yield made
    made.end()


def test_it_executes_itself_once_with_the_same_words(sealed):
    assert (sealed.was, sealed.now) == (True, True)  # the line comes from the second run, which finds itself sealed
    assert sealed.argv[1:] == ["create", "-x", "id"] and sealed.argv[0].endswith("/launcher.py")
    assert sealed.executable == PYTHON
    assert sealed.exe.startswith({"_overlay": "/python3", "_memfd": "/memfd:pyrunc", "_unnamed": "/"}[sealed.way])


def test_the_environment_is_the_callers_to_the_byte(sealed):
    assert open("/proc/%d/environ" % sealed.pid, "rb").read() == b"A=b\0LANG=C\0"


def test_it_is_the_same_program(sealed, interpreter):
    assert open(sealed.path, "rb").read() == open(interpreter, "rb").read()


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_APPEND])
def test_while_it_runs_nobody_opens_it_for_writing(sealed, flags):
    with pytest.raises(OSError) as failed:
        os.open(sealed.path, flags)
    assert failed.value.errno in (errno.EROFS, errno.EPERM, errno.ETXTBSY)


def test_what_was_opened_while_it_ran_is_not_the_hosts_file(sealed, interpreter):
    """The move of the exploit: an O_PATH descriptor now, O_WRONLY through /proc/self/fd when ETXTBSY is over."""
    held = os.open(sealed.path, os.O_PATH)
    assert not os.path.samestat(os.fstat(held), os.stat(interpreter))
    sealed.end()
    again = "/proc/self/fd/%d" % held
    if sealed.way == "_overlay":
        with pytest.raises(OSError) as failed:
            os.open(again, os.O_WRONLY)
        assert failed.value.errno == errno.EROFS
        os.close(held)
        return
    fd = os.open(again, os.O_WRONLY)
    if sealed.way == "_memfd":
        for change in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, 1 << 30)):
            with pytest.raises(PermissionError):
                change()
    else:  # the unnamed copy was that process's alone: nobody will run it again, and it can't be given a name
        assert os.fstat(fd).st_nlink == 0
        with pytest.raises(OSError) as failed:
            os.link("/proc/self/fd/%d" % fd, "/run/pyrunc-linked", follow_symlinks=True)
        assert failed.value.errno in (errno.ENOENT, errno.EXDEV)
    os.close(fd)
    os.close(held)


@pytest.mark.parametrize("way", ["_overlay"])
def test_no_mount_call_makes_it_writable(tmp_path, interpreter, way):
    """What a process with CAP_SYS_ADMIN could try in a mount namespace of its own: remount, clone and clear, reconfigure."""
    sealed = Sealed(tmp_path, way)
    pid, fd = _syscalls.clone3(constants.CLONE_NEWNS)
    if pid == 0:
        os._exit(_attack(sealed.path, str(tmp_path / "target")))
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    sealed.end()
    assert os.waitstatus_to_exitcode(status) == 0


def _attack(path, target):
    """0 when every way to a writable descriptor was refused; the number of the one that worked."""
    _syscalls.mount(None, "/", None, constants.MS_REC | constants.MS_PRIVATE, None)
    open(target, "w").close()
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
            if name == path or _syscalls.statfs(target)[0] == constants.OVERLAYFS_SUPER_MAGIC:
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


def test_memory_of_a_sealed_memfd_can_not_be_changed(tmp_path, interpreter):
    sealed = Sealed(tmp_path, "_memfd")
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


def test_the_environment_is_not_asked(tmp_path, interpreter):
    script = tmp_path / "ask.py"
    script.write_text("import sys; sys.path.append(%r)\nfrom pyrunc import seal\nsys.exit(seal.is_sealed())" % RUNTIME)
    env = {name: "1" for name in ("_LIBCONTAINER_CLONED_BINARY", "PYRUNC_SEALED", "SEALED", "_PYRUNC_SEALED")}
    assert subprocess.run([PYTHON, "-I", "-S", script], env=env).returncode == 0


@pytest.mark.parametrize("missing", [0, seal.F_SEAL_WRITE, seal.F_SEAL_SEAL, seal.F_SEAL_GROW, seal.F_SEAL_SHRINK])
def test_a_memfd_with_a_name_of_ours_but_without_all_seals(missing):
    """An unlinked file counts as safe by itself, so the seals are looked at where the number of links can't say it: on the flags."""
    fd = os.memfd_create("pyrunc", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, constants.F_ADD_SEALS, seal.SEALS & ~missing)
    assert (seal._seals(fd) & seal.SEALS == seal.SEALS) is (missing == 0)
    os.close(fd)


def test_a_read_only_overlay_with_a_path_is_no_seal(tmp_path):
    """The root of a read-only container of docker looks like that; it has an upper layer and can be remounted."""
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
            os._exit(seal._is_safe(os.open(tmp_path / "merged/file", os.O_RDONLY)))
        finally:
            os._exit(9)
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 0


def test_no_way_left_is_a_failure_of_the_step(tmp_path, interpreter):
    with pytest.raises(AssertionError):
        Sealed(tmp_path, "none of them")


def test_the_failure_names_call_and_errno(monkeypatch):
    from pyrunc.errors import StepFailure

    def refused():
        e = OSError(errno.EACCES, "refused")
        e.call = "memfd_create"
        raise e

    for way in WAYS:
        monkeypatch.setattr(seal, way, refused)
    with pytest.raises(StepFailure) as failed:
        seal.ensure(["x"])
    assert (failed.value.step, failed.value.call, failed.value.errno) == ("seal.ensure", "memfd_create", errno.EACCES)


def test_a_directory_with_colons_and_backslashes(tmp_path, interpreter):
    """Both mean something in lowerdir="""
    folder = tmp_path / "a:b\\c"
    folder.mkdir()
    python = folder / "python3"
    python.write_bytes(open(interpreter, "rb").read())
    python.chmod(0o755)
    code = (
        "import sys; sys.path.append(%r)\nfrom pyrunc import seal\nimport posix\nfd = seal._overlay()\n"
        "a, b = posix.fstat(fd), posix.stat('/proc/self/exe')\nassert a.st_size == b.st_size and seal._is_safe(fd)" % RUNTIME
    )
    subprocess.run([python, "-I", "-S", "-c", code], env={"PYTHONHOME": "/usr"}, check=True)


def test_without_privileges_a_memfd_is_used(package_for_all, interpreter):
    script = package_for_all / "launcher.py"
    script.write_text(LAUNCHER % (str(package_for_all), (), ""))
    run = subprocess.run([PYTHON, "-I", "-S", script], input=b"", capture_output=True, user=65534, group=65534, extra_groups=[])
    assert b"memfd:pyrunc" in run.stdout, run.stderr


def test_standard_library_is_found_again(tmp_path, interpreter):
    made = Sealed(tmp_path, "_overlay")
    assert made.executable == PYTHON
    made.end()
    assert sys.version_info >= (3, 11)


def test_an_executable_in_the_root_directory(monkeypatch):
    """No other directory is apart from /: the overlay is no way then, and the next one is tried."""
    monkeypatch.setattr(seal.posix, "readlink", lambda path: "/python3")
    with pytest.raises(OSError) as refused:
        seal._overlay()
    assert refused.value.errno == errno.EINVAL
