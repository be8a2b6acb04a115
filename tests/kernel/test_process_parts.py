"""The parts of /process and the small ones of /linux against the kernel: what a child is after their verbs, and what they say when
the kernel refuses."""

import ctypes
import os
import platform
import resource
import signal
import socket
from types import SimpleNamespace

import pytest

import staged
import tail
from fakes.hand import Ctx, Run, namespaces
from pyrunc.errors import Refusal, StepFailure
from pyrunc.linux import _syscalls, caps, constants, ids, ns, proc
from pyrunc.parts import (
    capabilities,
    keyring,
    labels,
    mempolicy,
    oom,
    personality,
    program,
    rlimits,
    scheduling,
    sysctls,
    user,
    uts,
)  # fmt: skip

pytestmark = pytest.mark.kernel
HAS_RESOURCE = bool(caps.effective() >> caps.SYS_RESOURCE & 1)


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
        ("RESET",), ("CLOSE", 0), program.op_exec(what, run),
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
    """CVE-2022-36109 and others: groups of the caller must not come along, whatever they are."""
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


def test_signals_are_as_if_nobody_had_touched_them():
    text = status({"user": {"uid": 0, "gid": 0}}, prepare=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    assert {tail.field(text, name) for name in ("SigIgn", "SigBlk", "SigCgt")} == {"0" * 16}


def test_environment_and_home(tmp_path):
    made = tail.Tail(ops_of({"args": ["env"], "env": ["A=1", "PATH=/usr/bin:/bin", "A=2", "HOME="], "user": {"uid": 0, "gid": 0}})[0])
    assert made.record() is None
    assert made.output().decode().splitlines() == ["PATH=/usr/bin:/bin", "A=2", "HOME=/root"]
    made.status()


# ---- programs and directories that are not there


@pytest.fixture
def odd(tmp_path):
    """Programs that cannot be one."""
    for name, text, mode in (("plain", "x", 0o644), ("garbage", "\0\1", 0o755), ("lost", "#!/no/interpreter\n", 0o755)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    (tmp_path / "loop").write_text("#!%s/loop\n" % tmp_path)
    (tmp_path / "loop").chmod(0o755)
    (tmp_path / "closed").mkdir(0o700)
    os.chown(tmp_path / "closed", 5, 5)
    tmp_path.chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("args", "env", "words"),
    [
        (["nosuch"], ["PATH=/usr/bin:/bin"], 'exec: "nosuch": executable file not found in $PATH'),
        (["cat"], [], 'exec: "cat": executable file not found in $PATH'),
        (["cat"], ["PATH="], 'exec: "cat": executable file not found in $PATH'),
        (["/nonexist"], [], 'exec: "/nonexist": stat /nonexist: no such file or directory'),
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
def test_what_cannot_be_executed(odd, args, env, words):
    place = lambda text: text.replace("%s", odd)  # noqa: E731
    e = failure({"args": list(map(place, args)), "env": list(map(place, env)), "user": {"uid": 1000, "gid": 0}})
    assert (e.words, e.pointer) == (place(words), "/process/args/0")


def weaken():
    """Root without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, as NFS and FUSE treat it."""
    effective, permitted, inheritable = _syscalls.capget(0)
    _syscalls.capset(effective & ~0b110, permitted, inheritable)


@pytest.mark.parametrize(
    ("cwd", "words"),
    [
        ("/no/such", "no such file or directory"),
        ("/etc/passwd", "not a directory"),
        ("%s/closed", "permission denied"),
    ],
)
def test_where_nobody_can_start(odd, cwd, words):
    cwd = cwd.replace("%s", odd)
    none = {"capabilities": {}, "user": {"uid": 1000, "gid": 1000}, "cwd": cwd}
    e = failure(none, prepare=weaken)
    assert e.words == 'chdir to cwd ("%s") set in config.json failed: %s' % (cwd, words)
    assert e.pointer == "/process/cwd"


def test_a_directory_that_only_the_user_may_enter(tmp_path):
    """NFS with root squash, FUSE: chdir as root fails, as the user it works."""
    home = tmp_path / "home"
    home.mkdir(0o700)
    os.chown(home, 1000, 1000)
    for folder in tmp_path.parents:
        if str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    tmp_path.chmod(0o755)
    ops, _plans = ops_of({"args": ["/bin/pwd"], "cwd": str(home), "user": {"uid": 1000, "gid": 1000}})
    made = tail.Tail(ops, prepare=weaken)
    assert made.record() is None
    assert made.output().decode().strip() == str(home)
    made.status()


def test_a_working_directory_outside_of_the_root(tmp_path):
    """CVE-2024-21626: by a descriptor that leads out of it, whatever name leads to the descriptor."""
    os.symlink("/proc/self/fd/77", tmp_path / "way")
    (tmp_path / "proc").mkdir()
    outside = os.open("/etc", os.O_PATH)
    root = os.open(tmp_path, os.O_PATH)

    def enter():
        os.unshare(constants.CLONE_NEWNS)
        _syscalls.mount(None, "/", None, constants.MS_PRIVATE | constants.MS_REC, None)
        _syscalls.mount("proc", str(tmp_path / "proc"), "proc", 0, None)
        os.dup2(outside, 77)
        os.chroot(tmp_path)
        os.chdir("/")

    ops, plans = ops_of({"cwd": "/way", "user": {"uid": 0, "gid": 0}})
    made = tail.Tail(ops, prepare=enter)
    e = sentence(made.record(), plans)
    made.status()
    assert e.words.endswith("-- possible container breakout detected") and e.pointer == "/process/cwd"
    os.close(outside)
    os.close(root)


def test_a_missing_directory_is_made_inside_the_root(tmp_path):
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
    """function(run) in a child of clone3(CLONE_NEWUSER) whose maps are written before it goes on."""
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
    """What a plan can't know of a namespace that is joined, the kernel says at the end."""

    def enter():
        os.unshare(constants.CLONE_NEWUSER)

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


# ---- keyring


def joined(name, uid=None, userns=False):
    if uid is not None:
        os.setresuid(uid, uid, uid)
    keyring.init_join({"name": name, "label": None, "userns": userns}, Run())
    return _syscalls.keyctl_describe(_syscalls.keyctl(0, (1 << 32) - 3, 0)).decode()  # KEYCTL_GET_KEYRING_ID, the session's


def test_a_session_keyring_of_its_own():
    before = _syscalls.keyctl(0, (1 << 32) - 3, 0)
    kind, uid, _gid, permissions, name = staged.apart(lambda: joined("_ses.t1")).split(";")
    assert (kind, uid, name) == ("keyring", "0", "_ses.t1")
    assert int(permissions, 16) & 0xFF == 0 and int(permissions, 16) & 0x080000  # others: nothing; the user: search
    assert _syscalls.keyctl(0, (1 << 32) - 3, 0) == before


def test_in_a_user_namespace_others_may_search():
    assert int(staged.apart(lambda: joined("_ses.t2", userns=True)).split(";")[3], 16) & 0xFF == 0x08


def test_a_keyring_that_somebody_else_laid_out():
    """A user of the host makes a keyring with the container's name and lets everybody search it: root would join that one."""

    def squat():
        os.setresuid(4321, 4321, 4321)
        serial = _syscalls.join_session_keyring("_ses.t3")
        _syscalls.keyctl(5, serial, 0x3F3F3F3F)

    def victim():
        with pytest.raises(StepFailure, match="a session keyring _ses.t3 of uid 4321 is there already"):
            joined("_ses.t3")
        return True

    squatter = staged.child(squat)
    try:
        squatter.go()
        assert staged.apart(victim) is True
    finally:
        squatter.end()


def test_keyring_label_is_taken_back():
    """Without SELinux there is no keycreate that takes a label; the failure comes before a keyring is made."""
    run = Run(proc=proc.Proc())
    with pytest.raises(OSError) as caught:
        keyring.init_join({"name": "_ses.t4", "label": "a:b:c:s0", "userns": False}, run)
    assert caught.value.filename == "/proc/thread-self/attr/keycreate"
    run.proc.close()


# ---- set from outside on a process that waits


@pytest.fixture
def waiting():
    """A child that waits; its one step reports what function it was given."""
    made = []

    def make(function=lambda: None):
        one = staged.child(lambda: None, function)
        one.go()
        made.append(one)
        return one

    yield make
    for one in made:
        one.end()


def limits(*rows):
    return {"/process/rlimits": [{"type": "RLIMIT_" + name, "soft": soft, "hard": hard} for name, soft, hard in rows]}


def test_limits_however_small_are_the_programs(waiting):
    small = ("AS", "NPROC", "FSIZE", "CPU", "STACK", "NOFILE", "CORE", "DATA", "RSS", "MEMLOCK", "LOCKS", "SIGPENDING", "RTTIME")
    one = waiting(lambda: None)
    entry = rlimits.plan(limits(*((name, 0, 1) for name in small if name != "CPU"), ("CPU", 100, 200)), Ctx())
    rlimits.host_apply(entry, SimpleNamespace(pid=one.pid))
    for name in small:
        expected = (100, 200) if name == "CPU" else (0, 1)
        assert _syscalls.prlimit(one.pid, rlimits.NUMBERS["RLIMIT_" + name], None, None) == expected


def test_a_limit_that_the_kernel_refuses(waiting):
    one = waiting()
    resource.prlimit(one.pid, resource.RLIMIT_CORE, (0, 10))
    entry = {"list": [["RLIMIT_CPU", 0, 5, 50, 0], ["RLIMIT_CORE", 4, 5, 50, 1]]}
    if HAS_RESOURCE:
        pytest.skip("this machine gives CAP_SYS_RESOURCE, so the kernel raises limits")
    with pytest.raises(StepFailure) as caught:
        rlimits.host_apply(entry, SimpleNamespace(pid=one.pid))
    e = caught.value
    assert (e.words, e.pointer) == ("error setting rlimit type 4: operation not permitted", "/process/rlimits/1")
    assert "5:50" in e.hint and "10" in e.hint


def test_oom_score(waiting):
    one = waiting()
    oom.host_write({"value": 500}, SimpleNamespace(pid=one.pid))
    with open("/proc/%d/oom_score_adj" % one.pid) as f:
        assert f.read() == "500\n"
    if HAS_RESOURCE:
        return
    with pytest.raises(StepFailure) as caught:
        oom.host_write({"value": -1000}, SimpleNamespace(pid=one.pid))
    e = caught.value
    assert e.words == "oomScoreAdj -1000 is lower than this host lets us set it" and e.errno == 13
    assert not any(word in e.sentence().lower() for word in ("permission denied", "not permitted"))


def test_affinity_is_given_back_to_init(waiting):
    one = waiting()
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(one.pid, {min(every)})
    entry = scheduling.plan({}, Ctx())
    scheduling.host_affinity(entry, SimpleNamespace(pid=one.pid))
    assert os.sched_getaffinity(one.pid) == every


def test_affinity_of_exec(waiting):
    first = min(os.sched_getaffinity(0))
    one = waiting()
    run = SimpleNamespace(pid=one.pid)

    def entry(**lists):
        return scheduling.plan({"/process/execCPUAffinity": lists}, Ctx(options={"command": "exec"}))

    scheduling.host_affinity(entry(final=str(first)), run)
    assert os.sched_getaffinity(one.pid) == {first}
    scheduling.host_affinity(entry(initial=str(first)), run)  # initial alone: left as it is
    assert os.sched_getaffinity(one.pid) == {first}
    scheduling.host_affinity(entry(), run)
    assert os.sched_getaffinity(one.pid) == os.sched_getaffinity(0)

    def initial():
        scheduling.exec_initial(entry(initial=str(first)), Run())
        return list(os.sched_getaffinity(0))

    assert staged.apart(initial) == [first]


def test_affinity_to_a_processor_that_is_not_there(waiting, monkeypatch):
    monkeypatch.setattr(scheduling, "_possible", lambda: 8192)
    entry = scheduling.plan({"/process/execCPUAffinity": {"final": "4000-4100"}}, Ctx(options={"command": "exec"}))
    with pytest.raises(StepFailure) as caught:
        scheduling.host_affinity(entry, SimpleNamespace(pid=waiting().pid))
    assert (caught.value.pointer, caught.value.errno) == ("/process/execCPUAffinity/final", 22)


# ---- set in init


def scheduled(node, look):
    entry = scheduling.plan(node, Ctx())

    def inside():
        scheduling.init_set(entry, Run())
        return look()

    return staged.apart(inside)


@pytest.mark.parametrize(
    ("value", "policy", "nice", "priority"),
    [
        ({"policy": "SCHED_OTHER", "nice": 5}, 0, 5, 0),
        ({"policy": "SCHED_BATCH", "nice": -3}, 3, -3, 0),
        ({"policy": "SCHED_FIFO", "priority": 7}, 1, 0, 7),
        ({"policy": "SCHED_RR", "priority": 9, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, 2, 0, 9),
        ({"policy": "SCHED_IDLE"}, 5, 0, 0),
        ({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 20_000_000}, 6, 0, 0),
    ],
)
def test_schedulers(value, policy, nice, priority):
    try:
        seen = scheduled({"/process/scheduler": value}, lambda: list(_syscalls.sched_getattr(0)))
    except AssertionError as e:
        if policy in (1, 2) and "sched_setattr" in str(e) and "operation not permitted" in str(e):
            pytest.skip("this machine's cgroup has no real-time runtime (CONFIG_RT_GROUP_SCHED)")
        raise
    assert (seen[0], seen[3]) == (policy, priority)
    if policy in (0, 3):
        assert seen[2] == nice
    if policy == 6:
        assert seen[4:7] == [1_000_000, 10_000_000, 20_000_000]


def test_a_scheduler_that_is_refused_names_the_cpuset():
    def inside():
        _syscalls.capset(0, 0, 0)
        entry = scheduling.plan({"/process/scheduler": {"policy": "SCHED_FIFO", "priority": 99}}, Ctx())
        seen = []
        for config in ({}, {"linux": {"resources": {"cpu": {"cpus": "0"}}}}):
            with pytest.raises(StepFailure) as caught:
                scheduling.init_set(entry, Run(config=config))
            seen.append([caught.value.words, caught.value.pointer])
        return seen

    assert staged.apart(inside) == [
        ["error setting scheduler: operation not permitted", "/process/scheduler"],
        ["process scheduler can't be used together with AllowedCPUs", "/process/scheduler"],
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"class": "IOPRIO_CLASS_BE", "priority": 6}, 2 << 13 | 6),
        ({"class": "IOPRIO_CLASS_IDLE"}, 3 << 13),
        ({"class": "IOPRIO_CLASS_RT", "priority": 1}, 1 << 13 | 1),
    ],
)
def test_io_priority(value, expected):
    assert scheduled({"/process/ioPriority": value}, lambda: _syscalls.ioprio_get(1, 0)) == expected


def test_io_priority_refused():
    def inside():
        _syscalls.capset(0, 0, 0)
        entry = scheduling.plan({"/process/ioPriority": {"class": "IOPRIO_CLASS_RT"}}, Ctx())
        with pytest.raises(StepFailure) as caught:
            scheduling.init_set(entry, Run())
        return [caught.value.words, caught.value.pointer]

    assert staged.apart(inside) == ["error setting ioPriority: operation not permitted", "/process/ioPriority"]


def test_scheduling_of_an_execed_process_is_set_from_outside(waiting):
    one = waiting()
    entry = scheduling.plan(
        {"/process/scheduler": {"policy": "SCHED_BATCH", "nice": 2}, "/process/ioPriority": {"class": "IOPRIO_CLASS_IDLE"}}, Ctx()
    )
    scheduling.exec_set(entry, Run(pid=one.pid))
    assert _syscalls.sched_getattr(one.pid)[:3:2] == (3, 2) and _syscalls.ioprio_get(1, one.pid) == 3 << 13


@pytest.mark.parametrize("domain", ["LINUX32", "LINUX"])
def test_personality(domain):
    def inside():
        personality.init_set(personality.plan({"/linux/personality": {"domain": domain}}, Ctx()), Run())
        return os.uname().machine

    machine = {"x86_64": "i686", "aarch64": "armv8l"}.get(platform.machine(), platform.machine())
    assert staged.apart(inside) == (machine if domain == "LINUX32" else platform.machine())


@pytest.mark.parametrize(
    ("value", "mode", "mask"),
    [
        ({"mode": "MPOL_DEFAULT"}, 0, 0),
        ({"mode": "MPOL_PREFERRED"}, 4, 0),
        ({"mode": "MPOL_BIND", "nodes": "0"}, 2, 1),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, 2 | 1 << 15, 1),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0-3", "flags": ["MPOL_F_RELATIVE_NODES"]}, 3 | 1 << 14, 15),
        ({"mode": "MPOL_LOCAL"}, 4, 0),
        ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}, 5, 1),
        ({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}, 6, 1),
    ],
)
def test_memory_policy(value, mode, mask):
    entry = mempolicy.plan({"/linux/memoryPolicy": value}, Ctx())

    def inside():
        mempolicy.init_set(entry, Run())
        got, nodes = _syscalls.get_mempolicy()
        return [got, nodes[0]]

    try:
        assert staged.apart(inside) == [mode, mask]
    except AssertionError as e:
        if "ENOSYS" in str(e) or "function not implemented" in str(e):
            pytest.skip("this machine's kernel is built without CONFIG_NUMA")
        raise


