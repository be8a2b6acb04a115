"""Builds the compiled launcher: freezes the package, compiles what has changed, links, and tries the result.

    link.py RUNTIME BUILD OUT

Three ways, the first that works: statically (the C library and libpython's archive, as Debian's python3-dev has it) with the started
interpreter inside; statically; against the shared libpython. When none does the reasons are said, OUT does not exist, and the exit
status is 1: the plain launcher works everywhere. PYRUNC_LINK names the only way to try.
Run by the interpreter whose libpython is linked.
"""

import ast
import marshal
import os
import platform
import subprocess
import sys
import sysconfig

EXTENSION = ("syscalls", "mount", "file", "process", "bpf", "ops", "finish", "clear", "spawn", "json")
CFLAGS = "-std=gnu11 -O2 -g -Wall -Wextra -ffunction-sections".split()
EARLY = "-ffreestanding -fno-builtin -fno-stack-protector -fno-tree-loop-distribute-patterns".split()  # no C library yet, see early.c
LDFLAGS = "-Wl,--gc-sections -Wl,-z,relro,-z,now".split()
NOISE = ("warning: Using '", "the message above does not take linker garbage collection", ": in function `")
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
        limited = ["-DPy_LIMITED_API=0x030b0000"] if name in EXTENSION else []
        frozen = ['-DFROZEN_BIN="%s"' % os.path.join(build, "frozen.bin")] if name == "launcher" else []
        early = EARLY if name == "early" else []
        run(
            [cc, *CFLAGS, *flags, *limited, *frozen, *early, "-I" + sysconfig.get_path("include"), "-I" + build, "-c", source, "-o", target]
        )
    return objects


def has_entry():
    """Where early.c knows how to begin before the C library does: a static executable of this machine."""
    return ["-DPYRUNC_EARLY"] if platform.machine() == "x86_64" else []


def entry():
    return ["-Wl,-e,pyrunc_entry"] if has_entry() else []


def static(cc, runtime, build, out):
    archive = os.path.join(sysconfig.get_config_var("LIBPL"), sysconfig.get_config_var("LIBRARY"))
    if not os.path.exists(archive):
        raise Failed("%s is missing" % archive)
    freeze(runtime, build)
    objects = compiled(cc, build, ("launcher", "early", "sealing", "inittab", "sha2", *EXTENSION), ["-fno-pie", *has_entry()])
    run([cc, "-static", "-no-pie", *objects, archive, "-lm", *LDFLAGS, *entry(), "-o", out])


def snapshot(cc, runtime, build, out):
    """As static(), with the started interpreter inside (snapshot.c): linked, run once, and what that has written is the launcher."""
    archive = os.path.join(sysconfig.get_config_var("LIBPL"), sysconfig.get_config_var("LIBRARY"))
    if not os.path.exists(archive):
        raise Failed("%s is missing" % archive)
    if not (3, 13) <= sys.version_info < (3, 14):
        raise Failed("not tried with this version of Python")
    freeze(runtime, build)
    names = ("launcher", "early", "sealing", "inittab", "sha2", "heap", "snapshot", *EXTENSION)
    objects = compiled(cc, build, names, ["-fno-pie", "-DPYRUNC_SNAPSHOT", *has_entry()])
    wrap = ["-Wl,--wrap=" + name for name in ("malloc", "calloc", "realloc", "free", "_PyCode_New")]
    cold = os.path.join(build, "cold")
    run(
        [
            cc,
            "-static",
            "-no-pie",
            *objects,
            archive,
            "-lm",
            *LDFLAGS,
            *entry(),
            *wrap,
            "-Wl,-T," + os.path.join(HERE, "snapshot.ld"),
            "-o",
            cold,
        ]
    )
    with open(out, "wb") as file:
        command = [os.path.abspath(cold)]
        try:
            done = subprocess.run(command, input=training(runtime), stdout=file, stderr=subprocess.PIPE, env={}, cwd="/", timeout=SECONDS)
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
    objects = compiled(cc, build, ("launcher", "early", "sealing", *EXTENSION), ["-DPYRUNC_SHARED", "-fPIE"])
    folder = sysconfig.get_config_var("LIBDIR")
    library = "-lpython" + sysconfig.get_config_var("LDVERSION")
    run([cc, "-pie", *objects, "-L" + folder, "-Wl,-rpath," + folder, library, *LDFLAGS, "-o", out])


def freeze(runtime, build, *options):
    run([sys.executable, "-I", "-B", os.path.join(HERE, "freeze.py"), runtime, build, *options])


def main(runtime, build, out):
    cc = os.environ.get("CC") or "cc"
    reasons = []
    for way in (snapshot, static, shared):
        if os.environ.get("PYRUNC_LINK", way.__name__) != way.__name__:
            continue
        folder = os.path.join(build, way.__name__)
        os.makedirs(folder, exist_ok=True)
        try:
            way(cc, runtime, folder, out + ".new")
            run([out + ".new", "--version"])
            run([out + ".new", "features"])
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
    print("launcher: not built, the plain one is used\n" + "\n".join(reasons), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
