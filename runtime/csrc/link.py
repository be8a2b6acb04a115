"""Builds the compiled launcher: freezes the package, compiles what has changed, links, and runs the result.

    link.py RUNTIME BUILD OUT
    link.py --flags                 prints the compiler options for hardening, for the extension

There are three methods: `snapshot` links the C library and libpython's archive (Debian's python3-dev has it) statically, with the started
interpreter inside; `static` does the same without the interpreter's state; `shared` uses the shared libpython. PYRUNC_LINK=METHOD selects
one of them. Otherwise it depends on the interpreter that runs this script, whose libpython is linked:

  - If the snapshot is promised (Python 3.12 to 3.14 with libpython's archive), only this method is tried, and exit status 1 means that it
  failed: the result must not become slower without anybody noticing.
  - Otherwise the first method that works is used. If none does, the exit status is 3, and the plain launcher is used.

Without a launcher the reasons are printed and OUT does not exist. What tunes the snapshot for one version of Python is in tuning_XY.c;
a version without that file also gets a snapshot. PYRUNC_TUNING=none omits the tuning, for tests.

CC may be a cross compiler with its options (`aarch64-linux-gnu-gcc --sysroot=DIR`): libpython, of the same minor version as the interpreter
that runs this script, and libseccomp then come from its sysroot, and PYRUNC_RUNNER (`qemu-aarch64-static`) runs the result. PYRUNC_LDFLAGS
is added when linking.
"""

from __future__ import annotations

import ast
import marshal
import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Callable

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # -I leaves it out
import components  # noqa: E402

EXTENSION = (
    "syscalls",
    "mount",
    "file",
    "process",
    "bpf",
    "ops",
    "finish",
    "rights",
    "find",
    "filter",
    "clear",
    "spawn",
    "procfs",
    "json",
    "schema",
    "calls",
    "mountinfo",
)
HARDENING = "-fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3".split()
OF_A_MACHINE = {"x86_64": ["-fcf-protection=full"], "aarch64": ["-mbranch-protection=standard"]}
CFLAGS = "-std=gnu11 -O2 -g -Wall -Wextra -ffunction-sections".split()
EARLY = "-ffreestanding -fno-builtin -fno-stack-protector -U_FORTIFY_SOURCE".split()
EARLY_GCC = ["-fno-tree-loop-distribute-patterns"]  # it would turn loops into calls of memset; clang doesn't, and refuses the option
BARE = ("early", "libc_start", "sealing")  # sources that run before the C library has started; see bare.h
LDFLAGS = "-Wl,--gc-sections -Wl,-z,relro,-z,now".split()
NOISE = (
    "warning: Using '",
    "the message above does not take linker garbage collection",
    ": in function `",
    "argument unused during compilation: '-no-pie'",  # clang, with -static
)
PROMISED = ((3, 12), (3, 14))  # first and last version that must have a snapshot if it can be linked statically
NO_LAUNCHER = 3  # exit status
PRACTISED = ("hello", "podman-like", "seccomp-docker", "kubernetes-like")  # bundles whose configs train.py gets
SECONDS = 300  # limit for each step; most take about a second
HERE = os.path.dirname(os.path.abspath(__file__))


class Failed(Exception):
    """A step did not work; the text says why."""


def run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise Failed("%s did not end" % command[0]) from None
    # A static binary that calls getaddrinfo needs shared libraries at run time, but our code does not call it.
    text = "\n".join(line for line in done.stderr.splitlines() if not any(word in line for word in NOISE))
    if done.returncode:
        raise Failed(text or "%s ended with %d" % (command[0], done.returncode))
    if text:
        print(text, file=sys.stderr)


def newer(target: str, sources: list[str]) -> bool:
    return os.path.exists(target) and all(os.path.getmtime(target) >= os.path.getmtime(s) for s in sources)


def hardening(cc: list[str]) -> list[str]:
    """Compiler options that make bugs in our C code harder to exploit."""
    return [*HARDENING, *OF_A_MACHINE.get(asked(cc, "-dumpmachine").partition("-")[0], [])]


