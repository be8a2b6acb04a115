"""Both launchers only use their own files, and the compiled one has the same output and effects as the plain one."""

import importlib.util
import json
import marshal
import os
import pathlib
import platform
import re
import shutil
import subprocess

import pytest

import harness

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PLAIN = ROOT / "runtime/bin/pyrunc"
STATIC = harness.STATIC_LAUNCHER
COLD = harness.COLD_LAUNCHER
ENV = {"PATH": "/usr/bin:/bin"}
TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")  # in the log; the two commands may run in different seconds


@pytest.fixture(scope="module")
def static(static_launcher):
    """The compiled launcher, built from the current tree."""
    youngest = max(p.stat().st_mtime for p in (ROOT / "runtime").rglob("*") if p.suffix in (".py", ".c", ".h") and "helper" not in p.parts)
    if static_launcher.stat().st_mtime < youngest:
        pytest.skip("the compiled launcher is older than the sources (make launcher)")
    return static_launcher


@pytest.fixture(params=["plain", "static"])
def launcher(request):
    return PLAIN if request.param == "plain" else request.getfixturevalue("static")


def call(launcher, *args, **kw):
    kw.setdefault("env", ENV)
    kw.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([launcher, *args], capture_output=True, timeout=harness.WATCHDOG, **kw)


# --- both have the same output

WORDS = [
    ("--version",),
    ("--help",),
    ("help", "create"),
    ("nonsense",),
    ("--root",),
    ("state",),
    ("state", "nobody"),
    ("state", "a/b"),
    ("state", "a\x1b[31mb\nc"),
    ("state", b"\xff\xfe"),
    ("--log-format", "json", "state", "nobody"),
    ("--log-format=text", "--debug", "delete", "nobody"),
    ("--root", "/nowhere/at/all", "list"),
    ("list", "--format", "json"),
    ("create", "--bundle", "/nowhere", "x"),
    ("run", "--bundle", "/", "x"),
    ("exec", "nobody", "true"),
    ("kill", "nobody", "NOSIGNAL"),
    ("spec", "--bundle", "/nowhere"),
    ("features",),
]


@pytest.mark.parametrize("words", WORDS, ids=lambda w: ascii(w)[1:-1])
def test_the_same_output(static, words):
    one, two = call(PLAIN, *words), call(static, *words)
    told = [TIME.sub(b"", done.stderr) for done in (one, two)]
    assert (one.returncode, one.stdout, told[0]) == (two.returncode, two.stdout, told[1])


@pytest.mark.parametrize(
    "text", ["{", '{"a": 1, "a": 2}', "[1]", '{"ociVersion": "1.0.0", "process": {"cwd": 3}}', "\ud83d", '{"\xe9": NaN}']
)
def test_the_same_output_about_a_config(static, tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    for command in ("run", "create", "validate"):
        words = (command, "--bundle", tmp_path) + (() if command == "validate" else ("x",))
        one, two = call(PLAIN, *words), call(static, *words)
        assert (one.returncode, one.stdout, one.stderr) == (two.returncode, two.stdout, two.stderr)
        assert one.returncode == 1


# --- environment and paths


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"LANG": "C", "LC_ALL": "C"},
        {"LC_ALL": "nowhere"},
        {"PYTHONHOME": "/nowhere", "PYTHONPATH": "{}", "PYTHONSTARTUP": "{}/posix.py", "PYTHONINSPECT": "1"},
        {"PYTHONMALLOC": "debug", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONVERBOSE": "3", "PYTHONWARNINGS": "error"},
        {"PYTHONPLATLIBDIR": "{}", "PYTHONPYCACHEPREFIX": "{}", "PYTHONUSERBASE": "{}", "PYTHONNODEBUGRANGES": "1"},
    ],
    ids=["empty", "C", "no locale", "paths", "switches", "places"],
)
def test_the_environment_changes_nothing(launcher, tmp_path, env):
    """A directory full of modules that would leave a mark is the working directory, and in every variable."""
    for name in ("posix", "sys", "encodings", "pyrunc", "sitecustomize", "usercustomize", "site", "os", "json", "_prctl", "errno", "time"):
        (tmp_path / (name + ".py")).write_text("open(%r, 'w')\n" % str(tmp_path / "mark"))
    env = {k: v.replace("{}", str(tmp_path)) for k, v in env.items()}
    expected = call(launcher, "state", "nobody")
    done = call(launcher, "state", "nobody", env=env, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, expected.stderr)
    assert not (tmp_path / "mark").exists()


