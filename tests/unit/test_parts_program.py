"""program: args, cwd, env; HOME; and the error sentences for failures of finish()."""

import os
import posix

import pytest

from fakes.hand import Ctx, Run
from pyrunc.errors import Refusal
from pyrunc.linux import _syscalls
from pyrunc.parts import program

NOT_TEXT = "\ud800"


def plan(args=("/bin/true",), cwd="/", env=(), plans=None, **options):
    node = {"/process/args": list(args), "/process/cwd": cwd, "/process/env": list(env)}
    return program.plan(node, Ctx(plans, options))


def refused(**changes):
    node = {"/process/args": ["/bin/true"], "/process/cwd": "/", "/process/env": []}
    for key, value in changes.items():
        node["/process/" + key] = value
        if value is None:
            del node["/process/" + key]
    with pytest.raises(Refusal) as caught:
        program.plan(node, Ctx())
    return caught.value


@pytest.mark.parametrize(
    ("changes", "words", "pointer"),
    [
        ({"args": None}, "args must not be empty", "/process/args"),
        ({"args": []}, "args must not be empty", "/process/args"),
        ({"args": [""]}, 'exec: "": executable file not found in $PATH', "/process/args/0"),
        ({"args": ["a", "b\0c"]}, "contains nul byte", "/process/args/1"),
        ({"args": ["a", NOT_TEXT]}, "lone surrogate", "/process/args/1"),
        ({"cwd": None}, "Cwd property must not be empty", "/process/cwd"),
        ({"cwd": ""}, "Cwd property must not be empty", "/process/cwd"),
        ({"cwd": "tmp"}, "Cwd must be an absolute path", "/process/cwd"),
        ({"cwd": "/\0etc"}, "contains nul byte", "/process/cwd"),
        ({"cwd": "/" + NOT_TEXT}, "lone surrogate", "/process/cwd"),
        ({"cwd": "/a" * 3000}, "longer than the kernel takes", "/process/cwd"),
        ({"cwd": "/" + "a" * 256}, "longer than the kernel takes", "/process/cwd"),
        ({"cwd": "/proc/self/fd/7"}, "leads through an open file", "/process/cwd"),
        ({"cwd": "//proc/./self/../self/fd/7"}, "leads through an open file", "/process/cwd"),
        ({"cwd": "/proc/thread-self/cwd"}, "leads through an open file", "/process/cwd"),
        ({"cwd": "/proc/1/task/1/root/etc"}, "leads through an open file", "/process/cwd"),
        ({"cwd": "/dev/fd/3"}, "leads through an open file", "/process/cwd"),
        ({"env": ["NOEQ"]}, "invalid environment variable: missing '='", "/process/env/0"),
        ({"env": ["A=1", ""]}, "invalid environment variable: missing '='", "/process/env/1"),
        ({"env": ["=x"]}, "invalid environment variable: name cannot be empty", "/process/env/0"),
        ({"env": ["A=\0"]}, "contains nul byte", "/process/env/0"),
        ({"env": ["A=" + NOT_TEXT]}, "lone surrogate", "/process/env/0"),
        ({"args": ["x", "y" * 131072]}, "a string of 131072 bytes; one may have 131071", "/process/args/1"),
        ({"env": ["A=" + "y" * 131072]}, "a string of 131074 bytes", "/process/env"),
    ],
)
def test_refused(changes, words, pointer):
    e = refused(**changes)
    assert words in e.words and e.pointer == pointer


def test_no_process():
    with pytest.raises(Refusal) as caught:
        program.plan({}, Ctx(config={}, options={"command": "run"}))
    assert caught.value.sentence().startswith("process property must not be empty (/process)")
    assert program.plan({}, Ctx(config={})) is None, "create accepts it; start requires it"


@pytest.mark.parametrize("cwd", ["/", "/no/such", "/../..", "/proc", "/dev/fd", "/proc/self", "/a b/ü", "//x//", "/" + "a" * 255])
def test_cwd_accepted(cwd):
    entry = plan(cwd=cwd)
    assert entry["cwd"] == cwd and entry["make_cwd"] is True
    assert program.op_chdir(entry, None) == ("CHDIR", os.fsencode(cwd))
    assert program.op_chdir_again(entry, None) == ("CHDIR2", os.fsencode(cwd))
    assert plan(cwd=cwd, command="exec")["make_cwd"] is False