def compiled(cc: list[str], build: str, names: tuple[str, ...], flags: list[str]) -> list[str]:
    """Object files; recompiles those whose source, or any header, or the frozen code is newer."""
    headers = [os.path.join(HERE, n) for n in os.listdir(HERE) if n.endswith(".h")]
    # file names are in assertions and debugging information: they must not depend on the build directory
    flags = [*flags, "-ffile-prefix-map=%s=csrc" % HERE, "-ffile-prefix-map=%s=build" % os.path.abspath(build)]
    flags.append("-ffile-prefix-map=%s=." % os.getcwd())
    flags += ["-ffile-prefix-map=%s=" % sysroot(cc)] if sysroot(cc) else []
    objects = []
    for name in names:
        source, target = os.path.join(HERE, name + ".c"), os.path.join(build, name + ".o")
        objects.append(target)
        needs = [
            source,
            os.path.abspath(__file__),  # it has the options
            *headers,
            *(os.path.join(build, n) for n in ("frozen.bin", "frozen.h", "commands.h") if name in ("launcher", "early")),
        ]
        if newer(target, needs):
            continue
        limited = ["-DPy_LIMITED_API=0x030b0000"] if name in (*EXTENSION, "libseccomp") else []
        frozen = ['-DFROZEN_BIN="%s"' % os.path.join(build, "frozen.bin")] if name == "launcher" else []
        early = [*EARLY, *([] if "clang" in asked(cc, "--version") else EARLY_GCC)] if name in BARE else []
        if name == "sha2" and sys.version_info >= (3, 14):
            early = ["-DSHA2_PREFIX=_Py_LibHacl_Hacl_Hash_SHA2_"]
        run([*cc, *CFLAGS, *hardening(cc), *flags, *limited, *frozen, *early, "-I" + include(cc), "-I" + build, "-c", source, "-o", target])
    return objects


EARLY_ENTRY = ["-DPYRUNC_EARLY"]  # early.c: a static executable begins there, before the C library does
ENTRY = ["-Wl,-e,pyrunc_entry"]


def asked(cc: list[str], *words: str) -> str:
    """The compiler's output for an option, or nothing."""
    try:
        return subprocess.run([*cc, *words], capture_output=True, text=True, timeout=SECONDS).stdout.strip()
    except OSError:
        return ""


def sysroot(cc: list[str]) -> str:
    """The sysroot of the target machine; "" for this one."""
    return asked(cc, "-print-sysroot").rstrip("/") if any(word.startswith("--sysroot") for word in cc) else ""


def include(cc: list[str]) -> str:
    return sysroot(cc) + sysconfig.get_path("include")


def archive(cc: list[str]) -> str:
    """Path of libpython.a, which may not exist."""
    folder = sysconfig.get_config_var("LIBPL") or ""
    here = sysconfig.get_config_var("MULTIARCH")
    there = asked(cc, "-print-multiarch") if sysroot(cc) else here
    if here and there:
        folder = folder.replace(here, there)
    return os.path.join(sysroot(cc) + folder, sysconfig.get_config_var("LIBRARY") or "libpython.a")


def is_promised(cc: list[str]) -> bool:
    """Whether this interpreter must get a snapshot."""
    return PROMISED[0] <= sys.version_info[:2] <= PROMISED[1] and os.path.exists(archive(cc))


def running(program: str) -> list[str]:
    """The command that runs the result, always at the same addresses."""
    return [*shlex.split(os.environ.get("PYRUNC_RUNNER", "")), program]


def more_flags() -> list[str]:
    return shlex.split(os.environ.get("PYRUNC_LDFLAGS", ""))


def tuning() -> str:
    """Name of the source that tunes the snapshot for this version of Python."""
    name = "tuning_%d%d" % sys.version_info[:2]
    wanted = os.environ.get("PYRUNC_TUNING") != "none" and os.path.exists(os.path.join(HERE, name + ".c"))
    return name if wanted else "tuning_none"


def need_archive(cc: list[str]) -> None:
    if not os.path.exists(archive(cc)):
        raise Failed("%s is missing" % archive(cc))
    if "_json" not in sys.builtin_module_names:  # Debian's 3.11
        raise Failed("_json is not in %s but in a separate file, which a static executable can't load" % archive(cc))


