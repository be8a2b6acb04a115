"""exec: process documents, options, exit statuses, the container states that allow it, and what the process inherits."""

import json
import os
import signal
import subprocess

import pytest

import harness
import hoststate
from cli_tools import WITH_HOLES, files_with_holes, mapped

pytestmark = pytest.mark.kernel

PROCESS = {"args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}


def document(bundle, **changes):
    path = bundle.path / "process.json"
    path.write_text(json.dumps({**PROCESS, **changes}))
    return path


@pytest.fixture
def live(runtime, waiting):
    return runtime.started(waiting)


def test_exec_words(runtime, live):
    result = runtime.ok("exec", live, "/bin/echo", "hello", "world")
    assert (result.out, result.err) == ("hello world\n", "")


@pytest.mark.parametrize("code", [0, 1, 42, 254])
def test_exec_status(runtime, live, code):
    assert runtime.call("exec", live, "/bin/sh", "-c", "exit %d" % code).code == code


def test_exec_status_of_a_signal(runtime, live):
    assert runtime.call("exec", live, "/bin/sh", "-c", "kill -KILL $$").code == 137


def test_exec_standard_input(runtime, live):
    assert runtime.ok("exec", live, "/bin/cat", text="some text").out == "some text"


@pytest.mark.parametrize(
    "program, words",
    [
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH'),
        ("/nonexist", 'exec: "/nonexist": stat /nonexist: no such file or directory'),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
        ("/tmp", 'exec: "/tmp": is a directory'),
    ],
)
def test_exec_of_what_cannot_run(runtime, live, program, words):
    """The status is 255 with runc's words; the container is not affected."""
    result = runtime.call("exec", live, program)
    assert result.code == 255, result
    assert result.said.startswith("exec failed: unable to start container process: ")
    assert words in result.said
    assert runtime.status(live) == "running"


def test_exec_of_the_unknown(runtime):
    result = runtime.call("exec", "no-such-id", "true")
    assert result.code in (1, 255) and "container does not exist" in result.err


def test_exec_in_each_state(runtime, waiting):
    """A created container accepts it (podman's pods need that), a stopped one does not."""
    id = runtime.create(waiting)
    assert runtime.ok("exec", id, "/bin/echo", "early").out == "early\n"
    runtime.stopped(id)
    result = runtime.call("exec", id, "/bin/true")
    assert result.code == 255
    assert "cannot exec in a stopped container" in result.said


def test_exec_process_document(runtime, live, waiting):
    """What containerd, docker and podman send: the whole process, --detach and --pid-file. They remove the file right after."""
    path = document(
        waiting,
        args=["/bin/sh", "-c", "pwd; id -u; id -g; echo $A"],
        cwd="/tmp",
        env=["A=x y", "PATH=/bin"],
        user={"uid": 1000, "gid": 1000},
    )
    result = runtime.ok("exec", "--process", path, live)
    assert result.out.splitlines() == ["/tmp", "1000", "1000", "x y"]


def test_exec_umask(pyrunc, live, waiting):
    """It comes from the document, or else from the container (runc 1.1 uses the caller's in both cases)."""
    path = document(waiting, args=["/bin/sh", "-c", "umask"], user={"uid": 0, "gid": 0, "umask": 0o27})
    assert pyrunc.ok("exec", "--process", path, live).out == "0027\n"
    assert pyrunc.ok("exec", live, "/bin/sh", "-c", "umask").out == "0022\n"


def test_exec_oom_score(pyrunc, make_bundle):
    """It is the container's, as with runc: the caller may be a daemon that must never be killed. The document takes precedence."""
    live = pyrunc.started(make_bundle({"/process/oomScoreAdj": 321}, args=harness.WAIT_FOR_TERM))
    words = ["/bin/cat", "/proc/self/oom_score_adj"]
    assert pyrunc.ok("exec", live, *words).out == "321\n"
    for own, found in (({}, "321\n"), ({"oomScoreAdj": 77}, "77\n"), ({"oomScoreAdj": 0}, "0\n")):
        path = document(make_bundle(), args=words, **own)
        assert pyrunc.ok("exec", "--process", path, live).out == found


def test_exec_detach(runtime, live, waiting, tmp_path):
    gate = harness.fifo(waiting.rootfs / "execgate")
    path = document(waiting, args=["/bin/sh", "-c", "echo up > /execgate; sleep 1000"])
    result = runtime.ok("exec", "--process", path, "--detach", "--pid-file", tmp_path / "pid", live)
    assert (result.out, result.err) == ("", "")
    pid = (tmp_path / "pid").read_text()
    assert pid.isdigit()
    harness.lines_of(gate)
    assert int(pid) in json.loads(runtime.ok("ps", "--format", "json", live).out)
    os.kill(int(pid), signal.SIGKILL)


def test_exec_pid_file_while_it_runs(runtime, live, waiting, tmp_path):
    """It is written before the wait, even without --detach: buildkit reads it in the meantime."""
    gate = harness.fifo(waiting.rootfs / "execgate")
    argv = runtime.argv("exec", "--pid-file", tmp_path / "pid", live, "/bin/sh", "-c", "echo up > /execgate; read x < /execdoor")
    harness.fifo(waiting.rootfs / "execdoor")
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    harness.lines_of(gate)
    assert harness.appears(tmp_path / "pid").isdigit()
    (waiting.rootfs / "execdoor").write_text("\n")
    assert process.wait(harness.WATCHDOG) == 0


def test_exec_detached_status_reaches_the_subreaper(runtime, live, waiting, tmp_path):
    import ctypes

    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    try:
        path = document(waiting, args=["/bin/sh", "-c", "exit 17"])
        runtime.ok("exec", "--process", path, "--detach", "--pid-file", tmp_path / "pid", live)
        _, status = os.waitpid(int((tmp_path / "pid").read_text()), 0)
        assert os.waitstatus_to_exitcode(status) == 17
    finally:
        libc.prctl(36, 0, 0, 0, 0)


SHOW = ["/bin/sh", "-c", "pwd; id -u; id -g; echo $A$B"]


def test_exec_options(runtime, live):
    out = runtime.ok("exec", "--cwd", "/tmp", "--env", "A=1", "--env", "B=2", "--user", "1000:1000", live, *SHOW).out
    assert out.splitlines() == ["/tmp", "1000", "1000", "12"]


def test_exec_additional_gids(runtime, live):
    if runtime.name == "crun":
        pytest.skip("crun has no --additional-gids")
    out = runtime.ok("exec", "--additional-gids", "7", "--additional-gids", "8", live, "/bin/grep", "Groups", "/proc/self/status").out
    assert out.split()[1:] == ["7", "8"]


FORMS = {"0": (0, 0), "1": (1, 0), "1:2": (1, 2), "1000:1000": (1000, 1000)}


@pytest.mark.parametrize("form", FORMS)
def test_exec_user_forms(runtime, live, form):
    if runtime.name == "crun":
        pytest.skip("crun 1.21 treats a lone number as root")
    out = runtime.ok("exec", "--user", form, live, "/bin/sh", "-c", "id -u; id -g").out
    assert tuple(map(int, out.split())) == FORMS[form]


@pytest.mark.parametrize("form", [":2", "1:", " 1", "+1", "1a", "-1", "4294967295", "4294967296", "0x1", ":", "1:1:1", "1_0", "٣"])
def test_exec_bad_user_forms(pyrunc, live, form):
    """They never become uid 0 by accident (CVE-2026-30892 and similar ones)."""
    result = pyrunc.call("exec", "--user", form, live, "/bin/id", "-u")
    assert result.code == 255 and result.out == "", result
    assert "Traceback" not in result.err


def test_exec_user_is_a_number_first(runtime, make_bundle):
    """A line `1000:x:0:0` in the passwd file of the image does not make 1000 root (CVE-2016-3697)."""
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    (bundle.rootfs / "etc/passwd").write_text("1000:x:0:0::/:/bin/sh\n")
    (bundle.rootfs / "etc/group").write_text("1000:x:0:\n")
    if runtime.name == "crun":
        pytest.skip("crun 1.21 treats a lone number as root")
    live = runtime.started(bundle)
    for form in ("1000", "1000:1000"):
        assert runtime.ok("exec", "--user", form, live, "/bin/sh", "-c", "id -u").out == "1000\n"


def capabilities(text):
    return {line.split()[0].rstrip(":"): int(line.split()[1], 16) for line in text.splitlines() if line.startswith("Cap")}


def test_exec_capabilities(runtime, make_bundle):
    """--cap adds to bounding, effective and permitted, never to inheritable or ambient (CVE-2022-29162)."""
    changes = {"/process/capabilities": {k: ["CAP_KILL"] for k in ("bounding", "effective", "permitted")}}
    live = runtime.started(make_bundle(changes, args=harness.WAIT_FOR_TERM))
    sets = capabilities(runtime.ok("exec", "--cap", "CAP_SYS_ADMIN", live, "/bin/cat", "/proc/self/status").out)
    assert sets["CapInh"] == sets["CapAmb"] == 0
    assert sets["CapEff"] == sets["CapPrm"] == sets["CapBnd"] == 1 << 21 | (0 if runtime.name == "crun" else 1 << 5)


def test_exec_capabilities_added_to_none(pyrunc, live):
    """The same if the config has no capabilities at all (runc 1.1 crashes with a nil pointer)."""
    sets = capabilities(pyrunc.ok("exec", "-c", "CAP_KILL", live, "/bin/cat", "/proc/self/status").out)
    assert (sets["CapInh"], sets["CapAmb"], sets["CapEff"], sets["CapPrm"], sets["CapBnd"]) == (0, 0, 32, 32, 32)


def test_exec_no_new_privs(runtime, live):
    assert "NoNewPrivs:\t1" in runtime.ok("exec", "--no-new-privs", live, "/bin/cat", "/proc/self/status").out


def test_exec_joins_all_namespaces(runtime, live):
    """It sees what init sees, and it is in the container's cgroup."""
    script = "for n in pid net ipc uts mnt cgroup user; do readlink /proc/self/ns/$n; readlink /proc/1/ns/$n; done"
    words = runtime.ok("exec", live, "/bin/sh", "-c", script).out.split()
    assert words[0::2] == words[1::2] and len(words) == 14
    text = runtime.ok("exec", live, "/bin/sh", "-c", "cat /proc/1/cgroup; echo ---; cat /proc/self/cgroup").out
    init, _, mine = text.partition("---\n")
    assert init == mine


def test_exec_inherits_what_the_document_lacks(pyrunc, make_bundle):
    """Capabilities, limits, noNewPrivileges and the filter of the container apply if the process document does not mention them."""
    bundle = make_bundle(
        {
            "/process/capabilities": {k: ["CAP_KILL"] for k in ("bounding", "effective", "permitted")},
            "/process/rlimits": [{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 300}],
            "/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]},
        },
        args=harness.WAIT_FOR_TERM,
    )
    live = pyrunc.started(bundle)
    out = pyrunc.ok("exec", "--process", document(bundle, args=["/bin/sh", "-c", "cat /proc/self/status; ulimit -n"]), live).out
    assert capabilities(out)["CapEff"] == 1 << 5
    assert "Seccomp:\t2" in out
    assert out.splitlines()[-1] == "200"


def test_exec_filter_is_in_force(runtime, make_bundle):
    bundle = make_bundle(
        {
            "/linux/seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
            }
        },
        args=harness.WAIT_FOR_TERM,
    )
    live = runtime.started(bundle)
    result = runtime.call("exec", live, "/bin/mkdir", "/made")
    assert result.code == 1 and "not permitted" in result.err


