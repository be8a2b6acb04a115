"""The training of the compiled launcher before its snapshot is written (snapshot.c). link.py passes it as byte code to the executable
without a snapshot.

The interpreter replaces instructions that have run twice by variants for the types that they have seen, remembers where attributes were
found, and records in classes what their instances contain. A command runs most of its code only once and would never profit from that, and
each page with counters would be copied. So all pure computation runs here: options, documents, validation, plans, messages, states.

Rules: training changes only the interpreter's own state. If a variable of a module changes, the build fails, because a launcher must not
contain data about the machine that built it. And a second build gives the same bits: nothing is read from the host, only FILES. DOCUMENTS
is {name: bytes of a config.json}, filled by link.py.
"""

import posix
import sys

DOCUMENTS: dict[str, bytes] = {}
ALL_CAPABILITIES = (1 << 41) - 1  # CAP_CHECKPOINT_RESTORE is the last one
IDS = ("getuid", "geteuid", "getgid", "getegid")
HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: not one of the interpreter's own classes
ROUNDS = 4  # an instruction is specialised in its second run, and its caches are used from the third
COMMANDS = (
    ["--root", "/run/r", "--log", "/run/l", "--log-format", "json", "create", "--bundle", "/b", "--pid-file", "/p", "an-id"],
    ["--root=/run/r", "run", "-b", "/b", "--detach", "an-id"],
    ["--root", "/run/r", "start", "an-id"],
    ["state", "an-id"],
    ["--root", "/run/r", "exec", "--process", "/p", "--detach", "--pid-file", "/q", "an-id"],
    ["exec", "-e", "A=B", "--cwd", "/", "an-id", "true", "-x"],
    ["kill", "--all", "an-id", "9"],
    ["delete", "--force", "an-id"],
    ["list", "-q"],
)
V1 = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "name=systemd")
BESIDE = b"".join(
    b"%d 24 0:%d / /sys/fs/cgroup/%s rw,nosuid - cgroup cgroup rw,%s\n" % (30 + at, 30 + at, name.encode(), name.encode())
    for at, name in enumerate(V1)
)
FILES = (  # of a host with cgroups of version 1, and of one with version 2
    {
        "/proc/self/uid_map": b"         0          0 4294967295\n",
        "/proc/self/cgroup": b"".join(b"%d:%s:/\n" % (9 - at, name.encode()) for at, name in enumerate(V1)) + b"0::/\n",
        "/proc/self/mountinfo": b"22 27 0:21 / /proc rw,relatime - proc proc rw\n24 27 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        + BESIDE,
    },
    {
        "/proc/self/uid_map": b"         0          0 4294967295\n",
        "/proc/self/cgroup": b"0::/user.slice\n",
        "/proc/self/mountinfo": b"24 27 0:22 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    },
)


def known() -> dict[str, dict[str, object]]:
    """{module: {name: value}} of the package."""
    return {name: dict(vars(module)) for name, module in sys.modules.items() if name.partition(".")[0] == "pyrunc"}


def contents(modules: dict[str, dict[str, object]]) -> dict[tuple[str, str], int]:
    """Hashes of the values that could be changed in place."""
    return {
        (module, name): hash(repr(value))
        for module, names in modules.items()
        for name, value in names.items()
        if name[:2] != "__" and type(value) in (dict, list, set)
    }


def traces(before: dict[str, dict[str, object]], filled: dict[tuple[str, str], int]) -> list[str]:
    """Names of variables that have changed."""
    now = known()
    found = [
        "%s.%s" % (module, name)
        for module in now
        for name in {**before.get(module, {}), **now[module]}
        if name not in before.get(module, {}) or before[module][name] is not now[module].get(name)
    ]
    return found + [".".join(key) for key, value in contents(now).items() if value != filled.get(key)]


def options() -> None:
    from pyrunc import cli

    for words in COMMANDS:
        cli.parse(words)


def plan(name: str, raw: bytes) -> None:
    """Loads, normalises, validates, plans and writes, as create does; then builds what init passes to C at its end."""
    from pyrunc import jsonio, trace
    from pyrunc.engine import init, planner, prepare
    from pyrunc.engine.run import Run
    from pyrunc.linux import jsonbytes
    from pyrunc.oci import load, normalise, validate

    document = normalise.config(load.parse(raw, name))
    document["process"].pop("rlimits", None)  # their plan reads this process's own
    problems = validate.check(document)
    if problems:
        raise SystemExit("%s: %s" % (name, problems))
    context = planner.Context("an-id", "/bundle", document, {"command": "create", "detach": True, **prepare.from_globals({})})
    context.euid = 0
    plans, _problems, _warnings = planner.plan_all(document, context)
    jsonio.loads(jsonbytes.by_lines(dict(plans)), "plan.json", ours=True)
    jsonbytes.by_lines(document)
    run = Run("an-id", "/bundle", document, plans, context.options, "/run/r")
    run.seccomp_bpf = b""
    init.tail(run, 3)
    trace.begin()  # discard the time stamps, because they vary
    trace.add([[1_700_000_000_000_000_000 + at, 1_700_000_000_000_000_000 + 2 * at, "host", "x.y"] for at in (0, 1000, 1_000_000)])
    trace.kept()


def messages() -> None:
    """The messages between host and init, over sockets within this process."""
    from pyrunc.engine import handshake

    here, there = handshake.pair()
    here.send(handshake.PLACED)
    there.expect(handshake.PLACED)
    there.send(handshake.ASK, {"part": "mounts", "request": {"index": 1}})
    here.receive()
    here.send(handshake.ANSWER, {"sources": [1]}, (0,))
    for fd in there.expect(handshake.ANSWER)[1]:
        posix.close(fd)
    here.close()
    there.close()


def state() -> None:
    """The state documents of a container."""
    from pyrunc import jsonio, timestamps
    from pyrunc.linux import jsonbytes
    from pyrunc.oci import state as document

    fields = {
        "version": 1, "id": "an-id", "bundle": "/bundle", "rootfs": "/bundle/rootfs", "annotations": {"org.example.key": "x"},
        "created": timestamps.rfc3339(1_700_000_000_123_456_789), "status": "created", "pid": 4711, "start_time": 4712, "boot_id": "x" * 36,
        "owner": 0, "cgroup_paths": {}, "own_pid_ns": True, "hook_kinds": [], "notify": False, "warnings": [], "stdio": [],
    }  # fmt: skip
    line = jsonbytes.dumps(fields)
    for now in ("created", "running", "stopped"):
        jsonio.dumps(document.for_state(jsonio.loads(line, "state.json", ours=True), now), indent=2)


def attributes(modules: dict[str, dict[str, object]]) -> None:
    """Each class learns the names that its functions assign to attributes, so that no instance has to add one to those of the class."""
    kinds = [kind for name, values in modules.items() for kind in values.values() if isinstance(kind, type) and kind.__module__ == name]
    for kind in kinds:
        if all(base.__flags__ & HEAP_TYPE for base in kind.__mro__[:-1]):
            instance: object = object.__new__(kind)
            for name in [name for base in reversed(kind.__mro__) for name in getattr(base, "__static_attributes__", ())]:
                if not hasattr(getattr(kind, name, None), "__set__"):  # a property or a slot
                    object.__setattr__(instance, name, None)


def main() -> None:
    from pyrunc import fileio, trace
    from pyrunc.linux import _syscalls

    before = known()
    filled = contents(before)
    attributes(before)
    capget = _syscalls.capget
    read_file, ours = fileio.read_file, {name: getattr(posix, name) for name in ("getpid", *IDS)}
    try:
        posix.getpid = lambda: 4711  # a shorter number in a string would take less memory
        for name in IDS:  # as root, whoever builds it: an ordinary user's config is planned differently
            setattr(posix, name, lambda: 0)
        _syscalls.capget = lambda _pid: (ALL_CAPABILITIES, ALL_CAPABILITIES, 0)
        for number in range(ROUNDS):
            read_file("/dev/null")
            fileio.read_file = lambda path, *_how, files=FILES[number % 2], **_more: files.get(path, b"")
            options()
            for name, raw in DOCUMENTS.items():
                plan(name, raw)
            messages()
            state()
    finally:
        fileio.read_file, _syscalls.capget = read_file, capget
        for name, function in ours.items():
            setattr(posix, name, function)
    trace.begin()
    found = traces(before, filled)
    if found:
        raise SystemExit("training has changed " + ", ".join(found))


main()
