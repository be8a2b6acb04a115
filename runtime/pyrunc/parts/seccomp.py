"""/linux/seccomp (config-linux.md#seccomp): the profile, its compiled filter, and the listener of filters that notify.

plan() checks everything and brings the profile into numbers; host_compile turns those into BPF, from a cache or by libseccomp in the
helper process; one of three verbs then hands the program to finish(). One rule: a filter is loaded as the profile says, or the
container does not start. A cached program is believed only if we wrote it, under this very profile, and nobody has touched it.
"""

import posix

from pyrunc import lean
from pyrunc.errors import Refusal, StepFailure, Unsupported, errno_text, quote
from pyrunc.linux import filters

HERE = "/linux/seccomp"
GENERATOR = 1  # of the compiled form; a change of the compiler or of the prologue needs another one
MAGIC = b"pyrunc-filter 1\n"
SUM = 32
NEW_FILE = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
CACHE_FILES = 64  # a machine has a handful of profiles; more than this is somebody's loop
NAMES_LIMIT = 16384  # no kernel has a tenth of it, and 4096 instructions is all that a filter may have
FAIL_UNKNOWN = "run.oci.seccomp_fail_unknown_syscall"
NOT_NOTIFIABLE = ("write", "sendmsg")  # what hands the listener over would wait for the listener
LIBRARY = "libseccomp.so.2"
LIBRARY_DIRS = ("/usr/lib/%s-linux-gnu", "/lib/%s-linux-gnu", "/usr/lib64", "/lib64", "/usr/local/lib", "/usr/lib", "/lib")
SUN_PATH = 107  # bytes of a path that fit into sockaddr_un
SEND_SECONDS = 10
SCM_RIGHTS, SO_SNDTIMEO = 1, 21


# -- plan ----------------------------------------------------------------------------------------------------------------


def plan(node, ctx):
    """node: {"/linux/seccomp": {...}}. Entry: {"profile": {"default": action, "arches": [names], "rules": [{"names", "action", "args":
    [[index, op, a, b]], "at": pointer}], "enosys": bool, "strict": bool}, "flags": of seccomp(2), "notify": bool, "listener": path or
    None, "metadata": text or None}. None for an object without content, as there is nothing to load.

    Refuses: errno values where none belong or above 4095, argument indices above 5, valueTwo without MASKED_EQ, empty names, NOTIFY as
    the default, for write and sendmsg, or without a listening socket at listenerPath, and flags that this kernel lacks."""
    seccomp = node[HERE]
    if not seccomp:
        return None
    default = _action(seccomp["defaultAction"], seccomp.get("defaultErrnoRet"), "defaultAction", "defaultErrnoRet", HERE)
    if default == filters.NOTIFY:
        raise Refusal("SCMP_ACT_NOTIFY cannot be used as default action", HERE + "/defaultAction")
    rules = []
    for i, syscall in enumerate(seccomp.get("syscalls", ())):
        rules += _rules(syscall, "%s/syscalls/%d" % (HERE, i), ctx)
    if sum(len(rule["names"]) for rule in rules) > NAMES_LIMIT:
        raise Refusal("more than %d system call names" % NAMES_LIMIT, HERE + "/syscalls")
    notify = any(rule["action"] == filters.NOTIFY for rule in rules)
    permissive = default in (filters.ALLOW, filters.LOG) or default & 0xFFFF0000 == filters.TRACE
    return {
        "profile": {
            "default": default,
            "arches": _arches(seccomp.get("architectures", ())),
            "rules": rules,
            "enosys": not permissive and default != filters.ERRNO | filters.ENOSYS,
            "strict": FAIL_UNKNOWN in ctx.config.get("annotations", {}),
        },
        "flags": _flags(seccomp.get("flags"), notify, ctx),
        "notify": notify,
        **_listener(seccomp, notify),
    }