@pytest.mark.parametrize(
    "changes", [{"args": []}, {"args": None}, {"cwd": "relative"}, {"cwd": ""}, {"user": {"uid": -1, "gid": 0}}, {"env": ["NOEQ"]}]
)
def test_exec_bad_documents(runtime, live, waiting, changes):
    if changes.get("env") and runtime.name == "crun":
        pytest.skip("crun drops such an entry")
    result = runtime.call("exec", "--process", document(waiting, **changes), live)
    assert result.code == 255, result
    assert runtime.status(live) == "running"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"args": ["true"], "args": ["false"]}', "{} x", "\ufeff{}"])
def test_exec_broken_documents(pyrunc, live, waiting, text):
    (waiting.path / "process.json").write_text(text)
    result = pyrunc.call("exec", "--process", waiting.path / "process.json", live)
    assert result.code == 255 and "Traceback" not in result.err, result
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("cwd", ["/proc/self/fd/%d" % n for n in range(3, 12)])
def test_exec_cwd_cannot_be_a_descriptor(runtime, live, cwd):
    """CVE-2024-21626."""
    result = runtime.call("exec", "--cwd", cwd, live, "/bin/ls")
    assert result.code != 0, result


def test_exec_leaves_no_descriptor(runtime, live):
    done = subprocess.run(
        ["/bin/bash", "-c", 'exec 9</etc 250</; exec "$@"', "bash", *runtime.argv("exec", live, "/bin/ls", "-l", "/proc/self/fd")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    numbers = {line.split()[8] for line in done.stdout.splitlines() if "->" in line}
    assert numbers <= {"0", "1", "2", "3"}, done.stdout  # 3 is the directory that ls reads


def test_exec_without_words(runtime, live):
    assert runtime.call("exec", live).code in (1, 255)


def test_exec_in_paused(runtime, live):
    if runtime.call("pause", live).code:
        pytest.skip("no freezer on this machine")
    result = runtime.call("exec", live, "/bin/true")
    assert result.code == 255
    assert "cannot exec in a paused container" in result.said
    runtime.ok("resume", live)


def test_exec_preserve_fds(runtime, live, tmp_path):
    (tmp_path / "three").write_text("three\n")
    argv = runtime.argv("exec", "--preserve-fds", "1", live, "/bin/sh", "-c", "cat <&3")
    done = subprocess.run(
        ["/bin/bash", "-c", 'exec 3<three; exec "$@"', "bash", *argv],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "three\n"), done


def test_exec_preserve_fds_with_holes(runtime, live, tmp_path):
    """Two of the descriptors from 3 to 40 are open; a higher one is not passed on."""
    if runtime.name == "runc":
        pytest.skip("runc fails if one of them is closed")
    files_with_holes(tmp_path)
    argv = runtime.argv("exec", "--preserve-fds", "38", live, "/bin/sh", "-c", "cat <&9; cat <&40; ls /proc/$$/fd; true")
    done = subprocess.run(
        ["/bin/bash", "-c", WITH_HOLES, "bash", *argv],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["nine", "forty", "0", "1", "2", "40", "9"]), done


@pytest.mark.parametrize("kinds", [("ipc",), ("uts", "network"), ("ipc", "uts", "network")])
def test_exec_where_a_namespace_belongs_to_another_user_namespace(runtime, make_bundle, kinds):
    """A container with its own user namespace has joined namespaces of a container in another one: exec joins all of them again."""
    if runtime.name == "runc":
        pytest.skip("runc before 1.3 joins the user namespace first, and then has no permission to join the others")
    files = {"ipc": "ipc", "uts": "uts", "network": "net"}
    owner = runtime.started(mapped(make_bundle))
    pid = runtime.state(owner)["pid"]
    id = runtime.started(mapped(make_bundle, first=200000, joined={kind: "/proc/%d/ns/%s" % (pid, files[kind]) for kind in kinds}))
    names = " ".join("/proc/self/ns/" + name for name in ("user", *files.values()))
    found = runtime.ok("exec", id, "/bin/sh", "-c", "for f in %s; do readlink $f; done; id -u" % names).out.split()
    assert found.pop() == "0"
    init, other = runtime.state(id)["pid"], {kind: os.readlink("/proc/%d/ns/%s" % (pid, files[kind])) for kind in kinds}
    assert found == [os.readlink("/proc/%d/ns/%s" % (init, name)) for name in ("user", *files.values())]
    assert [found[1 + list(files).index(kind)] for kind in kinds] == list(other.values())
    assert found[0] != os.readlink("/proc/%d/ns/user" % pid)


def test_exec_survives_its_runtime(runtime, live, waiting, tmp_path):
    """cri-o kills the runtime after a timeout: the process inside keeps running, as with runc."""
    gate = harness.fifo(waiting.rootfs / "execgate")
    argv = runtime.argv("exec", "--pid-file", tmp_path / "pid", live, "/bin/sh", "-c", "echo up > /execgate; exec sleep 1000")
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    harness.lines_of(gate)
    pid = int(harness.appears(tmp_path / "pid"))
    process.kill()
    process.wait()
    assert hoststate.state_of(pid) in ("S", "R")
    os.kill(pid, signal.SIGKILL)


def test_many_execs(runtime, live):
    """Fifty in a row leave no process behind."""
    before = harness.until_processes(runtime, live)
    for number in range(50):
        assert runtime.call("exec", live, "/bin/sh", "-c", "exit %d" % (number % 7)).code == number % 7
    assert harness.until_processes(runtime, live) == before


@pytest.mark.parametrize("signal_name", ["TERM", "INT", "USR1"])
def test_exec_passes_signals_on(runtime, live, waiting, signal_name):
    gate = harness.fifo(waiting.rootfs / "execgate")
    script = "trap 'kill $!; exit 43' %s; sleep 1000 & echo up > /execgate; wait" % signal_name
    process = subprocess.Popen(runtime.argv("exec", live, "/bin/sh", "-c", script), stdin=subprocess.DEVNULL)
    harness.lines_of(gate)
    process.send_signal(getattr(signal, "SIG" + signal_name))
    assert process.wait(harness.WATCHDOG) == 43
