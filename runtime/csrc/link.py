"""Builds the compiled launcher: freezes the package, compiles what has changed, links, and runs the result.

    link.py RUNTIME BUILD OUT

There are three ways: `snapshot` links the C library and libpython's archive (Debian's python3-dev has it) statically, with the started
interpreter inside; `static` does the same without the interpreter's state; `shared` uses the shared libpython. PYRUNC_LINK=WAY selects
one of them. Otherwise it depends on the interpreter that runs this script, whose libpython is linked:

  - Where the snapshot is promised (Python 3.12 to 3.14 with libpython's archive) it is the only way, and exit status 1 says that it
    failed: a build must not become slower without anybody noticing.
  - Elsewhere the first way that works is taken. When none does, the exit status is 3, and the plain launcher is used.

Without a launcher the reasons are printed and OUT does not exist. What tunes the snapshot for one version of Python is in tuning_XY.c;
a version without that file has a snapshot all the same. PYRUNC_TUNING=none leaves it out, for tests.
"""

import ast
import marshal
import os
import platform
import subprocess
import sys
import sysconfig

EXTENSION = ("syscalls", "mount", "file", "process", "bpf", "ops", "finish", "filter", "clear", "spawn", "json")
CFLAGS = "-std=gnu11 -O2 -g -Wall -Wextra -ffunction-sections".split()
EARLY = "-ffreestanding -fno-builtin -fno-stack-protector -fno-tree-loop-distribute-patterns".split()
BARE = ("early", "sealing")  # sources that run before the C library has started, see bare.h
LDFLAGS = "-Wl,--gc-sections -Wl,-z,relro,-z,now".split()
NOISE = ("warning: Using '", "the message above does not take linker garbage collection", ": in function `")
PROMISED = ((3, 12), (3, 14))  # first and last version that must have a snapshot where it can be linked statically
NO_LAUNCHER = 3  # exit status
PRACTISED = ("hello", "podman-like", "seccomp-docker", "kubernetes-like")  # bundles whose configs train.py gets
SECONDS = 300  # of any step; most of a second each
HERE = os.path.dirname(os.path.abspath(__file__))


class Failed(Exception):
    """A step did not work; the text says why."""