def _action(name, errno_ret, name_key, errno_key, pointer):
    """The action's number, with its errno or trace value in the lower half."""
    if name not in filters.ACTIONS:
        raise Refusal("string %s is not a valid action for seccomp" % quote(name), "%s/%s" % (pointer, name_key))
    base = filters.ACTIONS[name]
    if base not in (filters.ERRNO, filters.TRACE):
        if errno_ret is not None:
            raise Refusal("errno value specified for action %s, which returns none" % name, "%s/%s" % (pointer, errno_key))
        return base
    value = 1 if errno_ret is None else errno_ret  # EPERM
    limit = filters.MAX_ERRNO if base == filters.ERRNO else 0xFFFF
    if value > limit:
        words = "errno value %d is larger than %d, the largest that %s can return" % (value, limit, name)
        raise Refusal(words, "%s/%s" % (pointer, errno_key))
    return base | value


def _rules(syscall, pointer, ctx):
    """One element of syscalls -> its rules. All arguments of a rule must match at once, but the library takes an index only once: if one
    is given twice, each comparison becomes a rule of its own (any of them matches), as runc has always read it."""
    names = syscall["names"]
    for i, name in enumerate(names):
        if not name or "\0" in name:
            raise Refusal("empty system call name" if not name else "NUL in a system call name", "%s/names/%d" % (pointer, i))
    action = _action(syscall["action"], syscall.get("errnoRet"), "action", "errnoRet", pointer)
    if not names:
        raise Refusal("a rule without system call names", pointer + "/names")
    if action == filters.NOTIFY:
        for i, name in enumerate(names):
            if name in NOT_NOTIFIABLE:
                raise Refusal("SCMP_ACT_NOTIFY cannot be used for the %s syscall" % name, "%s/names/%d" % (pointer, i))
    args = [_argument(arg, "%s/args/%d" % (pointer, i)) for i, arg in enumerate(syscall.get("args", ()))]
    if len({arg[0] for arg in args}) < len(args):
        sets = [[arg] for arg in args]
    else:
        sets = [args]
    out = []
    for one in sets:
        if any(op == filters.MASKED_EQ and b & ~a for _index, op, a, b in one):
            ctx.warn(pointer + "/args", "value & argument can never be valueTwo: the rule matches nothing")
            continue
        out.append({"names": names, "action": action, "args": one, "at": pointer})
    return out


def _argument(arg, pointer):
    """[index, op, a, b] as libseccomp orders them: for MASKED_EQ a is the mask and b what must be left."""
    if arg["index"] > 5:
        raise Refusal("argument index %d: a system call has arguments 0 to 5" % arg["index"], pointer + "/index")
    if arg["op"] not in filters.OPERATORS:
        raise Refusal("string %s is not a valid operator for seccomp" % quote(arg["op"]), pointer + "/op")
    op = filters.OPERATORS[arg["op"]]
    second = arg.get("valueTwo", 0)
    if second and op != filters.MASKED_EQ:
        raise Refusal("valueTwo has a meaning for SCMP_CMP_MASKED_EQ only", pointer + "/valueTwo")
    return [arg["index"], op, arg["value"], second]


def _arches(names):
    for i, name in enumerate(names):
        if name not in filters.ARCHES:
            raise Refusal("string %s is not a valid arch for seccomp" % quote(name), "%s/architectures/%d" % (HERE, i))
    return list(dict.fromkeys(names))


def _flags(names, notify, ctx):
    """Flags of seccomp(2). None given: SPEC_ALLOW where the kernel has it, as runc does. TSYNC says nothing of a process with one
    thread and is dropped (together with a listener the kernel would refuse it)."""
    if names is None:
        return filters.FLAG_SPEC_ALLOW if filters.supports_flag(filters.FLAG_SPEC_ALLOW) else 0
    flags = 0
    for i, name in enumerate(names):
        pointer = "%s/flags/%d" % (HERE, i)
        if name not in filters.FLAGS:
            raise Refusal("seccomp flag %s is not known" % quote(name), pointer)
        flag = filters.FLAGS[name]
        if flag == filters.FLAG_TSYNC:
            continue
        if flag == filters.FLAG_WAIT_KILLABLE_RECV and not notify:
            ctx.warn(pointer, "%s has no effect: no rule notifies" % name)
            continue
        if not filters.supports_flag(flag):
            raise Unsupported("seccomp flag %s is not supported by this kernel" % name, pointer, "kernel")
        flags |= flag
    return flags


