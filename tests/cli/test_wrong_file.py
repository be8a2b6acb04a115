"""An executable that can't or should not run here: an incomplete download, one for another processor, a noexec mount, a directory writable by
others, a Python that is too old. One line gives the reason. Each case has a control: the same file without the fault."""

import os
import pathlib
import shutil
import subprocess

import pytest

import harness

PLAIN = harness.ROOT / "runtime/bin/pyrunc"
INSTALL = harness.ROOT / "tools/packages/install.sh"
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
NO_PROCESSOR = 0x7777  # e_machine of a processor that does not exist
FIRST = 0x20000  # bytes, on every processor: a shorter file has no code that could report the error
INCOMPLETE = "pyrunc: this executable is incomplete, its end is missing; download it again and compare it with SHA256SUMS\n"
PAGES = {"man/pyrunc.8": "", "completion/pyrunc": "", "completion/_pyrunc": "", "completion/pyrunc.fish": ""}


def call(*argv, **kw):
    return subprocess.run(argv, env=ENV, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.WATCHDOG, **kw)


def one_line(done, *words):
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    for word in words:
        assert word in done.stderr


@pytest.fixture(scope="module")
def static(static_launcher):
    data = static_launcher.read_bytes()
    if b".snapshot_heap" not in data:
        pytest.skip("the compiled launcher contains no snapshot of an interpreter here")
    return data


def written(path, data):
    path.write_bytes(data)
    path.chmod(0o755)
    return path


def for_another(data):
    return data[:18] + NO_PROCESSOR.to_bytes(2, "little") + data[20:]


# --- the file itself


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("word", ["--version", "run"])
def test_an_incomplete_download(static, tmp_path, share, word):
    size = FIRST + int((len(static) - 1 - FIRST) * share)
    done = call(written(tmp_path / "pyrunc", static[:size]), word)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", INCOMPLETE)


def test_a_complete_download(static, tmp_path):
    """Additional bytes at the end are harmless."""
    for data in (static, static + b"signature"):
        assert call(written(tmp_path / "pyrunc", data), "--version").stdout.startswith("pyrunc version ")
        (tmp_path / "pyrunc").unlink()


# --- install: the executable that would be registered in the configuration of an engine


@pytest.fixture
def install(pyrunc, tmp_path):
    """install(path) -> the result of registering that executable."""

    def register(path):
        return pyrunc.call("install", "--docker", "--config", tmp_path / "daemon.json", "--runtime", path)

    return register


def refused(result, tmp_path, *words):
    assert result.code == 1 and result.err.count("\n") == 1 and not (tmp_path / "daemon.json").exists(), result
    for word in words:
        assert word in result.err