def run(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise Failed("%s did not end" % command[0]) from None
    # A static binary that calls getaddrinfo needs the shared libraries then: nothing of ours calls it.
    text = "\n".join(line for line in done.stderr.splitlines() if not any(word in line for word in NOISE))
    if done.returncode:
        raise Failed(text or "%s ended with %d" % (command[0], done.returncode))
    if text:
        print(text, file=sys.stderr)


def newer(target, sources):
    return os.path.exists(target) and all(os.path.getmtime(target) >= os.path.getmtime(s) for s in sources)


def compiled(cc, build, names, flags):
    """Object files; those are compiled anew whose source, any header or the frozen code is younger."""
    headers = [os.path.join(HERE, n) for n in os.listdir(HERE) if n.endswith(".h")]
    objects = []
    for name in names:
        source, target = os.path.join(HERE, name + ".c"), os.path.join(build, name + ".o")
        objects.append(target)
        needs = [
            source,
            *headers,
            *(os.path.join(build, n) for n in ("frozen.bin", "frozen.h", "commands.h") if name in ("launcher", "early")),
        ]
        if newer(target, needs):
            continue
        limited = ["-DPy_LIMITED_API=0x030b0000"] if name in (*EXTENSION, "libseccomp") else []
        frozen = ['-DFROZEN_BIN="%s"' % os.path.join(build, "frozen.bin")] if name == "launcher" else []
        early = EARLY if name in BARE else []
        if name == "sha2" and sys.version_info >= (3, 14):
            early = ["-DSHA2_PREFIX=_Py_LibHacl_Hacl_Hash_SHA2_"]
        run(
            [cc, *CFLAGS, *flags, *limited, *frozen, *early, "-I" + sysconfig.get_path("include"), "-I" + build, "-c", source, "-o", target]
        )
    return objects


def has_entry():
    """Where early.c knows how to begin before the C library does: a static executable of this machine."""
    return ["-DPYRUNC_EARLY"] if platform.machine() == "x86_64" else []


def entry():
    return ["-Wl,-e,pyrunc_entry"] if has_entry() else []


def archive():
    """Path of libpython.a, which may not exist."""
    return os.path.join(sysconfig.get_config_var("LIBPL") or "", sysconfig.get_config_var("LIBRARY") or "libpython.a")


def is_promised():
    """Whether this interpreter must get a snapshot."""
    return PROMISED[0] <= sys.version_info[:2] <= PROMISED[1] and os.path.exists(archive())


def tuning():
    """Name of the source that tunes the snapshot for this version of Python."""
    name = "tuning_%d%d" % sys.version_info[:2]
    wanted = os.environ.get("PYRUNC_TUNING") != "none" and os.path.exists(os.path.join(HERE, name + ".c"))
    return name if wanted else "tuning_none"


def need_archive():
    if not os.path.exists(archive()):
        raise Failed("%s is missing" % archive())
    if "_json" not in sys.builtin_module_names:  # Debian's 3.11
        raise Failed("_json is not in %s but in a file of its own, which a static executable can't load" % archive())


def libseccomp(cc):
    """(objects' names, flags, libraries, what freeze.py gets) of libseccomp, where its header and its archive are there."""
    found = subprocess.run([cc, "-print-file-name=libseccomp.a"], capture_output=True, text=True, timeout=SECONDS).stdout.strip()
    header = subprocess.run([cc, "-E", "-include", "seccomp.h", "-x", "c", "/dev/null"], capture_output=True, timeout=SECONDS)
    if not os.path.isabs(found) or header.returncode:
        print("launcher: without libseccomp.a (Debian: libseccomp-dev) the helper process compiles seccomp filters", file=sys.stderr)
        return (), (), (), ("--helpers",)
    return ("libseccomp",), ("-DPYRUNC_LIBSECCOMP",), (found,), ("--helpers", "--libseccomp")


def static(cc, runtime, build, out):
    need_archive()
    names, flags, libraries, options = libseccomp(cc)
    freeze(runtime, build, *options)
    names = ("launcher", "early", "sealing", "inittab", "sha2", *names, *EXTENSION)
    objects = compiled(cc, build, names, ["-fno-pie", *has_entry(), *flags])
    run([cc, "-static", "-no-pie", *objects, archive(), *libraries, "-lm", *LDFLAGS, *entry(), "-o", out])


def snapshot(cc, runtime, build, out):
    """As static(), with the started interpreter inside (snapshot.c): linked, run once, and what that writes is the launcher."""
    need_archive()
    if sys.version_info[:2] < PROMISED[0]:
        raise Failed("Python %d.%d is too old" % sys.version_info[:2])
    names, flags, libraries, options = libseccomp(cc)
    freeze(runtime, build, *options)
    names = ("launcher", "early", "sealing", "inittab", "sha2", "heap", "snapshot", tuning(), *names, *EXTENSION)
    objects = compiled(cc, build, names, ["-fno-pie", "-DPYRUNC_SNAPSHOT", *has_entry(), *flags])
    wrapped = ["malloc", "calloc", "realloc", "free"] + (["_PyCode_New"] if tuning() != "tuning_none" else [])
    wrap = ["-Wl,--wrap=" + name for name in wrapped]
    script = ["-Wl,-T," + os.path.join(HERE, "snapshot.ld")]
    cold = os.path.join(build, "cold")
    run([cc, "-static", "-no-pie", *objects, archive(), *libraries, "-lm", *LDFLAGS, *entry(), *wrap, *script, "-o", cold])
    write(cold, training(runtime) if tuning() != "tuning_none" else b"", out)


def write(cold, practice, out):
    """Runs the executable without a snapshot, which writes the one with it."""
    with open(out, "wb") as file:
        command = [os.path.abspath(cold)]
        try:
            done = subprocess.run(command, input=practice, stdout=file, stderr=subprocess.PIPE, env={}, cwd="/", timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed("it did not end") from None
    if done.returncode:
        raise Failed(done.stderr.decode(errors="replace").strip() or "it ended with %d" % done.returncode)
    os.chmod(out, 0o755)


def training(runtime):
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


def shared(cc, runtime, build, out):
    freeze(runtime, build, "--encodings")
    flags = ["-DPYRUNC_SHARED", "-fPIE"]
    if "_json" not in sys.builtin_module_names:
        flags.append('-DPYRUNC_JSON_IN="%s"' % sysconfig.get_config_var("DESTSHARED"))
    objects = compiled(cc, build, ("launcher", "early", "sealing", *EXTENSION), flags)
    folder = sysconfig.get_config_var("LIBDIR")
    library = "-lpython" + sysconfig.get_config_var("LDVERSION")
    run([cc, "-pie", *objects, "-L" + folder, "-Wl,-rpath," + folder, library, *LDFLAGS, "-o", out])


def freeze(runtime, build, *options):
    run([sys.executable, "-I", "-B", os.path.join(HERE, "freeze.py"), runtime, build, *options])


def check(program):
    """Failed unless the program behaves as a launcher. (One that should resume a snapshot and has none would write one.)"""
    done = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
    if not done.stdout.startswith(b"pyrunc version "):
        raise Failed("it does not answer --version")


def ways():
    """The ways to try, in this order."""
    asked = os.environ.get("PYRUNC_LINK")
    if asked:
        return [way for way in (snapshot, static, shared) if way.__name__ == asked]
    return [snapshot] if is_promised() else [snapshot, static, shared]


def main(runtime, build, out):
    cc = os.environ.get("CC") or "cc"
    reasons = []
    for way in ways():
        folder = os.path.join(build, way.__name__)
        os.makedirs(folder, exist_ok=True)
        try:
            way(cc, runtime, folder, out + ".new")
            run([out + ".new", "features"])
            check(out + ".new")
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
    if is_promised():
        words = "launcher: not built, and Python %d.%d must have it here; PYRUNC_PLAIN=1 builds without it" % sys.version_info[:2]
    else:
        words = "launcher: not built, the plain one is used"
    print("\n".join([words, *reasons]), file=sys.stderr)
    return 1 if is_promised() else NO_LAUNCHER


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