def libseccomp(cc: list[str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], list[str]]:
    """(names of objects, flags, libraries, options for freeze.py) for libseccomp, if its header and archive exist."""
    found = asked(cc, "-print-file-name=libseccomp.a")
    if not os.path.isabs(found) or not asked(cc, "-E", "-include", "seccomp.h", "-x", "c", "/dev/null"):
        print("launcher: without libseccomp.a (Debian: libseccomp-dev) the helper process compiles seccomp filters", file=sys.stderr)
        return (), (), (), ["--helpers"]
    return ("libseccomp",), ("-DPYRUNC_LIBSECCOMP",), (found,), ["--helpers", "--libseccomp"]


def licences(cc: list[str], runtime: str, build: str) -> list[str]:
    """Options for freeze.py with the licence texts of everything that is linked in. A release (PYRUNC_RELEASE) must have them."""
    gcc = asked(cc, "-dumpversion").partition(".")[0]
    path = os.path.join(build, "licences.txt")
    try:
        text = components.licences(sysroot(cc), gcc, os.path.join(runtime, "../LICENSE"))
    except components.Missing as e:
        if os.environ.get("PYRUNC_RELEASE"):
            raise Failed("no licence text: %s" % e) from None
        return []
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return ["--licences=" + path]


def static(cc: list[str], runtime: str, build: str, out: str) -> None:
    need_archive(cc)
    names, flags, libraries, options = libseccomp(cc)
    freeze(runtime, build, *options, *licences(cc, runtime, build))
    names = ("launcher", "early", "libc_start", "sealing", "inittab", "sha2", *names, *EXTENSION)
    objects = compiled(cc, build, names, ["-fno-pie", *EARLY_ENTRY, *flags])
    run([*cc, "-static", "-no-pie", *objects, archive(cc), *libraries, "-lm", *LDFLAGS, *more_flags(), *ENTRY, "-o", out])


def snapshot(cc: list[str], runtime: str, build: str, out: str) -> None:
    """Like static(), with the started interpreter inside (snapshot.c): it is linked and run once, and the file that it writes is the
    launcher."""
    need_archive(cc)
    if sys.version_info[:2] < PROMISED[0]:
        raise Failed("Python %d.%d is too old" % sys.version_info[:2])
    names, flags, libraries, options = libseccomp(cc)
    groups = ["--groups"] if tuning() == "tuning_313" else []
    freeze(runtime, build, *options, *groups, *licences(cc, runtime, build))
    names = ("launcher", "early", "libc_start", "sealing", "inittab", "sha2", "heap", "snapshot", tuning(), *names, *EXTENSION)
    objects = compiled(cc, build, names, ["-fno-pie", "-DPYRUNC_SNAPSHOT", *EARLY_ENTRY, *flags])
    wrapped = ["malloc", "calloc", "realloc", "free", "pthread_getattr_np", "PyEval_SaveThread", "PyEval_RestoreThread"]
    wrapped += ["_PyCode_New", "_PyFunction_SetVersion", "_PyType_Lookup", "_PyType_LookupRef"] if tuning() != "tuning_none" else []
    wrap = ["-Wl,--wrap=" + name for name in wrapped]
    script = ["-Wl,-T," + os.path.join(HERE, "snapshot.ld")]
    cold = os.path.join(build, "cold")
    run([*cc, "-static", "-no-pie", *objects, archive(cc), *libraries, "-lm", *LDFLAGS, *more_flags(), *ENTRY, *wrap, *script, "-o", cold])
    write(cold, training(runtime) if tuning() != "tuning_none" else b"", out)