def test_install_registers_an_executable_that_runs(install, static, tmp_path):
    path = tmp_path / "pyrunc"
    written(path, for_another(static))
    refused(install(path), tmp_path, "cannot execute %s" % path, "for another processor", os.uname().machine)
    written(path, static[: len(static) // 2])
    refused(install(path), tmp_path, "does not run here", "this executable is incomplete")
    written(path, static)
    assert install(path).code == 0 and str(path) in (tmp_path / "daemon.json").read_text()


@pytest.mark.kernel
def test_install_below_a_directory_that_everyone_can_write(install, static, tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    path = written(folder / "pyrunc", static)
    folder.chmod(0o777)
    refused(install(path), tmp_path, "%s is not registered: everybody may write to %s" % (path, folder), "only root may write")
    folder.chmod(0o1777)
    assert install(path).code == 0, "sticky: files of root cannot be replaced"


@pytest.mark.kernel
def test_install_from_a_mount_with_noexec(static, static_launcher, tmp_path):
    """In a mount namespace; the launcher that registers it is outside the mount."""
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_bytes(static)
    script = (
        'mount -t tmpfs -o noexec tmpfs "$1/there"; cp "$1/file" "$1/there/pyrunc"; chmod 755 "$1/there/pyrunc"\n'
        'register() { "$2" install --docker --config "$1/daemon.json" --runtime "$1/there/pyrunc"; }\n'
        'register "$1" "$2" && exit 9; mount -o remount,exec "$1/there"; register "$1" "$2" >/dev/null'
    )
    done = call("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", tmp_path, static_launcher)
    assert done.returncode == 0 and done.stderr.count("\n") == 1, done
    assert "cannot execute %s/there/pyrunc: permission denied" % tmp_path in done.stderr and "noexec" in done.stderr


# --- install.sh in the tarball


@pytest.fixture
def unpacked(static, tmp_path):
    """unpacked(data) -> the directory of an unpacked tarball with this executable and its checksums."""

    def make(data, arch=None):
        folder = tmp_path / "unpacked"
        shutil.rmtree(folder, ignore_errors=True)
        for name, text in PAGES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        written(folder / "pyrunc", data)
        written(folder / "install.sh", INSTALL.read_bytes().replace(b"@ARCH@", (arch or os.uname().machine).encode()))
        sums = call("sha256sum", "pyrunc", *PAGES, cwd=folder)
        (folder / "SHA256SUMS").write_text(sums.stdout)
        return folder

    return make


def run_script(folder, prefix, *words, before=""):
    script = before + 'exec env PREFIX="$2" sh "$1/install.sh" ' + " ".join(words)
    return call("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", folder, prefix)


def is_installed(prefix):
    return sorted(str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file())


@pytest.mark.kernel
def test_the_script(static, unpacked, tmp_path):
    folder, prefix = unpacked(static), tmp_path / "prefix"
    done = run_script(folder, prefix)
    assert done.returncode == 0 and done.stderr == "", done
    assert call(prefix / "bin/pyrunc", "--version").returncode == 0 and "bin/pyrunc" in is_installed(prefix)
    assert run_script(folder, prefix, "--uninstall").returncode == 0 and is_installed(prefix) == []
    one_line(run_script(folder, prefix, "--uninstal"), "unknown argument --uninstal")


@pytest.mark.kernel
@pytest.mark.parametrize("fault", ["processor", "noexec", "everybody", "somebody", "truncated", "incomplete"])
def test_the_script_gives_the_reason(static, unpacked, tmp_path, fault):
    folder, prefix, before = unpacked(static), tmp_path / "prefix", ""
    prefix.mkdir()
    if fault == "processor":
        folder, words = unpacked(for_another(static), "s390x"), "this pyrunc is for s390x, and this machine is " + os.uname().machine
    elif fault == "noexec":
        before, words = 'mount -t tmpfs -o noexec,mode=755 tmpfs "$2"\n', "mounted with noexec"
    elif fault == "everybody":
        prefix.chmod(0o777)
        words = "everybody may write to %s: choose another PREFIX" % prefix
    elif fault == "somebody":
        os.chown(prefix, 1234, 1234)
        words = "%s belongs to uid 1234: choose another PREFIX" % prefix
    elif fault == "truncated":
        with open(folder / "pyrunc", "r+b") as file:
            file.truncate(len(static) // 2)
        words = "are not those of the release (SHA256SUMS): download it again"
    else:
        folder, words = unpacked(static[: len(static) // 2]), "this executable is incomplete"
    one_line(run_script(folder, prefix, before=before), "install.sh: ", words)
    assert is_installed(prefix) == []


# --- the interpreter of the plain launcher


@pytest.mark.parametrize(("version", "works"), [((3, 6, 15), False), ((3, 10, 13), False), ((3, 11, 0), True)])
def test_another_python(version, works):
    """The interpreter appears to be another version. This is reported before any module of the package is loaded."""
    script = "import sys; sys.version_info = %r; sys.argv = [%r, '--version']; exec(open(sys.argv[0]).read())"
    done = call("/usr/bin/python3", "-I", "-S", "-c", script % (version, str(PLAIN)))
    if works:
        assert done.returncode == 0 and done.stdout.startswith("pyrunc version "), done
    else:
        one_line(done, "pyrunc: /usr/bin/python3 is Python %d.%d, and the plain launcher needs 3.11 or later" % version[:2])


def extension():
    return pathlib.Path(harness.ROOT / "runtime/pyrunc/linux/_syscalls.abi3.so").read_bytes()


EXTENSIONS = {
    "complete": lambda data: data,
    "newer": lambda data: data.replace(b"\0PyModule_Create2\0", b"\0PyModule_Creat99\0").replace(
        b"\0PyModuleDef_Init\0", b"\0PyModuleDef_Ini9\0"
    ),
    "another processor": for_another,
}


@pytest.mark.parametrize("change", EXTENSIONS)
def test_another_extension(tmp_path, change):
    """An extension that requires a function missing in this Python, and one for another processor."""
    shutil.copytree(harness.ROOT / "runtime/pyrunc", tmp_path / "pyrunc", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pyrunc/linux/_syscalls.abi3.so").write_bytes(EXTENSIONS[change](extension()))
    (tmp_path / "bin").mkdir()
    shutil.copy(PLAIN, tmp_path / "bin/pyrunc")
    (tmp_path / "root").mkdir(mode=0o700)
    done = call(tmp_path / "bin/pyrunc", "--root", tmp_path / "root", "list")
    if change == "complete":
        assert (done.returncode, done.stderr) == (0, "")
    else:
        one_line(done, "list failed: cannot load a part of pyrunc: ", "_syscalls.abi3.so")
