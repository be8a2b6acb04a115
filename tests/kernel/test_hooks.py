"""hooks in complete containers: when and where each runs, with which state, and what happens if it fails (runtime.md#lifecycle)."""

import json
import os
import signal
import subprocess

import pytest

import harness

pytestmark = pytest.mark.kernel
KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
INSIDE = "startContainer"
HOST_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOSTSECRET": "1", "LD_BIND_NOT": "x", "PYTHONPATH": "/nowhere", "ENV": "/etc/rc"}
IMAGE_ENV = ["PATH=/bin", "LD_PRELOAD=/x.so", "IMAGE=1"]


def shell(script, **more):
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


def with_hooks(make_bundle, changes=None, args=None, **hooks):
    """A bundle with hooks; each value is a list of hooks, in which {b} is replaced with the path of the bundle."""
    bundle = make_bundle(changes, args=args or harness.WAIT_FOR_TERM)
    text = json.dumps(hooks).replace("{b}", str(bundle.path))
    return bundle.patch({"/hooks": json.loads(text)})


def lines(bundle):
    path = bundle.path / "log"
    return path.read_text().splitlines() if path.exists() else []


def states(bundle):
    return {kind: json.loads((bundle.path / ("state-" + kind)).read_text()) for kind in KINDS if (bundle.path / ("state-" + kind)).exists()}


def test_order_states_and_pids(pyrunc, make_bundle, no_leaks):
    hooks = {kind: [shell("cat >{b}/state-%s; echo %s-%d >>{b}/log" % (kind, kind, i)) for i in (1, 2)] for kind in KINDS}
    hooks[INSIDE] = [shell("cat >/state; echo %s-%d >>/log" % (INSIDE, i)) for i in (1, 2)]
    bundle = with_hooks(make_bundle, {"/annotations": {"k": "v"}}, **hooks)
    id = pyrunc.create(bundle)
    pid = pyrunc.state(id)["pid"]
    assert lines(bundle) == ["%s-%d" % (kind, i) for kind in KINDS[:3] for i in (1, 2)]
    pyrunc.start(id)
    assert (bundle.rootfs / "log").read_text().split() == [INSIDE + "-1", INSIDE + "-2"]
    assert lines(bundle)[6:] == ["poststart-1", "poststart-2"]
    pyrunc.stopped(id)
    assert len(lines(bundle)) == 8
    pyrunc.delete(id)
    assert lines(bundle)[8:] == ["poststop-1", "poststop-2"]
    seen = {**states(bundle), INSIDE: json.loads((bundle.rootfs / "state").read_text())}
    want = {"prestart": "creating", "createRuntime": "creating", "createContainer": "creating", INSIDE: "created", "poststart": "running"}
    for kind, status in want.items():
        assert seen[kind] == {
            "ociVersion": seen[kind]["ociVersion"], "id": id, "status": status, "bundle": str(bundle), "annotations": {"k": "v"},
            "pid": 1 if kind in ("createContainer", INSIDE) else pid,
        }, kind  # fmt: skip
    assert seen["poststop"]["status"] == "stopped" and "pid" not in seen["poststop"]


def test_where_they_run(pyrunc, make_bundle, no_leaks):
    look = "pwd; readlink /proc/$$/ns/mnt /proc/$$/ns/net /proc/$$/ns/uts"
    hooks = {kind: [shell("{ %s; } >{b}/where-%s" % (look, kind))] for kind in KINDS if kind != INSIDE}
    hooks["createContainer"] = [shell("{ %s; } >{b}/where-createContainer" % look.replace("$$", "self"))]
    hooks[INSIDE] = [shell("{ pwd; hostname; id -u; } >/tmp/where")]
    bundle = with_hooks(make_bundle, {"/process/cwd": "/tmp"}, **hooks)
    id = pyrunc.create(bundle)
    pid = pyrunc.state(id)["pid"]
    spaces = [os.readlink("/proc/%d/ns/%s" % (pid, name)) for name in ("mnt", "net", "uts")]
    pyrunc.start(id)
    pyrunc.ok("delete", "--force", id)
    ours = [os.readlink("/proc/self/ns/" + name) for name in ("mnt", "net", "uts")]
    for kind in ("prestart", "createRuntime", "poststart", "poststop"):
        assert (bundle.path / ("where-" + kind)).read_text().split() == [str(bundle), *ours], kind
    assert (bundle.path / "where-createContainer").read_text().split() == [str(bundle.rootfs), *spaces]
    assert (bundle.rootfs / "tmp/where").read_text().split() == ["/tmp", "tested", "0"]