def write(cold: str, practice: bytes, out: str) -> None:
    """Runs the executable without a snapshot, which writes the one with a snapshot."""
    with open(out, "wb") as file:
        command = running(os.path.abspath(cold))
        try:
            done = subprocess.run(command, input=practice, stdout=file, stderr=subprocess.PIPE, env={}, cwd="/", timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed("it did not end") from None
    if done.returncode:
        raise Failed(done.stderr.decode(errors="replace").strip() or "it ended with %d" % done.returncode)
    os.chmod(out, 0o755)


def training(runtime: str) -> bytes:
    """train.py as byte code, with the example bundles' configs in it."""
    bundles = os.path.join(runtime, "../bundles")
    documents = {}
    for name in PRACTISED:
        path = os.path.join(bundles, name, "config.json")
        if os.path.exists(path):
            with open(path, "rb") as file:
                documents[name] = file.read()
    with open(os.path.join(HERE, "train.py"), encoding="utf-8") as file:
        tree = ast.parse(file.read(), "train.py")
    given = ast.parse("DOCUMENTS = %r" % documents).body
    at = next(i for i, node in enumerate(tree.body) if isinstance(node, ast.AnnAssign))
    tree.body[at : at + 1] = given
    return marshal.dumps(compile(tree, "train.py", "exec", dont_inherit=True))


def shared(cc: list[str], runtime: str, build: str, out: str) -> None:
    freeze(runtime, build, "--encodings")
    flags = ["-DPYRUNC_SHARED", "-fPIE"]
    if "_json" not in sys.builtin_module_names:
        flags.append('-DPYRUNC_JSON_IN="%s"' % sysconfig.get_config_var("DESTSHARED"))
    objects = compiled(cc, build, ("launcher", "early", "sealing", *EXTENSION), flags)
    folder = sysconfig.get_config_var("LIBDIR")
    library = "-lpython" + sysconfig.get_config_var("LDVERSION")
    run([*cc, "-pie", *objects, "-L" + folder, "-Wl,-rpath," + folder, library, *LDFLAGS, *more_flags(), "-o", out])


def freeze(runtime: str, build: str, *options: str) -> None:
    run([sys.executable, "-I", "-B", os.path.join(HERE, "freeze.py"), runtime, build, *options])


def check(program: str) -> None:
    """Failed unless the program behaves as a launcher. (One that should resume a snapshot but has none would write one.)"""
    done = subprocess.run([*running(program), "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
    if not done.stdout.startswith(b"pyrunc version "):
        raise Failed("it does not answer --version")


def ways(cc: list[str]) -> list[Callable[[list[str], str, str, str], None]]:
    """The methods to try, in order."""
    asked = os.environ.get("PYRUNC_LINK")
    if asked:
        return [way for way in (snapshot, static, shared) if way.__name__ == asked]
    return [snapshot] if is_promised(cc) else [snapshot, static, shared]


def to_disk(program: str) -> None:
    """Takes a file out of the page cache, so that the first start reads it in pieces of 2 MiB (early.c): what has been written in small pieces
    stays in small pieces."""
    file = os.open(program, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


def main(runtime: str, build: str, out: str) -> int:
    cc = shlex.split(os.environ.get("CC") or "cc")
    reasons = []
    for way in ways(cc):
        folder = os.path.join(build, way.__name__)
        os.makedirs(folder, exist_ok=True)
        try:
            way(cc, runtime, folder, out + ".new")
            run([*running(os.path.abspath(out + ".new")), "features"])
            to_disk(out + ".new")
            check(out + ".new")  # and it is in the page cache as it should be
        except (Failed, OSError) as e:
            reasons.append("%s: %s" % (way.__name__, e))
            continue
        os.replace(out + ".new", out)
        for reason in reasons:
            print("launcher: not linked %s" % reason, file=sys.stderr)
        print("launcher: %s, %s, %.1f MB" % (out, way.__name__, os.path.getsize(out) / 1e6))
        return 0
    for path in (out, out + ".new"):
        if os.path.exists(path):
            os.unlink(path)
    if is_promised(cc):
        words = "launcher: not built, and Python %d.%d must have it here; PYRUNC_PLAIN=1 builds without it" % sys.version_info[:2]
    else:
        words = "launcher: not built, the plain one is used"
    print("\n".join([words, *reasons]), file=sys.stderr)
    return 1 if is_promised(cc) else NO_LAUNCHER


if __name__ == "__main__":
    if sys.argv[1:] == ["--flags"]:
        tree = os.path.dirname(os.path.dirname(HERE))
        print(*hardening(shlex.split(os.environ.get("CC") or "cc")), "-ffile-prefix-map=%s=." % tree)
        sys.exit(0)
    sys.exit(main(*sys.argv[1:]))