def _listener(seccomp, notify):
    path, metadata = seccomp.get("listenerPath"), seccomp.get("listenerMetadata")
    if metadata and not path:
        raise Refusal("seccomp listenerMetadata without listenerPath", HERE + "/listenerMetadata")
    if not notify:  # nobody will be connected to
        return {"listener": None, "metadata": None}
    pointer = HERE + "/listenerPath"
    if not path:
        raise Refusal("seccomp listenerPath is not set", pointer, "a rule uses SCMP_ACT_NOTIFY, and somebody has to listen")
    if path[0] != "/" or "\0" in path:
        raise Refusal("seccomp listenerPath %s is not an absolute path" % quote(path), pointer)
    try:
        mode = posix.stat(path).st_mode
    except OSError as e:
        raise Refusal("seccomp listenerPath %s: %s" % (quote(path), errno_text(e.errno)), pointer) from None
    if mode & 0o170000 != 0o140000:
        raise Refusal("seccomp listenerPath %s is not a socket" % quote(path), pointer)
    return {"listener": path, "metadata": metadata or None}


# -- compile -------------------------------------------------------------------------------------------------------------


def host_compile(entry, run):
    """Host side, before the clone. Sets run.seccomp_bpf, which init inherits. Uses run.cache (a directory of ours, made when it is not
    there) and run.heavy. Refusal with the rule's pointer for what libseccomp does not take. Nothing to undo: the cache stays."""
    profile = dict(entry["profile"])
    early = not _no_new_privs(run) or entry["notify"]  # then init still has to report and to wait below the filter
    profile["needs"] = ["execve", "write", "read"] if early else ["execve"]
    key = _key(profile)
    cache_fd = _open_cache(run.cache) if key is not None else -1
    try:
        program = _cached(cache_fd, key) if cache_fd >= 0 else None
        if program is None:
            program = bytes.fromhex(run.heavy("seccomp", profile)["bpf"])
            if not _plausible(program):
                raise StepFailure("libseccomp made no filter of the profile", pointer=HERE)
            if cache_fd >= 0:
                _keep(cache_fd, key, program)
    finally:
        if cache_fd >= 0:
            posix.close(cache_fd)
    run.seccomp_bpf = program


def _no_new_privs(run):
    return bool((run.plans.get("capabilities") or {}).get("nnp"))


def _plausible(program):
    size = filters.INSN.size
    return 0 < len(program) <= filters.MAX_INSNS * size and len(program) % size == 0


def _digest(data):
    try:
        from _sha2 import sha256
    except ImportError:  # Python 3.11
        from _sha256 import sha256
    return sha256(data)


def _key(profile):
    """The name of a cache file: everything that the program depends on. None when the library can't be told apart from another."""
    machine = posix.uname().machine
    for template in LIBRARY_DIRS:
        path = (template % machine if "%" in template else template) + "/" + LIBRARY
        try:
            link = posix.readlink(path)  # libseccomp.so.2.6.0
            st = posix.stat(path)
        except OSError:
            continue
        library = "%s %d %d" % (link, st.st_size, st.st_mtime_ns)
        return _digest(lean.dumps([GENERATOR, machine, library, profile]).encode("utf-8", "backslashreplace")).hexdigest()
    return None


def _open_cache(path):
    """fd of the cache directory, or -1 when it can't be used: not ours, open to others, not writable. Then each create compiles."""
    for step in (path.rpartition("/")[0], path):
        try:
            posix.mkdir(step, 0o700)
        except OSError:  # there already, or the next line says so
            pass
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except OSError:
        return -1
    st = posix.fstat(fd)
    if st.st_uid != posix.geteuid() or st.st_mode & 0o022:
        posix.close(fd)
        return -1
    return fd


def _sealed(key, program):
    return MAGIC + _digest(key.encode() + program).digest() + program


def _cached(cache_fd, key):
    """The program, or None. Only a regular file of ours that nobody else may write, whole, and made for this very key."""
    try:
        fd = posix.open(key, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC, dir_fd=cache_fd)
    except OSError:
        return None
    try:
        st = posix.fstat(fd)
        if st.st_mode & 0o170077 != 0o100000 or st.st_uid != posix.geteuid() or st.st_size > 1 << 16:
            return None
        data = lean.read_fd(fd, 1 << 16)
    except OSError:
        return None
    finally:
        posix.close(fd)
    program = data[len(MAGIC) + SUM :]
    return program if _plausible(program) and data == _sealed(key, program) else None


