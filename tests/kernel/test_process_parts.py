"""user, capabilities, program and keyring on a real kernel: the state of a child after their verbs, and their errors if the kernel
refuses."""

import os
import signal
from types import SimpleNamespace

import pytest

import harness
import staged
import tail
from fakes.hand import Ctx, Run, namespaces
from pyrunc.errors import StepFailure
from pyrunc.linux import _syscalls, caps, constants, ids, proc
from pyrunc.parts import capabilities, keyring, program, user

pytestmark = pytest.mark.kernel


def ops_of(process, plans=None, **more):
    """The operations of the tail that belong to user, capabilities and program, in the order of the timetable."""
    ctx = Ctx({"meta": {}, **(plans or {})}, config={"process": process})
    node = {"/process/" + key: value for key, value in process.items()}

    def take(part, *keys):
        return part.plan({"/process/" + key: node["/process/" + key] for key in keys if "/process/" + key in node}, ctx)

    who = ctx.plans["user"] = take(user, "user")
    sets = take(capabilities, "capabilities", "noNewPrivileges")
    what = ctx.plans["program"] = program.plan(
        {"/process/args": process.get("args", ["/bin/cat", "/proc/self/status"]), "/process/cwd": process.get("cwd", "/"),
         "/process/env": process.get("env", ["PATH=/usr/bin:/bin"])}, ctx,
    )  # fmt: skip
    run = Run(ctx.plans, {"command": "exec"}, root_fd=os.open("/", os.O_PATH | os.O_CLOEXEC), **more)
    ops = (
        program.op_chdir(what, run), capabilities.op_bound(sets, run), user.op_ids(who, run), capabilities.op_caps(sets, run),
        program.op_chdir_again(what, run), capabilities.op_nnp(sets, run), program.op_find(what, run), user.op_umask(who, run),
        ("RESET",), ("CLOSE", b""), program.op_exec(what, run),
    )  # fmt: skip
    os.close(run.root_fd)
    return tuple(op for op in ops if op), ctx.plans


def status(process, **kw):
    """/proc/self/status of the program."""
    ops, plans = ops_of(process)
    made = tail.Tail(ops, **kw)
    record = made.record()
    text = made.output().decode()
    code = made.status()
    assert record is None, sentence(record, plans)
    assert code == 0, made.errors()
    return text


def sentence(record, plans):
    given = (b"F", _syscalls.OPS.index(record.op), record.detail, record.errno, record.extra, record.call.encode())
    return program.failure(given, plans)


def failure(process, plans=None, **kw):
    ops, plans = ops_of(process, plans)
    made = tail.Tail(ops, **kw)
    record = made.record()
    assert record is not None, made.output()
    made.status()
    return sentence(record, plans)


# ---- ids and rights


def test_ids_are_exactly_those_given():
    """CVE-2022-36109 and others: groups of the caller must not be inherited, whatever they are."""
    text = status({"user": {"uid": 5, "gid": 6, "additionalGids": [7, 8], "umask": 0o27}}, prepare=lambda: os.setgroups([4, 27]))
    assert tail.field(text, "Uid").split() == ["5"] * 4
    assert tail.field(text, "Gid").split() == ["6"] * 4
    assert tail.field(text, "Groups").split() == ["7", "8"]
    assert tail.field(text, "Umask") == "0027"


def test_no_groups_means_none():
    text = status({"user": {"uid": 0, "gid": 0}}, prepare=lambda: os.setgroups([4, 27]))
    assert tail.field(text, "Groups") == "" and tail.field(text, "Umask") == "0022"


def test_kept_groups():
    made = tail.Tail(
        ops_of({"user": {"uid": 0, "gid": 0}}, {"meta": {"keep_groups": True}})[0], prepare=lambda: os.setgroups([4, 27])
    )  # fmt: skip
    assert made.record() is None
    assert tail.field(made.output().decode(), "Groups").split() == ["4", "27"]
    made.status()


@pytest.mark.parametrize("uid", [2147483648, 4294967294])
def test_large_ids_do_not_wrap(uid):
    """CVE-2024-40635."""
    text = status({"user": {"uid": uid, "gid": uid}})
    assert tail.field(text, "Uid").split() == [str(uid)] * 4


FIVE = {"bounding": "CapBnd", "effective": "CapEff", "permitted": "CapPrm", "inheritable": "CapInh", "ambient": "CapAmb"}


def seen_caps(sets, uid=0, nnp=False):
    text = status({"user": {"uid": uid, "gid": 0}, "capabilities": sets, "noNewPrivileges": nnp})
    assert tail.field(text, "NoNewPrivs") == str(int(nnp))
    return {name: caps.names(int(tail.field(text, FIVE[name]), 16)) for name in FIVE}