@pytest.mark.kernel
def test_it_works_through_any_path(launcher, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one/first").symlink_to(launcher)
    (tmp_path / "second").symlink_to("one/first")
    (tmp_path / "one/third").symlink_to("../second")
    for args, kw in (
        ([tmp_path / "one/third"], {}),
        (["./second"], {"cwd": tmp_path}),
        (["../one/third"], {"cwd": tmp_path / "one"}),
        (["sh", "-c", "third --version"], {"env": {"PATH": "/usr/bin:/bin:%s/one" % tmp_path}}),
        (["sh", "-c", "first --version"], {"env": {"PATH": "/usr/bin:/bin:one"}, "cwd": tmp_path}),
    ):
        done = subprocess.run([*args, "--version"], capture_output=True, **kw)
        assert done.returncode == 0 and done.stdout.startswith(b"pyrunc version"), (args, done.stderr)
        if "sh" not in args:
            done = subprocess.run([*args, "create", "--bundle", "/nowhere", "x"], capture_output=True, **kw)
            assert done.returncode == 1 and done.stderr.startswith(b"create failed: chdir /nowhere"), (args, done.stderr)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cli.py", "pyrunc: no package beside the launcher"),
        ("errors.py", "pyrunc: cannot load the package: No module named 'pyrunc.errors'"),
        ("log.py", "pyrunc: cannot load the package: cannot import name 'log'"),
        (
            "commands/list.py",
            "list failed: cannot load a part of pyrunc: No module named 'pyrunc.commands.list'; check that the installation is complete",
        ),
        ("linux/_syscalls.abi3.so", "list failed: cannot load a part of pyrunc: cannot import name '_syscalls'"),
    ],
)
def test_a_file_of_the_package_is_missing(tmp_path, name, words):
    """The plain launcher uses the package as files: there is one line, no traceback, and no request to report a bug."""
    shutil.copytree(ROOT / "runtime/pyrunc", tmp_path / "pyrunc", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "state").mkdir(0o700)  # an explicit root must exist
    shutil.copy(PLAIN, tmp_path / "bin/pyrunc")
    assert call(tmp_path / "bin/pyrunc", "--root", tmp_path / "state", "list").returncode == 0
    os.unlink(tmp_path / "pyrunc" / name)
    done = call(tmp_path / "bin/pyrunc", "--root", tmp_path / "state", "list")
    assert (done.returncode, done.stdout) == (1, b""), done
    assert done.stderr.decode().startswith(words) and done.stderr.count(b"\n") == 1, done.stderr


@pytest.mark.parametrize("name", ["runc", "/nowhere/runc", "./runc", "relative/runc", "/usr/bin/true", "x" * 5000])
def test_argv_0_is_not_trusted(static, tmp_path, name):
    """Go programs pass the word from their configuration. Data files and the helper are still found."""
    (tmp_path / "config.json").write_text('{"ociVersion": "1.0.0", "process": {"cwd": 3}}')
    words = [name, "validate", "--bundle", str(tmp_path)]
    done = subprocess.run(words, executable=static, capture_output=True, env=ENV, timeout=harness.WATCHDOG)
    expected = call(PLAIN, *words[1:])
    assert (done.returncode, done.stdout, done.stderr) == (expected.returncode, expected.stdout, expected.stderr)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
def test_closed_standard_streams(launcher, tmp_path, closed):
    """The first file that is opened would get the free number, and messages would be written into it."""
    log = tmp_path / "log"
    redirect = " ".join("%d>&-" % fd for fd in closed)
    subprocess.run(
        ["sh", "-c", '"$0" --log "$1" --log-format json state nobody %s' % redirect, launcher, log], env=ENV, timeout=harness.WATCHDOG
    )
    lines = log.read_text().splitlines()
    assert len(lines) == 1 and json.loads(lines[0])["level"] == "error"


# --- properties of the compiled launcher


@pytest.fixture
def without_libraries(static):
    if harness.needs_a_loader(static):
        pytest.skip("linked against the shared library here")
    return static