def _keep(cache_fd, key, program):
    """Writes the file beside its name and renames it, so that readers see all or nothing. A full disk costs the next create some
    milliseconds and this one nothing."""
    temporary = ".%d" % posix.getpid()
    try:
        _make_room(cache_fd)
        fd = posix.open(temporary, NEW_FILE, 0o600, dir_fd=cache_fd)
        try:
            lean.write_all(fd, _sealed(key, program))
        finally:
            posix.close(fd)
        posix.rename(temporary, key, src_dir_fd=cache_fd, dst_dir_fd=cache_fd)
    except OSError:
        try:
            posix.unlink(temporary, dir_fd=cache_fd)
        except OSError:
            return


def _make_room(cache_fd):
    """Bounds the cache: the oldest half goes when it is full. Files that vanish meanwhile were removed by another create."""
    names = posix.listdir(cache_fd)
    if len(names) < CACHE_FILES:
        return
    ages = []
    for name in names:
        try:
            ages.append((posix.stat(name, dir_fd=cache_fd, follow_symlinks=False).st_mtime_ns, name))
        except OSError:
            continue
    for _age, name in sorted(ages)[: CACHE_FILES // 2]:
        try:
            posix.unlink(name, dir_fd=cache_fd)
        except OSError:
            continue


# -- load ----------------------------------------------------------------------------------------------------------------


def _filter(entry, run):
    flags = entry["flags"] | (filters.FLAG_NEW_LISTENER if entry["notify"] else 0)
    return ("FILTER", run.seccomp_bpf, flags)


def op_early(entry, run):
    """Init: without noNewPrivileges, while CAP_SYS_ADMIN is there. None otherwise."""
    return None if _no_new_privs(run) else _filter(entry, run)


def op_notify(entry, run):
    """Init: with noNewPrivileges, a filter that notifies: at create, as its listener must be out before create returns."""
    return _filter(entry, run) if _no_new_privs(run) and entry["notify"] else None


def op_late(entry, run):
    """Init: with noNewPrivileges, last of all: only execve comes after it."""
    return _filter(entry, run) if _no_new_privs(run) and not entry["notify"] else None


def host_deliver(entry, run, listener_fd):
    """Host side: connects to listenerPath and sends the state of the container process (config-linux.md#containerprocessstate) with
    the listener. run.pid is the process under the filter; with exec the container's own is run.init_pid. StepFailure when the
    receiver can't be reached: a container whose calls nobody answers would hang."""
    init_pid = getattr(run, "init_pid", None)
    container = run.state("creating", run.pid) if init_pid is None else run.state("running", init_pid)
    state = {"ociVersion": container["ociVersion"], "fds": ["seccompFd"], "pid": run.pid, "state": container}
    if entry["metadata"] is not None:
        state["metadata"] = entry["metadata"]
    try:
        _send(entry["listener"], lean.fsencode(lean.dumps(state)), listener_fd)
    except OSError as e:
        words = "seccomp listener %s: %s" % (quote(entry["listener"]), errno_text(e.errno) if e.errno else e)
        raise StepFailure(words, pointer=HERE + "/listenerPath", call="connect", errno=e.errno, path=entry["listener"]) from e


def _send(path, data, fd):
    import _socket
    from _struct import pack

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    path_fd = -1
    try:
        sock.setsockopt(_socket.SOL_SOCKET, SO_SNDTIMEO, pack("ll", SEND_SECONDS, 0))  # of connect, too: a full backlog
        address = lean.fsencode(path)
        if len(address) > SUN_PATH:
            path_fd = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
            address = b"/proc/self/fd/%d" % path_fd
        sock.connect(address)
        sent = sock.sendmsg([data], [(_socket.SOL_SOCKET, SCM_RIGHTS, pack("i", fd))])
        while sent < len(data):  # the descriptor went with the first byte
            sent += sock.send(data[sent:])
    finally:
        sock.close()
        if path_fd >= 0:
            posix.close(path_fd)