def environ(target, **more):
    """Copies the environment of the hook; not with a shell, which would add to it."""
    return {"path": "/bin/dd", "args": ["dd", "if=/proc/self/environ", "of=" + target, "bs=64k"], **more}


@pytest.mark.parametrize("given", [None, [], ["ONLY=this"]])
def test_environments(pyrunc, make_bundle, no_leaks, given):
    more = {} if given is None else {"env": given}
    hooks = {kind: [environ("{b}/env-" + kind, **more)] for kind in KINDS if kind != INSIDE}
    hooks[INSIDE] = [environ("/tmp/env", **more)]
    bundle = with_hooks(make_bundle, {"/process/env": IMAGE_ENV}, **hooks)
    id = pyrunc.create(bundle, env=HOST_ENV)
    pyrunc.start(id, env=HOST_ENV)
    pyrunc.ok("delete", "--force", id, env=HOST_ENV)
    for kind in KINDS:
        path = bundle.rootfs / "tmp/env" if kind == INSIDE else bundle.path / ("env-" + kind)
        found = dict(item.split("=", 1) for item in path.read_bytes().decode().split("\0") if item)
        if given:
            assert found == {"ONLY": "this"}, kind
        elif kind == INSIDE:
            assert found == {"PATH": "/bin", "LD_PRELOAD": "/x.so", "IMAGE": "1", "HOME": "/root"}
        elif given == []:
            assert found == {}, kind
        else:
            found.pop("PWD", None)  # set by the shell of the launcher
            assert found == {"PATH": HOST_ENV["PATH"], "HOSTSECRET": "1"}, kind


def test_no_descriptors_except_the_streams(pyrunc, make_bundle, no_leaks, tmp_path):
    extra = os.open("/etc", os.O_RDONLY)
    hooks = {kind: [shell("ls -1 /proc/self/fd >{b}/fds-%s" % kind)] for kind in KINDS if kind != INSIDE}
    bundle = with_hooks(make_bundle, **hooks, startContainer=[shell("ls -1 /proc/self/fd >/tmp/fds")])
    kept = dict.fromkeys(range(3, 6))
    for number in kept:
        os.dup2(extra, number + 50)
    id = pyrunc.create(bundle, None, "--preserve-fds", "0", pass_fds=[53, 54, 55])
    pyrunc.start(id, pass_fds=[53])
    pyrunc.ok("delete", "--force", id, pass_fds=[53])
    for number in kept:
        os.close(number + 50)
    os.close(extra)
    for kind in KINDS:
        path = bundle.rootfs / "tmp/fds" if kind == INSIDE else bundle.path / ("fds-" + kind)
        assert set(path.read_text().split()) <= {"0", "1", "2", "3"}, "3: the directory that ls reads (%s)" % kind


def test_the_network_is_there_for_runtime_hooks(pyrunc, make_bundle, no_leaks):
    script = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter -t $pid -n cat /sys/class/net/lo/flags /proc/net/dev >{b}/log"
    bundle = with_hooks(make_bundle, createRuntime=[shell(script)])
    id = pyrunc.create(bundle)
    assert any("lo:" in line for line in lines(bundle))
    pyrunc.ok("delete", "--force", id)


def test_a_container_hook_mounts_into_the_root(pyrunc, make_bundle, no_leaks):
    script = "mkdir -p mnt/seen && mount -t tmpfs -o size=1m hook mnt/seen && echo from the hook >mnt/seen/file"
    bundle = with_hooks(make_bundle, args=["/bin/cat", "/mnt/seen/file"], createContainer=[shell(script)])
    result = pyrunc.run(bundle)
    assert (result.code, result.out) == (0, "from the hook\n"), result


