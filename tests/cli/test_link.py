"""What a build machine or a host may lack: no compiler, no libpython, the libpython of another Python. One line says so, nothing crashes."""

import os
import pathlib
import subprocess

import pytest

import harness

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LINK = ROOT / "runtime/csrc/link.py"
PYTHON = "/usr/bin/python3"
ENV = {"PATH": "/usr/bin:/bin"}

pytestmark = pytest.mark.slow


def link(out, folder, **env):
    argv = [PYTHON, "-I", "-B", LINK, ROOT / "runtime", folder, out]
    return subprocess.run(argv, env={**ENV, **env}, capture_output=True, text=True, timeout=harness.WATCHDOG * 3)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The compiled launcher that is linked against libpython's shared library."""
    folder = tmp_path_factory.mktemp("shared")
    done = link(folder / "pyrunc", folder / "build", PYRUNC_LINK="shared")
    if done.returncode:
        pytest.skip("a launcher with the shared libpython can't be built here: %s" % done.stderr.strip())
    return folder / "pyrunc"


def call(program, *words, **env):
    return subprocess.run([program, *words], env={**ENV, **env}, capture_output=True, text=True, timeout=harness.WATCHDOG)


def one_line(text):
    return text.endswith("\n") and text.count("\n") == 1


@pytest.mark.parametrize("way", ["snapshot", "static", "shared", None])
def test_where_nothing_can_be_linked_the_plain_one_is_used(tmp_path, way):
    """Each way says why not; a launcher of an earlier build does not stay, it would run yesterday's code."""
    (tmp_path / "pyrunc").write_text("of yesterday")
    done = link(tmp_path / "pyrunc", tmp_path / "build", CC="false", **({"PYRUNC_LINK": way} if way else {}))
    assert done.returncode == 1 and "the plain one is used" in done.stderr
    assert all("%s: false ended with 1" % name in done.stderr for name in ([way] if way else ["snapshot", "static", "shared"]))
    assert os.listdir(tmp_path) == ["build"]


def test_a_launcher_that_does_not_run_is_not_taken(tmp_path):
    """Linked well, and then it ends or hangs: the next way has its turn."""
    compiler = tmp_path / "cc"
    compiler.write_text(
        '#!/bin/sh\nfor word; do [ "$was" = -o ] && out=$word; was=$word; done\nprintf "#!/bin/false\\n" >"$out"; chmod +x "$out"\n'
    )
    compiler.chmod(0o755)
    done = link(tmp_path / "pyrunc", tmp_path / "build", CC=str(compiler))
    assert done.returncode == 1 and "the plain one is used" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "pyrunc").exists() and not (tmp_path / "pyrunc.new").exists()


def test_shared_says_the_same(shared):
    for words in (["--version"], ["features"], ["state", "nobody"], ["nonsense"]):
        one, two = call(ROOT / "runtime/bin/pyrunc", *words), call(shared, *words)
        assert (one.returncode, one.stdout, one.stderr) == (two.returncode, two.stdout, two.stderr)


def test_libpython_is_missing(shared, tmp_path):
    name = libpython(shared)
    other = tmp_path / "pyrunc"
    other.write_bytes(shared.read_bytes().replace(name + b"\0", b"libnowhere".ljust(len(name), b"x") + b"\0"))
    other.chmod(0o755)
    done = call(other, "--version")
    assert done.returncode == 127 and one_line(done.stderr) and "libnowhere" in done.stderr


def test_libpython_of_another_version(shared, tmp_path):
    """Byte code and layout belong to one minor version. The library is a fake one that has all the names and another number."""
    listed = subprocess.run(["nm", "-D", shared], capture_output=True, text=True, check=True).stdout
    names = [line.split()[-1].partition("@")[0] for line in listed.splitlines() if line.split()[-1].startswith(("Py", "_Py"))]
    source = "".join("void *%s;\n" % name for name in names if name != "Py_Version") + "const unsigned long Py_Version = 0x03070100;\n"
    (tmp_path / "fake.c").write_text(source)
    fake = tmp_path / libpython(shared).decode()
    subprocess.run(["cc", "-shared", "-fPIC", "-w", tmp_path / "fake.c", "-o", fake, "-Wl,-soname," + fake.name], check=True)
    done = call(shared, "--version", LD_LIBRARY_PATH=str(tmp_path))
    assert done.returncode == 1 and one_line(done.stderr), done
    assert "but libpython is 3.7; build it again" in done.stderr


def libpython(program):
    out = subprocess.run(["readelf", "-dW", program], capture_output=True, text=True, check=True).stdout
    return next(line for line in out.splitlines() if "NEEDED" in line and "libpython" in line).partition("[")[2].partition("]")[0].encode()