def test_no_interpreter_and_no_library_is_mapped(without_libraries):
    """The container could open each of them through /proc/PID/map_files."""
    out = subprocess.run(["readelf", "-lW", without_libraries], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in out and "DYNAMIC" not in out and "GNU_RELRO" in out
    assert "GNU_STACK" in out and " RWE " not in out


def test_it_opens_nothing_of_python(without_libraries, tmp_path):
    if not shutil.which("strace"):
        pytest.skip("this machine has no strace")
    log = tmp_path / "trace"
    subprocess.run(["strace", "-f", "-o", log, "-e", "trace=open,openat,execve,execveat", without_libraries, "state", "nobody"], env=ENV)
    opened = [line.split('"')[1] for line in log.read_text().splitlines() if '"' in line]
    assert not [p for p in opened if p.endswith((".py", ".pyc", ".so", ".pth")) or "python" in p], opened


@pytest.mark.parametrize(
    "words, sealed",
    [
        (("state", "x"), False),
        (("list",), False),
        (("create", "--bundle", "/nowhere", "x"), True),
        (("--debug", "--root", "/nowhere", "run", "--bundle", "/nowhere", "x"), True),
        (("--root=/nowhere", "exec", "x", "y"), True),
        (("--log", "create", "state", "x"), False),
        (("--", "create", "--bundle", "/nowhere", "x"), True),
        (("-root", "run", "list"), False),
        (("--version", "create"), True),
    ],
    ids=lambda w: " ".join(w) if isinstance(w, tuple) else "",
)
def test_which_commands_are_sealed(static, tmp_path, words, sealed):
    if not shutil.which("strace"):
        pytest.skip("this machine has no strace")
    log = tmp_path / "trace"
    subprocess.run(["strace", "-f", "-o", log, "-e", "trace=execve,execveat", static, *words], env=ENV, cwd=tmp_path, capture_output=True)
    starts = [line for line in log.read_text().splitlines() if "execve" in line]
    assert len([line for line in starts if "execveat" in line]) == int(sealed), starts


@pytest.mark.skipif(platform.libc_ver() != ("glibc", "2.41") or os.uname().machine != "x86_64", reason="another C library starts as usual")
def test_the_library_does_not_query_the_processor(without_libraries, tmp_path):
    """csrc/libc_start.c: the library's table of what the processor can do is empty, in a process that reads its config from a pipe."""
    names = subprocess.run(["nm", without_libraries], capture_output=True, text=True, check=True).stdout
    rows = {row[-1]: int(row[0], 16) for row in map(str.split, names.splitlines()) if len(row) == 3}
    waits = subprocess.Popen(
        [without_libraries, "validate", "--config", "/dev/stdin", tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert waits.stdin
        waits.stdin.write(b" " * (1 << 20))  # more than fits in a pipe: when this returns, it has read some of it
        waits.stdin.flush()
        with open("/proc/%d/mem" % waits.pid, "rb") as memory:
            memory.seek(rows["_dl_x86_cpu_features"])
            table = memory.read(64)
    finally:
        waits.communicate(b"{}")
    assert table == bytes(64)


@pytest.mark.kernel
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="on this processor the C library starts first")
@pytest.mark.parametrize("name", ["absolute", "in PATH"])
def test_the_first_start_needs_no_library(without_libraries, tmp_path, name):
    """csrc/early.c: the calls that initialise a C library (the first is brk) happen once, after the program was executed from its sealed copy."""
    if not shutil.which("strace"):
        pytest.skip("this machine has no strace")
    log = tmp_path / "trace"
    env = {"PATH": "/nowhere:relative::%s:/usr/bin:/bin" % without_libraries.parent}
    word = str(without_libraries) if name == "absolute" else without_libraries.name
    words = ["strace", "-o", log, "sh", "-c", 'exec "$0" create --bundle /nowhere x', word]
    done = subprocess.run(words, env=env, capture_output=True, text=True, executable=shutil.which("strace"))
    assert done.stderr.startswith("create failed: chdir /nowhere")
    text = log.read_text()
    ours = text[text.rindex("execve(") :]
    assert ours.count("execveat(") == 1 and "brk(" not in ours.partition("execveat(")[0] and ours.count("arch_prctl(") == 1


@pytest.mark.kernel
@pytest.mark.parametrize("length", [4000, 4090, 5000])
def test_names_of_any_length(static, tmp_path, length):
    """Paths that fill a page, and longer ones, do not break the code that runs before the sealing."""
    deep = tmp_path
    while len(str(deep)) < min(length, 4000) - 210:
        deep = deep / ("d" * 200)
    for path in (str(deep) + "/" + "x" * 200, "x" * length):
        done = subprocess.run(
            [path, "create", "--bundle", "/nowhere", "x"], executable=static, capture_output=True, text=True, env={"PATH": str(deep)}
        )
        assert done.returncode == 1 and done.stderr.startswith("create failed: chdir /nowhere")


# --- the training before it is written


@pytest.fixture(scope="module")
def linking(static):
    """link.py as a module. The snapshot is only built if libpython's archive exists."""
    if not COLD.exists():
        pytest.skip("the compiled launcher contains no snapshot of an interpreter here")
    spec = importlib.util.spec_from_file_location("link", ROOT / "runtime/csrc/link.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.kernel
@pytest.mark.parametrize("by", [[], ["/usr/bin/unshare", "--pid", "--fork"]], ids=["", "another pid"])
def test_writing_it_again_gives_the_same_file(static, linking, by):
    """Also if the pid of the process that writes it has a single digit."""
    practice = b"" if linking.tuning() == "tuning_none" else linking.training(ROOT / "runtime")
    made = subprocess.run([*by, COLD], input=practice, capture_output=True, env={}, cwd="/", timeout=harness.WATCHDOG)
    assert (made.returncode, made.stderr) == (0, b"")
    assert made.stdout == static.read_bytes()


def test_without_training_it_differs_and_works(static, linking, tmp_path):
    """This shows that the training makes the difference, and that nothing depends on it."""
    if linking.tuning() == "tuning_none":
        pytest.skip("there is no training for this version of Python")
    made = tmp_path / "untrained"
    with made.open("wb") as file:
        subprocess.run([COLD], stdin=subprocess.DEVNULL, stdout=file, env={}, cwd="/", timeout=harness.WATCHDOG, check=True)
    made.chmod(0o755)
    assert made.read_bytes() != static.read_bytes()
    assert call(made, "features").stdout == call(static, "features").stdout


@pytest.mark.parametrize(
    "left",
    ["sys.modules['pyrunc.trace'].now = None", "sys.modules['pyrunc.trace']._stamps.append(1)", "sys.modules['pyrunc.log'].host = 1"],
)
def test_training_that_changes_something_fails_the_build(linking, left):
    source = (ROOT / "runtime/csrc/train.py").read_text()
    assert source.count("    trace.begin()\n") == 1
    code = compile(source.replace("    trace.begin()\n", "    trace.begin()\n    %s\n" % left), "train.py", "exec")
    made = subprocess.run([COLD], input=marshal.dumps(code), capture_output=True, env={}, cwd="/", timeout=harness.WATCHDOG)
    assert made.returncode == 1 and made.stdout == b""
    assert b"training has changed pyrunc." in made.stderr


# --- in use


@pytest.mark.kernel
def test_a_container_runs_and_cannot_reach_the_executable(launcher, waiting, scratch, token, cgroup):
    """CVE-2019-5736: in the state `created`, init still runs our code; its exe and that of the runtime are not files of the host."""
    runtime = harness.Runtime(launcher, scratch / ("l" + launcher.name), token + "l", cgroup)
    before = os.stat(launcher), os.stat(os.path.realpath("/usr/bin/python3"))
    id = runtime.new_id()
    runtime.ok("create", "--bundle", waiting, id)
    try:
        pid = runtime.state(id)["pid"]
        exe = "/proc/%d/exe" % pid
        assert not [s for s in before if os.path.samestat(os.stat(exe), s)]
        with pytest.raises(OSError) as failed:
            os.open(exe, os.O_WRONLY)
        assert failed.value.strerror in ("Read-only file system", "Text file busy")
        if launcher == STATIC and COLD.exists():  # otherwise it may be linked against the shared library
            lines = open("/proc/%d/maps" % pid).read().splitlines()
            files = {line.split(None, 5)[5] for line in lines if len(line.split(None, 5)) == 6 and "/" in line.split(None, 5)[5]}
            assert files == {"/" + STATIC.name}
        runtime.ok("start", id)
        runtime.ok("exec", id, "/bin/true")
        runtime.ok("kill", id, "KILL")
    finally:
        runtime.clean()


@pytest.mark.kernel
def test_few_pages_of_the_interpreters_variables_are_copied(static, linking, runtime, waiting):
    """A command leaves the interpreter's tables as the training has filled them, so that their pages belong to the file, not to the process.
    (92 KiB; it would be 192 if it added what it looks up.)"""
    if linking.tuning() != "tuning_313" or os.sysconf("SC_PAGE_SIZE") != 4096:
        pytest.skip("no such tables here, or pages of another size than the limit is for")
    id = runtime.new_id()
    words = [static, *runtime.argv("run", "--bundle", waiting, id)[1:]]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV)
    try:
        harness.until_status(runtime, id, "running")
        text = pathlib.Path("/proc/%d/smaps" % process.pid).read_text()
    finally:
        runtime.call("kill", id, "KILL")
        process.kill()
        process.wait(harness.WATCHDOG)
    written = re.findall(r"^\w+-\w+ rw-p \w+ \S+ (?!0 )\d+ .*\n(?:\w+:.*\n)*?Private_Dirty: +(\d+)", text, re.M)
    assert len(written) == 2, "the variables, and the snapshot's heap"
    assert 0 < int(written[0]) <= 140