@pytest.mark.parametrize(
    ("env", "expected", "home"),
    [
        ([], [], True),
        (["A=1", "A=2"], ["A=2"], True),
        (["A=1", "B=1", "A=2"], ["B=1", "A=2"], True),
        (["HOME=/x"], ["HOME=/x"], False),
        (["HOME="], [], True),
        (["HOME=/x", "HOME="], [], True),
        (["A==", "B=\nx"], ["A==", "B=\nx"], True),
        (["ab=1", "AB=1"], ["ab=1", "AB=1"], True),
    ],
)
def test_env(env, expected, home):
    entry = plan(env=env)
    assert (entry["env"], entry["home"]) == (expected, home)


@pytest.mark.parametrize(("env", "path"), [([], None), (["PATH="], ""), (["PATH=/a", "PATH=/b:"], "/b:")])
def test_the_path_is_the_containers(env, path):
    entry = plan(["sh"], env=env)
    assert entry["path"] == path
    assert program.op_find(entry, None) == ("FIND", b"sh", None if path is None else path.encode())


def test_variables_that_the_runtime_adds():
    more = {"fds": {"keep": [3, 4], "listen": 2}, "notify": {"variable": "/run/notify/notify.sock"}}
    entry = plan(env=["LISTEN_FDS=9", "A=1", "NOTIFY_SOCKET=/host", "HOME=/"], plans=more)
    assert entry["env"] == ["A=1", "HOME=/", "LISTEN_FDS=2", "LISTEN_PID=1", "NOTIFY_SOCKET=/run/notify/notify.sock"]
    _name, _argv, env = program.op_exec(entry, Run())
    assert b"LISTEN_PID=%d" % os.getpid() in env  # the test's pid in place of init's
    _name, _argv, env = program.op_exec(entry, Run(options={"command": "exec"}))
    assert b"LISTEN_PID=1" in env


def test_bytes_that_are_not_text_pass_unchanged():
    entry = plan(["/bin/\udcff"], env=["A=\udc80", "HOME=/"])
    assert program.op_exec(entry, Run()) == ("EXEC", (b"/bin/\xff",), (b"A=\x80", b"HOME=/"))


def stack(soft):
    return {"rlimits": {"list": [["RLIMIT_STACK", 3, soft, soft, 0]]}}