def test_the_cgroup_has_its_limits_before_the_hooks(pyrunc, make_bundle, no_leaks):
    script = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); cat /proc/$pid/cgroup >{b}/log"
    bundle = with_hooks(make_bundle, {"/linux/resources": {"pids": {"limit": 55}}}, createRuntime=[shell(script)])
    id = pyrunc.create(bundle)
    assert any(bundle.config["linux"]["cgroupsPath"] in line for line in lines(bundle))
    pyrunc.ok("delete", "--force", id)


# ---- failures

CAUSES = {
    "status": (shell("echo said; echo wrong >&2; exit 3"), "exit status 3, stdout: said, stderr: wrong"),
    "silent": ({"path": "/bin/false"}, "exit status 1, stdout: , stderr: "),
    "signal": (shell("kill -9 $$"), "signal: killed, stdout: , stderr: "),
    "time": (shell("sleep 100", timeout=1), "hook ran past specified timeout of 1.0s"),
}


@pytest.mark.parametrize("kind", KINDS[:3])
@pytest.mark.parametrize("cause", ["status", "time"])
def test_a_failure_during_create_undoes_everything(pyrunc, make_bundle, no_leaks, kind, cause):
    hook, words = CAUSES[cause]
    stop = [shell("cat >{b}/state-poststop; echo stopped >>{b}/log"), shell("echo stopped >>{b}/log")]
    bundle = with_hooks(make_bundle, **{kind: [shell("echo first >>{b}/log"), hook, shell("echo third >>{b}/log")], "poststop": stop})
    id = pyrunc.new_id()
    result = pyrunc.call("create", "--bundle", bundle, id)
    assert result.code == 1 and result.out == ""
    assert "error running %s hook #1: %s" % (kind, words) in result.said and "/hooks/%s/1" % kind in result.said, result
    assert lines(bundle) == ["first", "stopped", "stopped"]
    state = states(bundle)["poststop"]
    assert state["status"] == "stopped" and "pid" not in state
    assert pyrunc.call("state", id).code == 1 and no_leaks.left() == {}


@pytest.mark.parametrize("cause", ["silent", "signal"])
def test_words_of_a_failure(pyrunc, make_bundle, no_leaks, cause):
    hook, words = CAUSES[cause]
    result = pyrunc.run(with_hooks(make_bundle, createRuntime=[hook]))
    assert result.code == 1 and "error running createRuntime hook #0: " + words in result.said, result


@pytest.mark.parametrize("kind", ["prestart", "createContainer"])
def test_a_missing_program(pyrunc, make_bundle, no_leaks, kind):
    result = pyrunc.run(with_hooks(make_bundle, **{kind: [{"path": "/no/hook"}]}))
    assert result.code == 1 and "error running %s hook #0: fork/exec /no/hook: no such file or directory" % kind in result.said, result


def test_a_missing_program_inside(pyrunc, make_bundle, no_leaks):
    bundle = with_hooks(make_bundle, startContainer=[{"path": "/no/hook"}])
    id = pyrunc.create(bundle)
    result = pyrunc.call("start", id)
    assert result.code == 1 and "error running startContainer hook #0: fork/exec /no/hook: no such file or directory" in result.said, result
    pyrunc.ok("delete", "--force", id)


@pytest.mark.parametrize("cause", ["status", "time"])
def test_a_failing_start_container_hook_ends_the_container(pyrunc, make_bundle, no_leaks, cause):
    hook, words = CAUSES[cause]
    after = {kind: [shell("echo %s >>{b}/log" % kind)] for kind in ("poststart", "poststop")}
    bundle = with_hooks(make_bundle, startContainer=[hook], **after)
    id = pyrunc.create(bundle)
    result = pyrunc.call("start", id)
    assert result.code == 1 and "error running startContainer hook #0: " + words in result.said, result
    assert pyrunc.call("state", id).code == 1 and lines(bundle) == ["poststop"]
    pyrunc.ok("delete", "--force", id)
    assert lines(bundle) == ["poststop"], "they are not run again"