def test_without_capabilities_every_set_is_empty():
    assert seen_caps({}) == dict.fromkeys(FIVE, [])


def test_bounding_alone_gives_a_user_nothing():
    """CVE-2016-8867."""
    seen = seen_caps({"bounding": ["CAP_CHOWN", "CAP_NET_RAW"]}, 1000)
    assert seen == {**dict.fromkeys(FIVE, []), "bounding": ["CAP_CHOWN", "CAP_NET_RAW"]}


def test_sets_of_root_and_no_new_privileges():
    names = ["CAP_CHOWN", "CAP_KILL"]
    seen = seen_caps({"bounding": names, "effective": names[:1], "permitted": names}, nnp=True)
    assert seen["bounding"] == seen["permitted"] == names and seen["inheritable"] == seen["ambient"] == []


def test_ambient_reaches_a_users_program():
    names = ["CAP_NET_BIND_SERVICE", "CAP_NET_RAW"]
    sets = {name: names for name in ("bounding", "permitted", "effective")}
    seen = seen_caps({**sets, "inheritable": names[:1], "ambient": names}, 1000)
    assert seen["ambient"] == seen["effective"] == seen["inheritable"] == names[:1]


def test_signals_have_their_default_dispositions():
    text = status({"user": {"uid": 0, "gid": 0}}, prepare=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    assert {tail.field(text, name) for name in ("SigIgn", "SigBlk", "SigCgt")} == {"0" * 16}


def test_environment_and_home(tmp_path):
    made = tail.Tail(ops_of({"args": ["env"], "env": ["A=1", "PATH=/usr/bin:/bin", "A=2", "HOME="], "user": {"uid": 0, "gid": 0}})[0])
    assert made.record() is None
    assert made.output().decode().splitlines() == ["PATH=/usr/bin:/bin", "A=2", "HOME=/root"]
    made.status()


# ---- programs and directories that do not exist


@pytest.fixture
def odd(tmp_path):
    """Files that cannot be executed."""
    for name, text, mode in (("plain", "x", 0o644), ("garbage", "\0\1", 0o755), ("lost", "#!/no/interpreter\n", 0o755)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    (tmp_path / "loop").write_text("#!%s/loop\n" % tmp_path)
    (tmp_path / "loop").chmod(0o755)
    (tmp_path / "closed").mkdir(0o700)
    os.chown(tmp_path / "closed", 5, 5)
    return str(harness.open_to_all(tmp_path))


@pytest.mark.parametrize(
    ("args", "env", "words"),
    [
        (["nosuch"], ["PATH=/usr/bin:/bin"], 'exec: "nosuch": executable file not found in $PATH'),
        (["cat"], [], 'exec: "cat": executable file not found in $PATH'),
        (["cat"], ["PATH="], 'exec: "cat": executable file not found in $PATH'),
        (["/no/such/file"], [], 'exec: "/no/such/file": stat /no/such/file: no such file or directory'),
        (["/etc/passwd"], [], 'exec: "/etc/passwd": permission denied'),
        (["/tmp"], [], 'exec: "/tmp": is a directory'),
        (["/etc/passwd/x"], [], 'exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory'),
        (["%s/plain"], [], 'exec: "%s/plain": permission denied'),
        (["plain"], ["PATH=%s"], 'exec: "plain": permission denied'),
        (["%s/garbage"], [], "exec %s/garbage: exec format error"),
        (["%s/lost"], [], "exec %s/lost: no such file or directory"),
        (["%s/loop"], [], "exec %s/loop: too many levels of symbolic links"),
    ],
)
def test_programs_that_cannot_be_executed(odd, args, env, words):
    place = lambda text: text.replace("%s", odd)  # noqa: E731
    e = failure({"args": list(map(place, args)), "env": list(map(place, env)), "user": {"uid": 1000, "gid": 0}})
    assert (e.words, e.pointer) == (place(words), "/process/args/0")


def weaken():
    """Makes root lack CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, as it does on NFS and FUSE."""
    effective, permitted, inheritable = _syscalls.capget(0)
    tail.capset(effective & ~0b110, permitted, inheritable)


@pytest.mark.parametrize(
    ("cwd", "words"),
    [
        ("/no/such", "no such file or directory"),
        ("/etc/passwd", "not a directory"),
        ("%s/closed", "permission denied"),
    ],
)
def test_invalid_working_directories(odd, cwd, words):
    cwd = cwd.replace("%s", odd)
    none = {"capabilities": {}, "user": {"uid": 1000, "gid": 1000}, "cwd": cwd}
    e = failure(none, prepare=weaken)
    assert e.words == 'chdir to cwd ("%s") set in config.json failed: %s' % (cwd, words)
    assert e.pointer == "/process/cwd"


def test_a_directory_that_only_the_user_may_enter(tmp_path):
    """NFS with root squash, FUSE: chdir fails as root and works as the user."""
    home = tmp_path / "home"
    home.mkdir(0o700)
    os.chown(home, 1000, 1000)
    harness.open_to_all(tmp_path)
    ops, _plans = ops_of({"args": ["/bin/pwd"], "cwd": str(home), "user": {"uid": 1000, "gid": 1000}})
    made = tail.Tail(ops, prepare=weaken)
    assert made.record() is None
    assert made.output().decode().strip() == str(home)
    made.status()


def test_a_working_directory_outside_of_the_root(tmp_path):
    """CVE-2024-21626: through a descriptor that leads out of it, whatever path leads to the descriptor."""
    (tmp_path / "proc").mkdir()
    outside = os.open("/etc", os.O_PATH)
    os.symlink("/proc/self/fd/%d" % outside, tmp_path / "way")
    root = os.open(tmp_path, os.O_PATH)

    def enter():
        _syscalls.unshare(constants.CLONE_NEWNS)
        _syscalls.mount(None, "/", None, constants.MS_PRIVATE | constants.MS_REC, None)
        _syscalls.mount("proc", str(tmp_path / "proc"), "proc", 0, None)
        os.set_inheritable(outside, True)
        os.chroot(tmp_path)
        os.chdir("/")

    ops, plans = ops_of({"cwd": "/way", "user": {"uid": 0, "gid": 0}})
    made = tail.Tail(ops, prepare=enter)
    e = sentence(made.record(), plans)
    made.status()
    assert e.words.endswith("-- possible container breakout detected") and e.pointer == "/process/cwd"
    os.close(outside)
    os.close(root)


def test_a_missing_directory_is_created_inside_the_root(tmp_path):
    (tmp_path / "link").symlink_to("/made")
    (tmp_path / "file").write_text("")
    root = os.open(tmp_path, os.O_PATH)
    run = Run(root_fd=root)
    umask = os.umask(0o077)
    try:
        program.init_make_cwd({"cwd": "/../link/a/b", "make_cwd": True}, run)
        program.init_make_cwd({"cwd": "/made/a/b", "make_cwd": True}, run)
        program.init_make_cwd({"cwd": "/not/this", "make_cwd": False}, run)
        with pytest.raises(StepFailure) as caught:
            program.init_make_cwd({"cwd": "/file/x", "make_cwd": True}, run)
    finally:
        os.umask(umask)
        os.close(root)
    assert (tmp_path / "made/a/b").stat().st_mode & 0o777 == 0o755 and (tmp_path / "made").stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "not").exists()
    assert caught.value.words == 'chdir to cwd ("/file/x") set in config.json failed: not a directory'


# ---- user namespaces

OUTER = 100000


def in_userns(function, maps=((0, OUTER, 1000),), deny=False):
    """Runs function(run) in a child of clone3(CLONE_NEWUSER) whose maps are written before it continues."""
    entry = {**namespaces("user"), "flags": constants.CLONE_NEWUSER}
    run = Run(plans={"namespaces": entry}, clone_flags=constants.CLONE_NEWUSER, cgroup_fd=-1, joined_ns=(), time_offsets=None)
    made = staged.init(run, lambda _run: None, function)
    try:
        made.go()
        text = "".join("%d %d %d\n" % row for row in maps)
        if deny:
            write("/proc/%d/setgroups" % made.pid, "deny")
        write("/proc/%d/uid_map" % made.pid, text)
        write("/proc/%d/gid_map" % made.pid, text)
        return made.go()
    finally:
        made.end()


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def become_root(run):
    who = user.plan({"/process/user": {"uid": 0, "gid": 0}}, Ctx(run.plans))
    user.init_become_root(who, run)
    return who


def test_init_becomes_root_of_its_user_namespace():
    def look(run):
        become_root(run)
        fields = run.proc.read("self/status").decode()
        return [
            list(os.getresuid()),
            list(os.getresgid()),
            os.getgroups(),
            fields.count("CapEff:\t000001ffffffffff"),
            sorted(map(str, run.proc._fds)),
        ]

    assert in_userns(look) == [[0] * 3, [0] * 3, [], 1, ["pid"]]


def test_setgroups_denied_in_the_user_namespace():
    def look(run):
        who = become_root(run)
        with pytest.raises(StepFailure, match="cannot set any additional groups in a rootless container"):
            user.op_ids({**who, "groups": [1]}, run)
        return list(user.op_ids(who, run))

    assert in_userns(look, deny=True) == ["IDS", 0, 0, None]


def test_ids_without_a_mapping_are_named():
    """A plan can't know this about a namespace that is joined; the kernel reports it at the end."""

    def enter():
        _syscalls.unshare(constants.CLONE_NEWUSER)

    for who, words in (
        ({"uid": 9, "gid": 0}, "cannot setgid to unmapped gid 0 in user namespace"),
        ({"uid": 9, "gid": 0, "additionalGids": [1]}, "unable to set the ids: operation not permitted"),
    ):
        ops, plans = ops_of({"user": who})
        ids = next(op for op in ops if op[0] == "IDS")
        ops = tuple(("IDS", *op[1:3], op[3] or None) if op is ids else op for op in ops if op[0] != "BOUND")
        made = tail.Tail(ops, prepare=enter)
        assert sentence(made.record(), plans).words == words
        made.status()


def test_ids_are_translated_by_the_map_of_another_process():
    entry = {**namespaces("user"), "flags": constants.CLONE_NEWUSER}
    run = Run(plans={"namespaces": entry}, clone_flags=constants.CLONE_NEWUSER, cgroup_fd=-1, joined_ns=(), time_offsets=None)
    made = staged.init(run, lambda _run: None)
    try:
        made.go()
        write("/proc/%d/uid_map" % made.pid, "0 100000 10\n20 7 1\n")
        assert [ids.outer_uid(made.pid, uid) for uid in (0, 9, 10, 20, 4294967294)] == [100000, 100009, None, 7, None]
    finally:
        made.end()


def test_ids_of_our_own_user_namespace_need_no_map():
    """Read from inside, the map shows ids of the parent namespace: 0 for our 7."""
    pid = os.fork()
    if pid == 0:
        _syscalls.unshare(constants.CLONE_NEWUSER)
        write("/proc/self/uid_map", "7 0 1\n")
        os._exit(0 if (os.getuid(), ids.outer_uid(os.getpid(), 7)) == (7, 7) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# ---- keyring


OWN = "_ses.pt%d-" % os.getpid()  # of names of keyrings that only this run uses: others on the machine have keyrings too


def joined(name, uid=None, userns=False):
    if uid is not None:
        os.setresuid(uid, uid, uid)
    keyring.init_join({"label": None, "userns": userns}, Run(state_dir=SimpleNamespace(state={"keyring": name})))
    return _syscalls.keyctl_describe(_syscalls.keyctl(0, (1 << 32) - 3, 0)).decode()  # KEYCTL_GET_KEYRING_ID, the session's


def test_a_new_session_keyring():
    before = _syscalls.keyctl(0, (1 << 32) - 3, 0)
    kind, uid, _gid, permissions, name = staged.apart(lambda: joined(OWN + "new")).split(";")
    assert (kind, uid, name) == ("keyring", "0", OWN + "new")
    assert int(permissions, 16) == 0x3F080000  # others: nothing; the user: search
    assert _syscalls.keyctl(0, (1 << 32) - 3, 0) == before


def test_in_a_user_namespace_others_may_search():
    assert int(staged.apart(lambda: joined(OWN + "userns", userns=True)).split(";")[3], 16) & 0xFF == 0x08


def test_a_keyring_that_another_user_created_first():
    """A user of the host creates a keyring with the container's name and lets everyone search it: root would join that one."""

    name = OWN + "taken"

    def squat():
        os.setresuid(4321, 4321, 4321)
        serial = _syscalls.join_session_keyring(name)
        _syscalls.keyctl(5, serial, 0x3F3F3F3F)

    def victim():
        with pytest.raises(StepFailure, match="a session keyring %s of uid 4321 exists already" % name):
            joined(name)
        return True

    squatter = staged.child(squat)
    try:
        squatter.go()
        assert staged.apart(victim) is True
    finally:
        squatter.end()


def test_keyring_label_is_reset():
    """Without SELinux keycreate accepts no label; it fails before a keyring is created."""
    run = Run(proc=proc.Proc(), state_dir=SimpleNamespace(state={"keyring": OWN + "label"}))
    with pytest.raises(OSError) as caught:
        keyring.init_join({"label": "a:b:c:s0", "userns": False}, run)
    assert caught.value.filename == "/proc/thread-self/attr/keycreate"
    run.proc.close()  # type: ignore[attr-defined]