def test_memory_policy_refused():
    with pytest.raises(AssertionError, match="unable to set memory policy: (invalid argument|function not implemented)"):
        staged.apart(lambda: mempolicy.init_set({"mode": 2, "nodes": [[700, 700]]}, Run()))


# ---- names and settings of namespaces


def in_namespaces(*names):
    """A child's first act."""
    os.unshare(sum(ns.FLAGS[name] for name in names))


def test_host_and_domain_name():
    before = os.uname().nodename
    long = "h" * 64
    entry = uts.plan({"/hostname": long, "/domainname": "dömäin"}, Ctx({"namespaces": namespaces("uts")}))

    def inside():
        in_namespaces("uts")
        uts.init_set(entry, Run())
        with open("/proc/sys/kernel/domainname") as f:
            return [socket.gethostname(), f.read()]

    assert staged.apart(inside) == [long, "dömäin\n"]
    assert os.uname().nodename == before


def test_settings_reach_the_namespace_and_nothing_else():
    given = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "123", "net/ipv4/ping_group_range": "0 0", "fs.mqueue.msg_max": "77"}
    entry = sysctls.plan({"/linux/sysctl": given}, Ctx({"namespaces": namespaces("network", "ipc")}))
    names = [path for _name, path, _value in entry["list"]]

    def values():
        made = proc.Proc()
        return [made.read("sys/" + name).decode().split() for name in names]

    def inside():
        in_namespaces("network", "ipc")
        os.unshare(constants.CLONE_NEWNS)  # a /proc/sys that the container shaped
        _syscalls.mount(None, "/", None, constants.MS_PRIVATE | constants.MS_REC, None)
        _syscalls.mount("tmpfs", "/proc/sys", "tmpfs", 0, None)
        run = Run(proc=proc.Proc())
        sysctls.init_write(entry, run)
        assert os.listdir("/proc/sys") == []
        return values()

    before = values()
    assert staged.apart(inside) == [["1"], ["123"], ["0", "0"], ["77"]]
    assert values() == before