@pytest.mark.parametrize(
    ("bytes_", "soft", "fits"),
    [
        (120000, 16384, True),  # ARG_MAX is always allowed
        (140000, 16384, False),
        (2 << 20, 8 << 20, False),  # a quarter of the stack, minus the pointers
        ((2 << 20) - 500, 8 << 20, True),
        ((6 << 20) - 900, (1 << 64) - 1, True),
        ((6 << 20) + 1, (1 << 64) - 1, False),
    ],
)
def test_argument_lists_that_execve_would_refuse(bytes_, soft, fits):
    args = ["y" * 100000] * (bytes_ // 100001) + ["y" * (bytes_ % 100001)]
    if fits:
        plan(args, plans=stack(soft))
        return
    with pytest.raises(Refusal, match="argument list too long: args and env take [0-9]+ bytes; a stack limit of [0-9a-z]+ allows [0-9]+"):
        plan(args, plans=stack(soft))


def test_the_prediction_agrees_with_the_kernel(tmp_path):
    """The largest list that the plan accepts can be executed; a list with one more string cannot."""
    limit = 1 << 20
    low, high = 1, 20000
    while high - low > 1:
        middle = (low + high) // 2
        try:
            plan(["/bin/true", *["y" * 99] * middle], plans=stack(4 * limit))
            low = middle
        except Refusal:
            high = middle

    def run(count):
        pid = os.fork()
        if pid == 0:
            try:
                _syscalls.prlimit(0, 3, 4 * limit, 4 * limit)
                posix.execve("/bin/true", ["/bin/true", *["y" * 99] * count], {})
            except OSError as e:
                os._exit(e.errno)
            os._exit(99)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert run(low - 1) == 0  # the plan does not count the path and the auxiliary strings
    assert run(high) == 7


# ---- HOME


def home(tmp_path, passwd, uid=1000):
    etc = tmp_path / "etc"
    etc.mkdir(exist_ok=True)
    if passwd is not None:
        (etc / "passwd").write_bytes(passwd)
    root = os.open(tmp_path, os.O_PATH | os.O_CLOEXEC)
    try:
        return program.home_of(root, uid, lambda fd, flags: os.open("/proc/self/fd/%d" % fd, flags))
    finally:
        os.close(root)


@pytest.mark.parametrize(
    ("passwd", "expected"),
    [
        (b"a:x:1000:1::/home/a:/bin/sh\n", "/home/a"),
        (b"root:x:0:0::/root:/bin/sh\na:x:1000:1::/home/a:/bin/sh", "/home/a"),
        (b"a:x:1000:1::/one:\nb:x:1000:1::/two:\n", "/one"),
        (b"1000:x:0:0::/evil:/bin/sh\n", "/"),  # CVE-2016-3697: a name that looks like a number
        (b"a:x: 1000:1::/evil:\n", "/"),
        (b"a:x:+1000:1::/evil:\n", "/"),
        (b"a:x:4294968296:1::/evil:\n", "/"),  # 1000 modulo 2^32
        (b"a:x:1000:1::home:\n", "/"),
        (b"a:x:1000:1:::\n", "/"),
        (b"a:x:1000:1\n", "/"),
        (b"a:x:1000:1::/h\xff:\n", "/h\udcff"),
        (b"\n\n:::\n", "/"),
        (b"", "/"),
        (None, "/"),
        (b"x" * (1 << 21) + b"\na:x:1000:1::/late:\n", "/"),
        (b"x" * ((1 << 20) - 30) + b"\na:x:1000:1::/home/abcdefghijklmnopq:\n", "/"),  # cut within the line
    ],
)
def test_home(tmp_path, passwd, expected):
    assert home(tmp_path, passwd) == expected


@pytest.mark.parametrize("kind", ["fifo", "directory", "symlink", "etc-symlink", "endless"])
def test_home_of_a_hostile_passwd(tmp_path, kind):
    """CVE-2024-9676: neither blocks nor leaves the root."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "passwd").write_text("a:x:1000:1::/evil:\n")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    passwd = root / "etc/passwd"
    if kind == "fifo":
        os.mkfifo(passwd)
    elif kind == "directory":
        passwd.mkdir()
    elif kind == "symlink":
        passwd.symlink_to(outside / "passwd")
    elif kind == "etc-symlink":
        (root / "etc").rmdir()
        (root / "etc").symlink_to("../outside")
    else:
        with open(passwd, "w") as f:
            f.truncate(8 << 30)
    if kind == "etc-symlink":
        fd = os.open(root, os.O_PATH)
        assert program.home_of(fd, 1000, None) == "/"
        os.close(fd)
    else:
        assert home(root, None) == "/"


@pytest.mark.parametrize("target", ["passwd.real", "/etc/passwd.real", "../usr/passwd", "/usr/link"])
def test_home_of_a_passwd_that_is_a_link_inside_the_root(tmp_path, target):
    for folder in ("etc", "usr"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    for name in ("etc/passwd.real", "usr/passwd"):
        (tmp_path / "root" / name).write_text("a:x:1000:1::/home/a:\n")
    (tmp_path / "root/usr/link").symlink_to("/etc/passwd.real")
    (tmp_path / "root/etc/passwd").symlink_to(target)
    assert home(tmp_path / "root", None) == "/home/a"


def test_op_exec_looks_home_up(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("a:x:7:7::/seven:\n")
    entry = plan(env=["A=1", "HOME="], plans={"user": {"uid": 7}})
    root = os.open(tmp_path, os.O_PATH)
    try:
        assert program.op_exec(entry, Run(options={"command": "exec"}, root_fd=root))[2] == (b"A=1", b"HOME=/seven")
    finally:
        os.close(root)


# ---- sentences

PLANS = {"program": {"args": ["nosuch", "x"], "cwd": "/x", "path": "/bin"}, "user": {"uid": 5, "gid": 6}}


def said(op, number, detail=0, call="x", args=None, **more):
    plans = {**PLANS, "program": {**PLANS["program"], **more}}  # type: ignore[dict-item]
    if args:
        plans["program"]["args"] = [args]  # type: ignore[index]
    record = (b"F", _syscalls.OPS.index(op), detail, number, 3, call.encode().ljust(16, b"\0"))
    return program.failure(record, plans)


@pytest.mark.parametrize(
    ("op", "detail", "number", "args", "words", "pointer"),
    [
        ("FIND", 2, 2, "nosuch", 'exec: "nosuch": executable file not found in $PATH', "/process/args/0"),
        ("FIND", 5, 2, "/nonexist", 'exec: "/nonexist": stat /nonexist: no such file or directory', "/process/args/0"),
        ("FIND", 3, 13, "/etc/passwd", 'exec: "/etc/passwd": permission denied', "/process/args/0"),
        ("FIND", 4, 21, "/tmp", 'exec: "/tmp": is a directory', "/process/args/0"),
        ("FIND", 5, 20, "/bin/sh/x", 'exec: "/bin/sh/x": stat /bin/sh/x: not a directory', "/process/args/0"),
        ("FIND", 2, 2, "a\nb", 'exec: "a\\nb": executable file not found in $PATH', "/process/args/0"),
        ("CHDIR", 0, 2, None, 'chdir to cwd ("/x") set in config.json failed: no such file or directory', "/process/cwd"),
        ("CHDIR2", 0, 13, None, 'chdir to cwd ("/x") set in config.json failed: permission denied', "/process/cwd"),
        (
            "CHDIR2", 1, 2, None,
            'chdir to cwd ("/x") set in config.json failed: current working directory is outside of container mount namespace root '
            "-- possible container breakout detected",
            "/process/cwd",
        ),
        ("EXEC", 0, 8, "/bin/garb", "exec /bin/garb: exec format error", "/process/args/0"),
        ("EXEC", 0, 2, "/bin/x", "exec /bin/x: no such file or directory", "/process/args/0"),
        ("CAPS", 0, 1, None, "unable to apply caps: operation not permitted", "/process/capabilities"),
        ("BOUND", 0, 1, None, "unable to apply bounding set: operation not permitted", "/process/capabilities/bounding"),
        ("FILTER", 0, 22, None, "error loading seccomp filter into kernel: invalid argument", "/linux/seccomp"),
        ("NNP", 0, 22, None, "unable to set no new privileges: invalid argument", "/process/noNewPrivileges"),
        ("CLOSE", 0, 9, None, "close failed: bad file descriptor", None),
    ],
)  # fmt: skip
def test_sentences(op, detail, number, args, words, pointer):
    e = said(op, number, detail, args=args)
    assert (e.words, e.pointer, e.errno, e.call) == (words, pointer, number, "x")


@pytest.mark.parametrize(
    ("call", "number", "words", "pointer"),
    [
        ("setresuid", 22, "cannot setuid to unmapped uid 5 in user namespace", "/process/user/uid"),
        ("setresgid", 22, "cannot setgid to unmapped gid 6 in user namespace", "/process/user/gid"),
        ("setresuid", 11, "unable to set the ids: resource temporarily unavailable", "/process/user/uid"),
        ("setgroups", 1, "unable to set the ids: operation not permitted", "/process/user/additionalGids"),
        ("setgroups", 22, "cannot set additional groups: one of them is unmapped in user namespace", "/process/user/additionalGids"),
        ("prctl", 1, "unable to set the ids: operation not permitted", "/process/user"),
    ],
)
def test_sentences_for_ids(call, number, words, pointer):
    e = said("IDS", number, call=call)
    assert (e.words, e.pointer) == (words, pointer)


MATCHED = ("permission denied", "operation not permitted", "no such file or directory", "not found", "is a directory", "not a directory")


@pytest.mark.parametrize("op", _syscalls.OPS)
def test_hints_hold_no_words_that_callers_match(op):
    for number in (1, 2, 7, 8, 13, 20, 21, 22, 40):
        for detail in range(9):
            for call in ("setgroups", "setresuid", "x"):
                hint = said(op, number, detail, call, path=None).hint or ""
                assert not [word for word in MATCHED if word in hint.lower()]
