"""hooks: plans, and running each kind, with real programs. Spawning: deadlines, output, descriptors."""

import json
import os
import signal
import time

import pytest

import harness
import hoststate
from fakes.hand import Ctx, Run
from pyrunc.errors import HookFailure, Refusal
from pyrunc.linux import spawn
from pyrunc.parts import hooks

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def plan(value, ctx=None):
    return hooks.plan({"/hooks": value}, ctx or Ctx())


def refused(kind, hook):
    with pytest.raises(Refusal) as caught:
        plan({kind: [{"path": "/bin/true"}, hook]})
    return caught.value


# ---- plan


def test_all_kinds_in_order():
    entry = plan({kind: [{"path": "/bin/true"}, {"path": "/bin/sh", "args": ["x", "y"], "env": ["A=1"], "timeout": 3}] for kind in KINDS})
    assert list(entry) == list(KINDS)
    assert entry["poststop"] == [
        {"path": "/bin/true", "args": ["/bin/true"], "env": None, "timeout": None, "files": [None, None]},
        {"path": "/bin/sh", "args": ["x", "y"], "env": ["A=1"], "timeout": 3, "files": [None, None]},
    ]


def test_nothing_to_run():
    assert plan({}) is None and plan({"prestart": [], "poststop": []}) is None


def test_unknown_and_deprecated_kinds_are_warned_of():
    ctx = Ctx()
    assert list(plan({"preStart": [{"path": 7}], "prestart": [{"path": "/bin/true"}]}, ctx)) == ["prestart"]
    assert [w[0] for w in ctx.warnings] == ["/hooks/preStart", "/hooks/prestart"]


@pytest.mark.parametrize(
    ("hook", "pointer", "words"),
    [
        ({"path": "bin/true"}, "/path", "is not absolute"),
        ({"path": ""}, "/path", "is not absolute"),
        ({"path": "/bin/../bin/true"}, "/path", "has .. in it"),
        ({"path": "/bin/true\0x"}, "/path", "is not absolute"),
        ({"path": "/no/hook"}, "/path", "error running createRuntime hook #1: fork/exec /no/hook: no such file or directory"),
        ({"path": "/bin/true/x"}, "/path", "fork/exec /bin/true/x: not a directory"),
        ({"path": "/tmp"}, "/path", "fork/exec /tmp: is a directory"),
        ({"path": "/etc/passwd"}, "/path", "fork/exec /etc/passwd: permission denied"),
        ({"path": "/bin/true", "args": []}, "/args", "empty"),
        ({"path": "/bin/true", "args": ["a", "b\0"]}, "/args/1", "NUL"),
        ({"path": "/bin/true", "env": ["A=1", "B"]}, "/env/1", "is not NAME=value"),
        ({"path": "/bin/true", "env": ["=x"]}, "/env/0", "is not NAME=value"),
        ({"path": "/bin/true", "env": [""]}, "/env/0", "is not NAME=value"),
        ({"path": "/bin/true", "env": ["A=\0"]}, "/env/0", "NUL"),
        ({"path": "/bin/true", "timeout": 0}, "/timeout", "want 1 to"),
        ({"path": "/bin/true", "timeout": -1}, "/timeout", "want 1 to"),
        ({"path": "/bin/true", "timeout": 10**10}, "/timeout", "want 1 to"),
    ],
)
def test_refusals(hook, pointer, words):
    e = refused("createRuntime", hook)
    assert e.pointer == "/hooks/createRuntime/1" + pointer and words in e.words


def test_a_program_of_the_container_is_not_looked_for_on_the_host():
    assert plan({"startContainer": [{"path": "/only/inside"}]})
    assert refused("startContainer", {"path": "only/inside"}).pointer == "/hooks/startContainer/1/path"


def test_a_path_through_proc_is_taken_as_it_is():
    assert plan({"prestart": [{"path": "/proc/%d/exe" % os.getpid(), "args": ["libnetwork-setkey"]}]})


# ---- running


class Host(Run):
    """A run on the host side."""

    def __init__(self, tmp_path, **more):
        state_dir = type("StateDir", (), {"state": {}})
        env = [b"FROM=caller", b"LD_PRELOAD=/x", b"PYTHONPATH=/y"]
        own = {"id": "c1", "bundle": str(tmp_path), "annotations": {"a": "ü\udc80"}}
        super().__init__(state_dir=state_dir, pid=4711, cancel=None, host_env=env, **own, **more)
        self.recorded = []
        self.told = []

    def tell(self, note):
        self.told.append(note)

    def record(self, key, value):
        self.state_dir.state[key] = value  # type: ignore[attr-defined]
        self.recorded.append((key, value[-1]))

    def ask(self, part, request):
        assert part == "hooks"
        return hooks.host_answer({}, self, json.loads(json.dumps(request)))

    def check(self):
        return None