def test_settings_are_not_written_on_the_host():
    entry = sysctls.plan({"/linux/sysctl": {"net.ipv4.ip_forward": "1"}}, Ctx({"namespaces": namespaces("network")}))
    run = Run(proc=proc.Proc())
    with pytest.raises(StepFailure, match="the network namespace is still the caller's"):
        sysctls.init_write(entry, run)
    run.proc.close()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("net.no.such", "1", 'sysctl "net.no.such": there is no such setting in this kernel, or not in this namespace'),
        ("net.ipv4.ip_forward", "banana", 'sysctl "net.ipv4.ip_forward": the kernel refuses the value "banana": invalid argument'),
        ("net.ipv4", "1", 'sysctl "net.ipv4": writing "1": is a directory'),
    ],
)
def test_settings_that_the_kernel_refuses(name, value, words):
    entry = sysctls.plan({"/linux/sysctl": {name: value}}, Ctx({"namespaces": namespaces("network")}))

    def inside():
        in_namespaces("network")
        with pytest.raises(StepFailure) as caught:
            sysctls.init_write(entry, Run(proc=proc.Proc()))
        return [caught.value.words, caught.value.pointer]

    assert staged.apart(inside) == [words, "/linux/sysctl/" + name]


# ---- labels


def test_labels_on_a_kernel_without_them_are_fatal():
    """The plan asks the probe; a verb that is reached all the same still fails."""
    run = Run(proc=proc.Proc())
    if os.path.isdir("/sys/kernel/security/apparmor") or os.path.isdir("/sys/fs/selinux/class"):
        pytest.skip("this machine has a security module in charge")
    for entry in ({"apparmor": "docker-default"}, {"selinux": "a:b:c:s0"}):
        with pytest.raises(StepFailure, match="write to `/proc/thread-self/attr/"):
            labels.init_exec(entry, run)
    run.proc.close()


def test_the_path_of_a_label_for_exec():
    run = Run(proc=proc.Proc())
    op = labels.exec_op({"selinux": "a:b:c:s0"}, run)
    assert op == ("WRITE", run.proc.directory(), "thread-self/attr/exec", b"a:b:c:s0")
    assert labels.exec_op({"mount": "x"}, run) is None
    assert labels.exec_op({"apparmor": "p"}, run)[3] == b"exec p"
    run.proc.close()


def test_this_process_is_as_before():
    """The children did it all."""
    assert ctypes.CDLL(None).personality(0xFFFFFFFF) == 0 and os.geteuid() == 0
    with pytest.raises(Refusal):
        oom.plan({"/process/oomScoreAdj": 1001}, Ctx())