def test_a_failing_poststart_hook_ends_the_container(pyrunc, make_bundle, no_leaks):
    bundle = with_hooks(make_bundle, poststart=[CAUSES["status"][0]], poststop=[shell("echo poststop >>{b}/log")])
    id = pyrunc.create(bundle)
    result = pyrunc.call("start", id)
    assert result.code == 1 and "error running poststart hook #0: exit status 3" in result.said, result
    assert pyrunc.call("state", id).code == 1 and lines(bundle) == ["poststop"]


def test_failing_poststop_hooks_do_not_stop_the_deletion(pyrunc, make_bundle, no_leaks, tmp_path):
    bundle = with_hooks(make_bundle, poststop=[CAUSES["status"][0], shell("echo second >>{b}/log")])
    id = pyrunc.create(bundle)
    result = pyrunc.call("delete", "--force", id, globals=["--debug", "--log", tmp_path / "log", "--log-format", "json"])
    assert result.code == 0 and lines(bundle) == ["second"]
    assert any("error running poststop hook #0: exit status 3" in line["msg"] for line in harness.first_error(tmp_path / "log"))


def test_a_deleted_bundle_does_not_stop_poststop(pyrunc, make_bundle, no_leaks, scratch):
    bundle = with_hooks(make_bundle, poststop=[shell("pwd >%s/after" % scratch)])
    id = pyrunc.create(bundle)
    moved = bundle.path.rename(bundle.path.with_name(bundle.path.name + "-moved"))
    pyrunc.ok("delete", "--force", id)
    moved.rename(bundle.path)
    assert (scratch / "after").read_text() == "/\n"


def test_the_image_has_no_effect_on_host_programs(pyrunc, make_bundle, no_leaks):
    """CVE-2025-23266: LD_PRELOAD from the image, a library in the rootfs, and the rootfs as working directory."""
    script = "cat /proc/self/maps >{b}/maps-%s"
    bundle = with_hooks(
        make_bundle, {"/process/env": ["PATH=/bin", "LD_PRELOAD=./evil.so", "LD_LIBRARY_PATH=."]},
        **{kind: [shell(script % kind)] for kind in ("prestart", "createContainer", "poststart", "poststop")},
    )  # fmt: skip
    (bundle.rootfs / "evil.so").write_bytes(open("/lib/x86_64-linux-gnu/libc.so.6", "rb").read() if os.uname().machine == "x86_64" else b"")
    id = pyrunc.create(bundle)
    pyrunc.start(id)
    pyrunc.ok("delete", "--force", id)
    for kind in ("prestart", "createContainer", "poststart", "poststop"):
        assert "evil" not in (bundle.path / ("maps-" + kind)).read_text(), kind


# ---- hooks and the runtime itself


def test_a_hook_asks_for_the_state(pyrunc, make_bundle, no_leaks):
    id = pyrunc.new_id()
    command = "%s --root %s state %s >{b}/log 2>&1; %s --root %s delete --force %s 2>{b}/refused; echo $? >>{b}/refused" % (
        pyrunc.path, pyrunc.root, id, pyrunc.path, pyrunc.root, id,
    )  # fmt: skip
    bundle = with_hooks(make_bundle, createRuntime=[shell("env -u ENV " + "sh -c '%s'" % command)])
    pyrunc.create(bundle, id)
    state = json.loads("\n".join(lines(bundle)))
    assert state["id"] == id and state["status"] == "creating"
    assert (bundle.path / "refused").read_text().endswith("\n1\n"), "and delete did not remove the container while it was being created"
    pyrunc.ok("delete", "--force", id)


def background(runtime, *args):
    null = subprocess.DEVNULL
    return subprocess.Popen(runtime.argv(*args), stdin=null, stdout=null, stderr=null, env=runtime.env)


def test_sigkill_of_create_ends_its_hook(pyrunc, make_bundle, no_leaks):
    bundle = with_hooks(make_bundle, createRuntime=[shell("echo $$ >{b}/alive; exec sleep 1000")])
    harness.fifo(bundle.path / "alive")
    id = pyrunc.new_id()
    process = background(pyrunc, "create", "--bundle", bundle, id)
    (pid,) = harness.lines_of(bundle.path / "alive")
    with harness.Watched(int(pid)) as hook:
        process.kill()
        process.wait()
        hook.wait()
    pyrunc.ok("delete", "--force", id)