@pytest.fixture
def run(tmp_path):
    return Host(tmp_path)


def shell(text, **more):
    return {"path": "/bin/sh", "args": ["sh", "-c", text], **more}


def fail(function, entry, run):
    with pytest.raises(HookFailure) as caught:
        function(entry, run)
    return caught.value


CALLS = {
    "prestart": (hooks.host_prestart, "creating", 4711),
    "createRuntime": (hooks.host_create_runtime, "creating", 4711),
    "createContainer": (hooks.init_create_container, "creating", os.getpid()),
    "startContainer": (hooks.init_start_container, "created", os.getpid()),
    "poststart": (hooks.host_poststart, "running", 4711),
    "poststop": (hooks.host_poststop, "stopped", None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_hook_gets(kind, run, tmp_path):
    function, status, pid = CALLS[kind]
    run.root_fd = os.open("/usr", os.O_PATH)
    text = "cat >{0}/state; pwd >{0}/cwd; cat /proc/$$/environ >{0}/env; ls -1 /proc/$$/fd >{0}/fds; echo $0 >{0}/name".format(tmp_path)
    leak = os.open("/etc", os.O_RDONLY)
    os.set_inheritable(leak, True)
    entry = plan({kind: [{"path": "/bin/sh", "args": ["sh", "-c", text, "free text"], "env": ["ONLY=this", "ONLY=that"]}]})
    function(entry, run)
    os.close(leak)
    os.close(run.root_fd)
    state = json.loads((tmp_path / "state").read_bytes())
    assert state.pop("pid", None) == pid and state["status"] == status and state["id"] == "c1"
    where = {"createContainer": "/usr", "startContainer": os.getcwd()}.get(kind, str(tmp_path))
    assert (tmp_path / "cwd").read_text().strip() == where
    assert (tmp_path / "env").read_bytes() == b"ONLY=this\0ONLY=that\0"
    assert set((tmp_path / "fds").read_text().split()) <= {"0", "1", "2", "10", "255"}, "10, 255: descriptors of the shell itself"
    assert (tmp_path / "name").read_text() == "free text\n"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("env", [None, []])
def test_environment_of_a_hook_without_env(kind, env, run, tmp_path):
    run.root_fd = os.open("/", os.O_PATH)
    run.config = {"process": {"env": ["LD_PRELOAD=/image.so", "P=1"]}}
    hook = shell("cat /proc/$$/environ >%s/env" % tmp_path)
    if env is not None:
        hook["env"] = env
    CALLS[kind][0](plan({kind: [hook]}), run)
    os.close(run.root_fd)
    got = (tmp_path / "env").read_bytes()
    if kind == "startContainer":
        assert got == b"LD_PRELOAD=/image.so\0P=1\0", "it runs inside the container, like its process"
    else:
        assert got == (b"FROM=caller\0" if env is None else b"")


def test_the_final_environment_of_the_program_goes_to_start_container(run, tmp_path):
    run.exec_env = (b"HOME=/found", b"P=2")
    hooks.init_start_container(plan({"startContainer": [shell("cat /proc/$$/environ >%s/env" % tmp_path)]}), run)
    assert (tmp_path / "env").read_bytes() == b"HOME=/found\0P=2\0"


def test_in_order_and_the_first_failure_ends_it(run, tmp_path):
    second = shell("echo 2 >>log; echo out; echo bad >&2; exit 1")
    entry = plan({"createRuntime": [shell("echo 1 >>log"), second, shell("echo 3 >>log")]})
    e = fail(hooks.host_create_runtime, entry, run)
    assert e.words == "error running createRuntime hook #1: exit status 1, stdout: out, stderr: bad"
    assert e.pointer == "/hooks/createRuntime/1"
    assert (tmp_path / "log").read_text() == "1\n2\n"
    noted = [(key, note["index"], note["ended"], note["code"]) for key, note in run.recorded]
    assert noted == [("hooks", 0, "exit", 0), ("hooks", 1, "exit", 1)]
    assert run.recorded[1][1]["stdout"] == "out" and run.recorded[1][1]["ms"] >= 0 and len(run.state_dir.state["hooks"]) == 2


def test_output_into_the_files_of_annotations(run, tmp_path):
    names = {"run.oci.hooks.stdout": str(tmp_path / "out"), "run.oci.hooks.stderr": "/no/such/dir/err"}
    entry = plan({"prestart": [shell("echo one; echo lost >&2"), shell("echo two")]}, Ctx(plans={"meta": {"annotations": names}}))
    hooks.host_prestart(entry, run)
    assert (tmp_path / "out").read_text() == "one\ntwo\n"
    with pytest.raises(Refusal) as caught:
        plan({}, Ctx(plans={"meta": {"annotations": {"run.oci.hooks.stdout": "out"}}}))
    assert caught.value.pointer == "/annotations/run.oci.hooks.stdout"


def test_silent_failure():
    run = Host("/tmp")
    e = fail(hooks.host_create_runtime, plan({"createRuntime": [{"path": "/bin/false"}]}), run)
    assert e.words == "error running createRuntime hook #0: exit status 1, stdout: , stderr: "


def test_killed(run):
    e = fail(hooks.host_prestart, plan({"prestart": [shell("kill -9 $$")]}), run)
    assert e.words.startswith("error running prestart hook #0: signal: killed, stdout: ")


def test_output_is_cut_and_quoted(run):
    text = "head -c 3000000 /dev/zero | tr '\\0' x; printf '\\033[2Jlast\\n{\"level\":\"error\"}' >&2; exit 4"
    e = fail(hooks.host_prestart, plan({"prestart": [shell(text)]}), run)
    assert "exit status 4" in e.words and e.words.endswith('stderr: \\x1b[2Jlast\\n{"level":"error"}')
    assert len(e.words) < 6000 and "\n" not in e.words and "\x1b" not in e.words


def test_a_program_that_vanished_after_the_plan(run):
    entry = plan({"prestart": [{"path": "/bin/true"}]})
    entry["prestart"][0]["path"] = "/no/hook"
    assert fail(hooks.host_prestart, entry, run).words == "error running prestart hook #0: fork/exec /no/hook: no such file or directory"


def test_exec_format(run, tmp_path):
    (tmp_path / "junk").write_text("no program\n")
    (tmp_path / "junk").chmod(0o755)
    assert fail(hooks.host_prestart, plan({"prestart": [{"path": str(tmp_path / "junk")}]}), run).words.endswith("exec format error")


@pytest.mark.slow
def test_timeout_kills_the_whole_group(run, tmp_path):
    os.mkfifo(tmp_path / "alive")
    entry = plan({"poststart": [shell("(trap '' TERM; exec 9>alive; while :; do sleep 100; done) & sleep 100", timeout=1)]})
    reader = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    e = fail(hooks.host_poststart, entry, run)
    assert e.words == "error running poststart hook #0: hook ran past specified timeout of 1.0s"
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b"", "the grandchild no longer holds its end"
    os.close(reader)
    assert run.recorded[0][1]["ended"] == "timeout"


def test_a_daemon_that_keeps_the_output_open_is_not_waited_for(run, tmp_path):
    os.mkfifo(tmp_path / "end")
    guard = os.open(tmp_path / "end", os.O_RDWR)
    hooks.host_prestart(plan({"prestart": [shell("(read x <end) & echo $!")]}), run)
    written = run.recorded[0][1]["stdout"]
    assert written.isdigit(), "output from before the exit is kept"
    with harness.Watched(int(written)) as daemon:
        os.write(guard, b"\n")
        daemon.wait()
    os.close(guard)


def test_a_state_that_is_not_read(tmp_path):
    run = Host(tmp_path)
    run.annotations = {"x": "y" * 300000}  # type: ignore[attr-defined]
    hooks.host_prestart(plan({"prestart": [shell("exec 0<&-; exit 0"), shell("wc -c")]}), run)
    assert [(record["ended"], record["code"]) for _, record in run.recorded] == [("exit", 0)] * 2
    assert int(run.recorded[1][1]["stdout"]) > 300000


def test_poststop_continues_and_reports(run, tmp_path):
    run.state_dir = None
    entry = plan({"poststop": [shell("exit 3"), {"path": "/bin/true"}, shell("echo ran >%s/last" % tmp_path)]})
    entry["poststop"][1]["path"] = "/no/hook"
    run.bundle = "/no/such/bundle"
    warnings = hooks.host_poststop(entry, run)
    assert len(warnings) == 2 and "poststop hook #0: exit status 3" in warnings[0] and "fork/exec /no/hook" in warnings[1]
    assert (tmp_path / "last").read_text() == "ran\n"
    assert hooks.host_poststop({"prestart": []}, run) == []


class Cancel:
    """As engine.signals.Cancel."""

    def __init__(self):
        self.wake_fd, self.write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.number = 0
        self.drained = 0

    def drain(self):
        os.read(self.wake_fd, 512)
        self.drained += 1


def test_cancel_kills_and_a_false_alarm_does_not(run):
    class Stopped(Exception):
        pass

    def check():
        if run.cancel.number:
            raise Stopped

    run.cancel, run.check = Cancel(), check
    os.write(run.cancel.write_fd, b"x")
    hooks.host_prestart(plan({"prestart": [shell("sleep 0.01")]}), run)
    assert run.cancel.drained == 1
    before = signal.signal(signal.SIGUSR1, lambda *_: (setattr(run.cancel, "number", 15), os.write(run.cancel.write_fd, b"x")))
    with pytest.raises(Stopped):
        hooks.host_prestart(plan({"prestart": [shell("kill -USR1 %d; sleep 100" % os.getpid())]}), run)
    signal.signal(signal.SIGUSR1, before)
    assert run.recorded[-1][1]["ended"] == "cancel"


# ---- spawn itself


def test_signals_and_descriptors_are_clean():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    ended = spawn.run("/bin/cat", ["cat", "/proc/self/status"], [])
    signal.pthread_sigmask(signal.SIG_SETMASK, old)
    signal.signal(signal.SIGTERM, before)
    fields = dict(line.split(":\t", 1) for line in ended.out.decode().splitlines() if ":\t" in line)
    assert int(fields["SigIgn"], 16) == int(fields["SigBlk"], 16) == 0


def test_its_own_process_group():
    ended = spawn.run("/bin/sh", ["sh", "-c", "cut -d' ' -f1,5 /proc/$$/stat"], [])
    pid, group = ended.out.split()
    assert pid == group


def test_it_dies_with_us(tmp_path):
    os.mkfifo(tmp_path / "alive")
    pid = os.fork()
    if pid == 0:
        try:
            spawn.run("/bin/sh", ["sh", "-c", "exec 9>%s/alive; echo >&9; exec sleep 100" % tmp_path], [])
        finally:
            os._exit(0)
    reader = os.open(tmp_path / "alive", os.O_RDONLY)
    assert os.read(reader, 1) == b"\n"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_closed_standard_streams():
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for fd in (0, 1, 2):
                os.close(fd)
            ended = spawn.run("/bin/sh", ["sh", "-c", "cat; echo err >&2"], [], b"in")
            code = 0 if (ended.out, ended.err) == (b"in", b"err\n") else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_ignored_sigchld_does_not_lose_the_status():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert spawn.run("/bin/sh", ["sh", "-c", "exit 9"], []).code == 9
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_nothing_is_left_open():
    before = hoststate.descriptors()
    children = hoststate.children()
    spawn.run("/bin/true", ["true"], [])
    with pytest.raises(FileNotFoundError):
        spawn.run("/no/such", ["x"], [])
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert hoststate.children() == children


def test_no_descriptors_left(run):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = hoststate.descriptors()
    free = [number for number in range(len(before) + 6) if not os.path.exists("/proc/self/fd/%d" % number)]  # there may be gaps
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[5] + 1, limits[1]))
    try:
        e = fail(hooks.host_prestart, {"prestart": [{**shell("exit 0"), "env": [], "timeout": None, "files": [None, None]}]}, run)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert e.words == "error running prestart hook #0: pipe2 /bin/sh: too many open files"
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_the_deadline_is_monotonic_and_kept():
    begin = time.monotonic()
    ended = spawn.run("/bin/sleep", ["sleep", "100"], [], timeout_ms=30)
    assert ended.why == "timeout" and not ended.ok and time.monotonic() - begin >= 0.03


def test_texts():
    assert spawn.Result("exit", 2, False, b"", b"", 0).text() == "exit status 2"
    assert spawn.Result("signal", 11, True, b"", b"", 0).text() == "signal: segmentation fault (core dumped)"
