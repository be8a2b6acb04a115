"""What a build machine or a host may lack: a compiler, libpython, or the libpython of the right Python. One line says so, and nothing
crashes."""

import os
import pathlib
import shutil
import subprocess

import pytest

import harness

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LINK = ROOT / "runtime/csrc/link.py"
PYTHON = "/usr/bin/python3"
NO_LAUNCHER = 3  # exit status of link.py if the plain launcher is used
ENV = {"PATH": "/usr/bin:/bin"}

pytestmark = [pytest.mark.slow, pytest.mark.bound(15 * 60)]


def link(out, folder, **env):
    argv = [PYTHON, "-I", "-B", LINK, ROOT / "runtime", folder, out]
    return subprocess.run(argv, env={**ENV, **env}, capture_output=True, text=True, timeout=harness.WATCHDOG * 3)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The compiled launcher that is linked against the shared library of libpython."""
    folder = tmp_path_factory.mktemp("shared")
    done = link(folder / "pyrunc", folder / "build", PYRUNC_LINK="shared")
    if done.returncode:
        pytest.skip("a launcher with the shared libpython can't be built here: %s" % done.stderr.strip())
    return folder / "pyrunc"


def call(program, *words, **env):
    return subprocess.run([program, *words], env={**ENV, **env}, capture_output=True, text=True, timeout=harness.WATCHDOG)


def one_line(text):
    return text.endswith("\n") and text.count("\n") == 1


@pytest.fixture(scope="module")
def promised():
    """Whether link.py must build a snapshot for this Python."""
    asks = "import sys; sys.path.insert(0, %r); import link; print(link.is_promised(['cc']))" % str(LINK.parent)
    return subprocess.run([PYTHON, "-I", "-B", "-c", asks], capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize("way", ["snapshot", "static", "shared", None])
def test_if_nothing_can_be_linked(tmp_path, promised, way):
    """The reasons are printed, and the launcher of an earlier build is removed, because it would run old code."""
    (tmp_path / "pyrunc").write_text("of yesterday")
    done = link(tmp_path / "pyrunc", tmp_path / "build", CC="false", **({"PYRUNC_LINK": way} if way else {}))
    assert done.returncode == (1 if promised else NO_LAUNCHER)
    assert ("must have it here" if promised else "the plain one is used") in done.stderr
    tried = [way] if way else ["snapshot"] if promised else ["snapshot", "static", "shared"]
    assert [name for name in ("snapshot", "static", "shared") if "\n%s: " % name in done.stderr] == tried
    assert os.listdir(tmp_path) == ["build"]


def test_make_fails_if_the_promised_launcher_is_missing(tmp_path, promised):
    """Only exit status 3 (no launcher) does not fail the build."""
    makefile = (ROOT / "Makefile").read_text()
    recipe = next(line.strip() for line in makefile.splitlines() if "link.py runtime" in line).lstrip("@")
    command = recipe.replace("$(CC)", "false").replace("$(PYTHON)", PYTHON).replace("$(CSRC)", "runtime/csrc").replace("$$", "$")
    command = command.replace("build/launcher", str(tmp_path / "build")).replace("$@", str(tmp_path / "pyrunc"))
    assert subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True).returncode == int(promised)
    fake = command.replace(PYTHON, "sh -c 'exit %d'" % NO_LAUNCHER)
    assert subprocess.run(["sh", "-c", fake], cwd=ROOT, capture_output=True).returncode == 0


def test_a_launcher_that_does_not_run_is_not_used(tmp_path, promised):
    """Linking succeeds, but the program exits with an error: the next method is tried, if there is one."""
    compiler = tmp_path / "cc"
    compiler.write_text(
        '#!/bin/sh\nfor word; do [ "$was" = -o ] && out=$word; was=$word; done\nprintf "#!/bin/false\\n" >"$out"; chmod +x "$out"\n'
    )
    compiler.chmod(0o755)
    done = link(tmp_path / "pyrunc", tmp_path / "build", CC=str(compiler))
    assert done.returncode == (1 if promised else NO_LAUNCHER) and "not built" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "pyrunc").exists() and not (tmp_path / "pyrunc.new").exists()


def test_a_python_without_a_tuning_file_has_a_snapshot_too(tmp_path, promised):
    """It works, and only differs from the tuned one in speed."""
    if not promised:
        pytest.skip("this Python has no libpython archive of 3.12 to 3.14")
    done = link(tmp_path / "pyrunc", tmp_path / "build", PYRUNC_TUNING="none")
    assert done.returncode == 0 and "snapshot" in done.stdout, done.stderr
    assert not (tmp_path / "build/snapshot/tuning_313.o").exists()
    for words in (["--version"], ["features"], ["state", "nobody"]):
        one, two = call(ROOT / "runtime/bin/pyrunc", *words), call(tmp_path / "pyrunc", *words)
        assert (one.returncode, one.stdout, one.stderr) == (two.returncode, two.stdout, two.stderr)


def test_shared_has_the_same_output(shared):
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
    """Byte code and memory layout belong to one minor version. The library is a fake one with all the names and another version."""
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


# --- properties of the build


def test_the_directory_of_the_build_makes_no_difference(tmp_path, promised):
    """Another directory gives the same bits, so others can reproduce a build."""
    if not promised:
        pytest.skip("this Python has no libpython archive of 3.12 to 3.14")
    made = []
    for folder in (tmp_path / "one", tmp_path / "a longer name"):
        shutil.copytree(ROOT / "runtime", folder / "runtime", ignore=shutil.ignore_patterns("__pycache__", "pyrunc-static", "*.so"))
        for name in ("bundles", "specs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "rootfs"), symlinks=True)
        shutil.copy(ROOT / "LICENSE", folder)
        argv = [PYTHON, "-I", "-B", folder / "runtime/csrc/link.py", folder / "runtime", folder / "build", folder / "pyrunc"]
        done = subprocess.run(argv, env=ENV, capture_output=True, text=True, timeout=harness.WATCHDOG * 3)
        assert done.returncode == 0, done.stderr
        made.append((folder / "pyrunc").read_bytes())
        assert str(tmp_path).encode() not in made[-1]
    assert made[0] == made[1]


@pytest.mark.parametrize("name", ["bin/pyrunc-static", "pyrunc/linux/_syscalls.abi3.so"])
def test_it_is_hardened(name):
    """It has stack protectors in our functions, read-only relocations, no executable stack, and no path of this tree."""
    path = ROOT / "runtime" / name
    if not path.exists():
        pytest.skip("%s is not built here" % name)
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True).stdout
    function = code.partition("<py_bpf_prog_query>:")[2].partition("\n\n")[0]
    assert "__stack_chk_fail" in function
    if os.uname().machine == "x86_64":
        assert "endbr64" in function.splitlines()[1]
    headers = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=True).stdout
    assert "GNU_RELRO" in headers and " RWE " not in headers
    assert str(ROOT).encode() not in path.read_bytes()