def test_sigterm_of_create_ends_its_hook_and_undoes(pyrunc, make_bundle, no_leaks):
    bundle = with_hooks(make_bundle, createRuntime=[shell("echo $$ >{b}/alive; sleep 1000; :")])
    harness.fifo(bundle.path / "alive")
    id = pyrunc.new_id()
    process = background(pyrunc, "create", "--bundle", bundle, id)
    (pid,) = harness.lines_of(bundle.path / "alive")
    with harness.Watched(int(pid)) as hook:
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
        hook.wait()
    assert pyrunc.call("state", id).code == 1


def test_results_of_hooks_are_kept(pyrunc, make_bundle, no_leaks):
    hooks = {"prestart": [shell("echo one")], "createRuntime": [shell("echo two >&2")], "createContainer": [shell("echo three")]}
    bundle = with_hooks(make_bundle, **hooks, startContainer=[{"path": "/bin/true"}], poststart=[{"path": "/bin/true"}])
    id = pyrunc.create(bundle)
    pyrunc.start(id)
    saved = harness.saved_state(pyrunc, id)["hooks"]
    assert [(h["kind"], h["index"], h["code"], h["stdout"], h["stderr"]) for h in saved] == [
        ("prestart", 0, 0, "one", ""), ("createRuntime", 0, 0, "", "two"), ("createContainer", 0, 0, "three", ""),
        ("startContainer", 0, 0, "", ""), ("poststart", 0, 0, "", ""),
    ]  # fmt: skip
    assert all(h["ms"] >= 0 and h["ended"] == "exit" for h in saved)
    pyrunc.ok("delete", "--force", id)


def test_start_container_hooks_without_a_process(pyrunc, make_bundle, no_leaks):
    """Such a container can be created but never started (runtime-spec, config.md#process)."""
    bundle = with_hooks(make_bundle, startContainer=[{"path": "/bin/true"}]).patch({"/process": harness.ABSENT})
    id = pyrunc.create(bundle)
    assert pyrunc.state(id)["status"] == "created"
    failed = pyrunc.call("start", id)
    assert failed.code == 1 and "process property must not be empty" in failed.err, failed
    pyrunc.ok("delete", "--force", id)


@pytest.mark.parametrize("nnp", [True, False])
def test_start_container_hooks_are_under_the_filter(pyrunc, make_bundle, no_leaks, nnp):
    """They are code of the container, no matter when the program itself gets the filter. Docker's profile answers clone3 with ENOSYS, and a
    profile may only allow execve."""
    rules = [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["clone3", "execveat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    ]
    changes = {"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}, "/process/noNewPrivileges": nnp}
    command = "mkdir /tmp/h && echo made >/tmp/answer || echo denied >/tmp/answer; grep -w Seccomp: /proc/self/status >>/tmp/answer"
    bundle = with_hooks(make_bundle, changes, ["/bin/cat", "/tmp/answer"], startContainer=[shell(command)])
    result = pyrunc.run(bundle)
    assert result.out == "denied\nSeccomp:\t2\n", result
    assert not (bundle.rootfs / "tmp/h").exists()


def test_start_container_hooks_have_the_rights_of_the_program(pyrunc, make_bundle, no_leaks):
    changes = {"/process/user": {"uid": 7, "gid": 8}, "/process/capabilities": {}}
    copy = {"path": "/bin/dd", "args": ["dd", "if=/proc/self/status", "of=/tmp/status", "bs=64k"]}
    bundle = with_hooks(make_bundle, changes, ["/bin/cat", "/tmp/status"], startContainer=[copy])
    (bundle.rootfs / "tmp").chmod(0o1777)
    seen = dict(line.split(":\t", 1) for line in pyrunc.run(bundle).out.splitlines() if ":\t" in line)
    assert seen["Uid"].split() == ["7"] * 4 and seen["Gid"].split() == ["8"] * 4 and int(seen["CapEff"], 16) == 0
    assert int(seen["SigIgn"], 16) == int(seen["SigBlk"], 16) == 0
