"""podman and conmon: what their users get to see. conmon starts the runtime, podman itself starts, kills and deletes."""

import contextlib
import json
import os

import pytest

from callers import IMAGE, gone
from sandbox import BASE, hierarchies, wait_until

PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
}


@contextlib.contextmanager
def running(podman, *words, command=("sleep", "1000"), **options):
    """A detached container, removed by force at the end; gives its id."""
    name = podman.run("-d", *words, IMAGE, *command, **options).ok().out.strip()
    try:
        yield name
    finally:
        podman("rm", "--force", "--time=0", name).ok()


def inspect(podman, name, template):
    return podman("inspect", "--format", template, name).ok().out.strip()


def status_of(podman, *words):
    """A line of /proc/self/status as seen by a container's process."""
    key, *words = words
    text = podman.run(*words, IMAGE, "cat", "/proc/self/status").ok().out
    return next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith(key + ":"))


def test_hello(podman):
    result = podman.run(IMAGE, "echo", "hello").ok()
    assert result.out == "hello\n"


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_exit_status(podman, status):
    podman.run(IMAGE, "sh", "-c", f"exit {status}").exits(status)


@pytest.mark.parametrize(("status", "command"), [
    (127, "/no/such/file"), (127, "nosuch"), (126, "/etc/passwd"), (126, "/tmp"),
], ids=["missing path", "not in PATH", "not executable", "a directory"])
def test_command_that_cannot_run(podman, status, command):
    result = podman.run(IMAGE, command).exits(status)
    assert result.out == "" and f'exec: "{command}"' in result.err, result


def test_error_text_without_json(podman, world):
    """A runtime whose name podman doesn't know gets no --log: what it says on stderr must still give 127 and be readable."""
    other = f"{BASE}/other-runtime"
    world.write(other, f'#!/bin/sh\nexec "{podman.runtime}" "$@"\n', 0o755)
    result = podman.run(IMAGE, "/no/such/file", runtime=other).exits(127)
    assert "/no/such/file" in result.err and "Traceback" not in result.err


def test_second_failure_of_the_same_container(podman):
    """podman appends to one log for each container, so from the second failure on it shows conmon's copy of stderr."""
    name = podman("create", *podman.create_options("none"), IMAGE, "/no/such/file").ok().out.strip()
    try:
        for _ in range(2):
            result = podman("start", name)
            assert result.status == 127 or result.status == 125, result
            assert "/no/such/file" in result.err, result
    finally:
        podman("rm", "--force", name).ok()


def test_user(podman):
    assert "uid=1000(app) gid=1000(app)" in podman.run("--user=1000:1000", IMAGE, "id").ok().out
    assert "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)" in podman.run("--user=app", IMAGE, "id").ok().out


def test_additional_groups(podman):
    assert podman.run("--user=1000:1000", "--group-add=2000", "--group-add=3000", IMAGE, "id", "-G").ok().out == "1000 2000 3000\n"


def test_environment_and_home(podman):
    out = podman.run("--env=COLOUR=blue", "--user=app", IMAGE, "env").ok().out.splitlines()
    assert "COLOUR=blue" in out and "HOME=/home/app" in out
    assert not [line for line in out if line.startswith(("_OCI_", "LC_CTYPE", "XDG_RUNTIME_DIR"))]


def test_working_directory(podman):
    assert podman.run("--workdir=/home/app", "--user=app", IMAGE, "pwd").ok().out == "/home/app\n"


def test_umask(podman):
    assert podman.run("--umask=0027", IMAGE, "sh", "-c", "umask").ok().out == "0027\n"


def test_hostname(podman):
    assert podman.run("--hostname=inside", IMAGE, "hostname").ok().out == "inside\n"


def test_volume(podman, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    script = "cat /data/in; echo back > /data/out"
    assert podman.run(f"--volume={BASE}/volume:/data", IMAGE, "sh", "-c", script).ok().out == "from outside\n"
    assert world.read(f"{BASE}/volume/out") == "back\n"


def test_volume_read_only(podman, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    result = podman.run(f"--volume={BASE}/volume:/data:ro", IMAGE, "touch", "/data/x").exits(1)
    assert "Read-only file system" in result.err


def test_volume_named(podman):
    podman("volume", "create", "kept").ok()
    try:
        podman.run("--volume=kept:/data", IMAGE, "sh", "-c", "echo kept > /data/x").ok()
        assert podman.run("--volume=kept:/data", IMAGE, "cat", "/data/x").ok().out == "kept\n"
    finally:
        podman("volume", "rm", "kept").ok()


def test_volume_overlay(podman, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    out = podman.run(f"--volume={BASE}/volume:/data:O", IMAGE, "sh", "-c", "echo changed > /data/in; cat /data/in").ok().out
    assert out == "changed\n" and world.read(f"{BASE}/volume/in") == "from outside\n"


def test_volume_of_a_file(podman, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    assert podman.run(f"--volume={BASE}/volume/in:/etc/made/up.conf:ro", IMAGE, "cat", "/etc/made/up.conf").ok().out == "from outside\n"


def test_read_only(podman):
    result = podman.run("--read-only", IMAGE, "sh", "-c", "touch /tmp/x /run/x && echo tmp; touch /x").exits(1)
    assert result.out == "tmp\n" and "Read-only file system" in result.err


def test_tmpfs(podman):
    out = podman.run("--tmpfs=/scratch:size=3m,mode=0700", IMAGE, "sh", "-c", "grep /scratch /proc/mounts; stat -c %a /scratch").ok().out
    assert "tmpfs" in out and "size=3072k" in out and out.endswith("700\n")


def test_tmpfs_copies_the_image(podman):
    assert podman.run("--tmpfs=/www", IMAGE, "cat", "/www/index.html").ok().out == "served\n"


def test_ulimit(podman):
    out = podman.run("--ulimit=nofile=512:600", "--ulimit=core=0:0", IMAGE, "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c").ok().out
    assert out == "512\n600\n0\n"


def test_capabilities(podman):
    assert int(status_of(podman, "CapEff", "--cap-drop=all"), 16) == 0
    assert int(status_of(podman, "CapEff", "--cap-drop=all", "--cap-add=chown", "--cap-add=net_raw"), 16) == 1 << 0 | 1 << 13
    assert int(status_of(podman, "CapEff", "--user=1000", "--cap-add=net_raw"), 16) == 1 << 13


def test_no_new_privileges(podman):
    assert status_of(podman, "NoNewPrivs") == "0"
    assert status_of(podman, "NoNewPrivs", "--security-opt=no-new-privileges") == "1"


def test_seccomp_default(podman):
    assert status_of(podman, "Seccomp") == "2"
    assert status_of(podman, "Seccomp", "--security-opt=seccomp=unconfined") == "0"


def test_seccomp_profile(podman, world):
    world.write(f"{BASE}/profile.json", json.dumps(PROFILE))
    result = podman.run(f"--security-opt=seccomp={BASE}/profile.json", IMAGE, "mkdir", "/tmp/x").exits(1)
    assert "No space left on device" in result.err


def test_masked_and_read_only_paths(podman):
    script = "head -c 1 /proc/keys | wc -c; ls -A /proc/scsi /sys/firmware 2>/dev/null | grep -v :; echo 1 > /proc/sys/kernel/shmall"
    result = podman.run(IMAGE, "sh", "-c", script).exits(1)
    assert result.out.split() == ["0"] and "Read-only file system" in result.err


def test_privileged(podman):
    assert int(status_of(podman, "CapEff", "--privileged"), 16) & 1 << 21
    assert podman.run("--privileged", IMAGE, "sh", "-c", "mount -t tmpfs none /mnt 2>&1 || mkdir /mnt && mount -t tmpfs none /mnt").ok()


def test_devices(podman):
    script = "echo x > /dev/nothing; stat -c '%t %T' /dev/nothing"
    assert podman.run("--device=/dev/null:/dev/nothing:rw", IMAGE, "sh", "-c", script).ok().out == "1 3\n"


def test_standard_devices(podman):
    script = "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done"
    script += "; readlink /dev/fd; readlink /dev/ptmx; head -c 2 /dev/zero | wc -c"
    assert podman.run(IMAGE, "sh", "-c", script).ok().out.split() == ["/proc/self/fd", "pts/ptmx", "2"]


def test_tty(podman):
    result = podman.run("--tty", IMAGE, "sh", "-c", "tty; test -t 1 && test -t 2 && test -c /dev/console && stat -c %u,%t /dev/pts/0").ok()
    assert result.out.split() == ["/dev/pts/0", "0,88"]


def test_interactive_tty(podman, world):
    result = world.run_on_tty(["env", f"CONTAINERS_CONF={BASE}/containers.conf", f"CONTAINERS_STORAGE_CONF={BASE}/storage.conf",
                               *podman.argv("run", "--rm", "-it", *podman.create_options("none"), IMAGE, "sh", "-c", "tty; exit 5")])
    assert result.status == 5 and "/dev/pts/0" in result.out, result


def test_standard_input(podman):
    assert podman.run("--interactive", IMAGE, "cat", stdin="through a pipe\n").ok().out == "through a pipe\n"


def test_broken_pipe_ends_the_writer(podman):
    """conmon leaves SIGPIPE ignored; a container has to start with it at its default."""
    assert int(status_of(podman, "SigIgn"), 16) == 0 and int(status_of(podman, "SigBlk"), 16) == 0
    assert podman.run(IMAGE, "sh", "-c", "yes | head -n 1").ok().out == "y\n"


def test_no_descriptors_leak(podman):
    assert podman.run(IMAGE, "ls", "/proc/self/fd").ok().out.split() == ["0", "1", "2", "3"], "3 is the directory being read"


def test_preserved_descriptors(podman, world):
    script = 'exec 3< /etc/passwd; exec "$@"'
    words = podman.argv("run", "--rm", "--preserve-fds=1", *podman.create_options("none"), IMAGE, "sh", "-c", "head -c 4 <&3")
    assert world.run(["sh", "-c", script, "sh", *words], env=podman.env).ok().out == "root"


def test_logs(podman):
    with running(podman, command=("sh", "-c", "echo out; echo err >&2; exec sleep 1000")) as name:
        wait_until("both lines are logged", lambda: podman("logs", name).text.count("\n") >= 2)
        result = podman("logs", name).ok()
        assert result.out == "out\n" and result.err.endswith("err\n")


def test_stop(podman):
    script = "trap 'exit 3' TERM; echo set; while :; do sleep 0.05; done"
    with running(podman, command=("sh", "-c", script)) as name:
        wait_until("the trap is set", lambda: podman("logs", name).out)
        podman("stop", "--time=20", name).ok()
        assert inspect(podman, name, "{{.State.Status}} {{.State.ExitCode}}") == "exited 3"


def test_stop_by_force(podman):
    with running(podman) as name:
        podman("stop", "--time=0", name).ok()
        assert inspect(podman, name, "{{.State.ExitCode}}") == "137"


def test_kill(podman):
    with running(podman, command=("sh", "-c", "trap 'exit 4' USR1; echo set; while :; do sleep 0.05; done")) as name:
        wait_until("the trap is set", lambda: podman("logs", name).out)
        podman("kill", "--signal=USR1", name).ok()
        assert podman("wait", name).ok().out == "4\n"


def test_kill_with_a_shared_process_namespace(podman):
    with running(podman, "--pid=host", command=("sh", "-c", "sleep 1001 & echo started; exec sleep 1000")) as name:
        wait_until("both have started", lambda: podman("logs", name).out)
        podman("kill", name).ok()
        assert podman("wait", name).ok().out == "137\n"


def test_remove(podman):
    name = podman.run("-d", IMAGE, "sleep", "1000").ok().out.strip()
    assert podman("rm", name).status != 0
    podman("rm", "--force", "--time=0", name).ok()
    assert podman("inspect", name).status != 0


def test_created_container_is_removed(podman):
    name = podman("create", *podman.create_options("none"), IMAGE, "true").ok().out.strip()
    podman("init", name).ok()
    assert inspect(podman, name, "{{.State.Status}}") == "initialized"
    podman("rm", "--force", "--time=0", name).ok()


def test_created_container_stops_at_once(podman):
    """A created container's init dies of TERM although it is the first process of its namespace."""
    name = podman("create", *podman.create_options("none"), IMAGE, "true").ok().out.strip()
    try:
        podman("init", name).ok()
        assert podman("start", name).ok()
        assert podman("wait", name).ok().out == "0\n"
    finally:
        podman("rm", "--force", "--time=0", name).ok()


def test_inspect(podman, world):
    with running(podman) as name:
        state, pid = inspect(podman, name, "{{.State.Status}} {{.State.Pid}}").split()
        assert state == "running" and int(pid) in world.processes()
        assert world.read(f"/proc/{pid}/comm") == "sleep\n"


def test_restart(podman):
    with running(podman) as name:
        before = inspect(podman, name, "{{.State.Pid}}")
        podman("restart", "--time=0", name).ok()
        state, pid = inspect(podman, name, "{{.State.Status}} {{.State.Pid}}").split()
        assert state == "running" and pid != before


def test_start_again(podman):
    name = podman("create", *podman.create_options("none"), IMAGE, "sh", "-c", "echo once >> /count; cat /count").ok().out.strip()
    try:
        assert podman("start", "--attach", name).ok().out == "once\n"
        assert podman("start", "--attach", name).ok().out == "once\nonce\n"
    finally:
        podman("rm", "--force", name).ok()


def test_network_none(podman):
    out = podman.run(IMAGE, "sh", "-c", "ls /sys/class/net; ip link show lo").ok().out
    assert "lo" in out.split("\n")[:4] and "eth0" not in out


def test_network_bridge(podman):
    out = podman.run(IMAGE, "sh", "-c", "ip -4 addr show eth0", network="podman").ok().out
    assert "inet 10.88." in out


def test_network_host(podman, world):
    inside = podman.run(IMAGE, "readlink", "/proc/self/ns/net", network="host").ok().out
    assert inside == world.run(["readlink", "/proc/self/ns/net"]).out


def test_host_namespaces(podman, world):
    words = ["--pid=host", "--ipc=host", "--uts=host", "--cgroupns=host"]
    script = "for name in pid ipc uts net; do readlink /proc/self/ns/$name; done"
    inside = podman.run(*words, IMAGE, "sh", "-c", script, network="host").ok().out
    assert inside == world.run(["sh", "-c", script]).out and inside.count("\n") == 4


def test_user_namespace(podman):
    words = ["--uidmap=0:100000:5000", "--gidmap=0:100000:5000"]
    out = podman.run(*words, IMAGE, "sh", "-c", "cat /proc/self/uid_map; id -u; touch /made && stat -c %u /made").ok().out
    assert out.split() == ["0", "100000", "5000", "0", "0"]


def test_pod(podman, world):
    pod = podman("pod", "create", "--network=none", f"--cgroup-parent=/{world.cgroup}", "--share=net,ipc,uts", "--infra-command=sleep 1000",
                 f"--infra-image={IMAGE}").ok().out.strip()
    try:
        script = "for name in net ipc uts; do readlink /proc/self/ns/$name; done"
        first, second = (podman("run", "--rm", f"--pod={pod}", IMAGE, "sh", "-c", script).ok().out for _ in range(2))
        assert first == second and len(first.split()) == 3
    finally:
        podman("pod", "rm", "--force", "--time=0", pod).ok()
        remove_pod_cgroup(world, pod)


def remove_pod_cgroup(world, pod):
    """podman makes its pod's cgroup in every v1 hierarchy but doesn't remove it from all of them. Fails if something is in it."""
    for hierarchy in hierarchies():
        if os.path.isdir(f"{hierarchy}/{world.cgroup}/{pod}"):
            os.rmdir(f"{hierarchy}/{world.cgroup}/{pod}")


def test_init(podman):
    if not os.path.exists("/usr/bin/tini-static"):
        pytest.skip("not installed: tini (static)")
    out = podman.run("--init", "--init-path=/usr/bin/tini-static", IMAGE, "ps", "-o", "pid,comm").ok().out
    assert out.split()[2:4] == ["1", "podman-init"] and "ps" in out


def test_systemd_mode(podman):
    script = "grep -c -e ' /run ' -e ' /run/lock ' -e ' /tmp ' -e ' /var/log/journal ' /proc/self/mounts; echo ${container_uuid:+uuid}"
    assert podman.run("--systemd=always", IMAGE, "sh", "-c", script).ok().out.split() == ["4", "uuid"]


def test_sysctl(podman):
    assert podman.run("--sysctl=kernel.shmmax=7654321", IMAGE, "cat", "/proc/sys/kernel/shmmax").ok().out == "7654321\n"


def test_shared_memory_size(podman):
    assert "size=2048k" in podman.run("--shm-size=2m", IMAGE, "grep", " /dev/shm ", "/proc/mounts").ok().out


def test_limits(podman, world):
    with running(podman, "--memory=64m", "--pids-limit=40", "--cpu-shares=300", "--cpuset-cpus=0") as name:
        assert cgroup_value(world, name, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
        assert cgroup_value(world, name, "pids", "pids.max", "pids.max") == "40"
        assert cgroup_value(world, name, "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"


def cgroup_value(world, name, controller, v1, v2):
    """A file of a container's cgroup, under either version."""
    place = f"/sys/fs/cgroup/{controller}/{world.cgroup}/libpod-{name}/{v1}"
    if not os.path.exists(os.path.dirname(place)):
        place = f"/sys/fs/cgroup/{world.cgroup}/libpod-{name}/{v2}"
    with open(place) as file:
        return file.read().strip()


def test_out_of_memory(podman):
    result = podman.run("--memory=24m", "--memory-swap=24m", IMAGE, "sh", "-c", "head -c 100m /dev/zero | tail -c 90m > /dev/null")
    assert result.status == 137 or "Killed" in result.text, result


def test_no_cgroups(podman):
    """--cgroups=disabled: the runtime is told --cgroup-manager disabled, which only crun's followers know."""
    if os.path.basename(podman.runtime) == "runc":
        pytest.skip("runc doesn't know --cgroup-manager, which podman sends for --cgroups=disabled")
    assert podman("run", "--rm", "--network=none", "--cgroups=disabled", IMAGE, "echo", "hello").ok().out == "hello\n"


def test_hooks(podman, world):
    """OCI hooks from a directory; the state comes on their standard input."""
    script = f'#!/bin/sh\ncat > {BASE}/hooks-seen/$1\necho "$PWD" >> {BASE}/hooks-seen/$1\n'
    world.write(f"{BASE}/hook", script, 0o755)
    world.write(f"{BASE}/hooks-seen/.keep", "")
    stages = ["prestart", "createRuntime", "poststart", "poststop"]
    for stage in stages:
        what = {"path": f"{BASE}/hook", "args": ["free text", stage]}
        hook = {"version": "1.0.0", "hook": what, "when": {"always": True}, "stages": [stage]}
        world.write(f"{BASE}/hooks.d/{stage}.json", json.dumps(hook))
    podman(f"--hooks-dir={BASE}/hooks.d", "run", "--rm", *podman.create_options("none"), "--name=hooked", IMAGE, "true").ok()
    gone(world)
    for stage in stages:
        text = world.read(f"{BASE}/hooks-seen/{stage}")
        state, _ = json.JSONDecoder().raw_decode(text)
        assert state["id"] and state["bundle"] and state["annotations"], text
        assert (state["status"] == "stopped") == (stage == "poststop"), text


def test_failing_hook(podman, world):
    world.write(f"{BASE}/bad-hook", "#!/bin/sh\necho what went wrong >&2\nexit 3\n", 0o755)
    hook = {"version": "1.0.0", "hook": {"path": f"{BASE}/bad-hook"}, "when": {"always": True}, "stages": ["createRuntime"]}
    world.write(f"{BASE}/bad-hooks.d/bad.json", json.dumps(hook))
    result = podman(f"--hooks-dir={BASE}/bad-hooks.d", "run", "--rm", *podman.create_options("none"), IMAGE, "true").exits(126)
    assert "hook" in result.err


def test_rootfs(podman, world):
    """A root file system by its path, without an image."""
    world.run(["mkdir", "-p", f"{BASE}/plain-root"]).ok()
    world.run(["tar", "-xf", f"{BASE}/rootfs.tar", "-C", f"{BASE}/plain-root"]).ok()
    assert podman.run("--rootfs", f"{BASE}/plain-root", "echo", "hello").ok().out == "hello\n"


def test_many_at_once(podman, world):
    words = ["run", "--rm", *podman.create_options("none"), IMAGE]
    commands = [podman.argv(*words, "sh", "-c", f"echo {number}; exit {number}") for number in range(6)]
    for number, result in enumerate(world.run_together(commands, env=podman.env)):
        assert result.exits(number).out == f"{number}\n"


def test_notify_socket(podman):
    """--sdnotify=container: podman gives the container a socket of systemd's by its environment and a bind mount."""
    out = podman.run("--sdnotify=container", "--env=NOTIFY_SOCKET=/run/nothing", IMAGE, "sh", "-c", "echo ready").ok().out
    assert out == "ready\n"


def test_attached_to_the_users_own_streams(podman):
    """--log-driver=passthrough: the container has podman's own standard streams, without pipes between."""
    assert podman.run("--log-driver=passthrough", IMAGE, "echo", "hello").ok().out == "hello\n"


def test_volume_with_mapped_ids(podman, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    features = json.loads(world.run([podman.runtime, "features"]).ok().out)
    if not features["linux"].get("mountExtensions", {}).get("idmap", {}).get("enabled"):
        pytest.skip("the runtime's features don't list id-mapped mounts")
    words = ["--uidmap=0:100000:5000", "--gidmap=0:100000:5000", f"--mount=type=bind,src={BASE}/volume,dst=/data,idmap"]
    assert podman.run(*words, IMAGE, "stat", "-c", "%u", "/data/in").ok().out == "0\n"


def test_copy_and_commit(podman, world):
    with running(podman) as name:
        world.write(f"{BASE}/copied", "copied\n")
        podman("cp", f"{BASE}/copied", f"{name}:/copied").ok()
        podman("commit", "--pause=false", name, "committed").ok()
    assert podman.run("committed", "cat", "/copied").ok().out == "copied\n"
    podman("rmi", "--force", "committed").ok()


def test_device_rules(podman):
    """Device rules are enforced: nothing but the standard devices may be opened, although a node may be made."""
    script = "mknod /tmp/mem c 1 1 && cat /tmp/mem; mknod /tmp/null c 1 3 && echo x > /tmp/null && echo written"
    result = podman.run("--cap-add=mknod", IMAGE, "sh", "-c", script).ok()
    assert "Operation not permitted" in result.err and result.out == "written\n"


def test_build(podman, world):
    world.write(f"{BASE}/podman-build/Containerfile", f"FROM {IMAGE}\nRUN echo built > /built && id -u\n")
    limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
    podman("build", "--network=none", "--isolation=oci", *limits, "--tag=built", f"{BASE}/podman-build").ok()
    assert podman.run("built", "cat", "/built").ok().out == "built\n"
    podman("rmi", "--force", "built").ok()


def test_garbage_binary(podman):
    result = podman.run(IMAGE, "/bin/garbage")
    assert result.status in (1, 126, 255), result
    assert "exec format error" in result.text.lower(), result


@pytest.mark.needs_exec
def test_exec(podman):
    with running(podman, "--user=app", "--env=COLOUR=blue") as name:
        assert podman("exec", name, "sh", "-c", "id -u; echo $COLOUR").ok().out == "1000\nblue\n"
        words = ["--user=0", "--env=COLOUR=red", "--workdir=/tmp"]
        assert podman("exec", *words, name, "sh", "-c", "id -u; echo $COLOUR; pwd").ok().out == "0\nred\n/tmp\n"
        assert podman("exec", "--interactive", name, "cat", stdin="piped").ok().out == "piped"


@pytest.mark.needs_exec
@pytest.mark.parametrize(("status", "command"), [(0, "true"), (9, "exit 9"), (137, "kill -9 $$")])
def test_exec_exit_status(podman, status, command):
    with running(podman) as name:
        podman("exec", name, "sh", "-c", command).exits(status)


@pytest.mark.needs_exec
@pytest.mark.parametrize(("status", "command"), [(127, "/no/such/file"), (127, "nosuch"), (126, "/etc/passwd")])
def test_exec_that_cannot_run(podman, status, command):
    with running(podman) as name:
        podman("exec", name, command).exits(status)


@pytest.mark.needs_exec
def test_exec_tty(podman):
    with running(podman) as name:
        out = podman("exec", "--tty", name, "sh", "-c", "tty; test -t 0 && test -t 1 && test -t 2 && echo all").ok().out
        assert out.split() == ["/dev/pts/0", "all"]


@pytest.mark.needs_exec
def test_exec_keeps_the_limits_of_the_container(podman):
    with running(podman, "--cap-drop=all", "--security-opt=no-new-privileges") as name:
        main = podman("exec", name, "cat", "/proc/1/status").ok().out
        other = podman("exec", name, "cat", "/proc/self/status").ok().out
        for key in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp"):
            lines = [[line for line in text.splitlines() if line.startswith(key + ":")] for text in (main, other)]
            assert lines[0] == lines[1]
        assert podman("exec", name, "cat", "/proc/self/cgroup").out == podman("exec", name, "cat", "/proc/1/cgroup").out


@pytest.mark.needs_exec
def test_exec_in_the_background(podman):
    with running(podman) as name:
        podman("exec", "--detach", name, "sh", "-c", "echo done > /tmp/done").ok()
        wait_until("the file is written", lambda: podman("exec", name, "cat", "/tmp/done").out == "done\n")


@pytest.mark.needs_exec
def test_top(podman):
    with running(podman) as name:
        assert "sleep 1000" in podman("top", name, "args").ok().out


@pytest.mark.needs_exec
def test_health_check(podman):
    with running(podman, "--health-cmd=test -e /tmp/well", "--health-interval=disable") as name:
        assert podman("healthcheck", "run", name).status == 1
        podman("exec", name, "touch", "/tmp/well").ok()
        podman("healthcheck", "run", name).ok()


@pytest.mark.needs_pause
def test_pause(podman):
    with running(podman) as name:
        podman("pause", name).ok()
        assert inspect(podman, name, "{{.State.Status}}") == "paused"
        podman("unpause", name).ok()
        assert inspect(podman, name, "{{.State.Status}}") == "running"


@pytest.mark.needs_pause
def test_remove_while_paused(podman):
    with running(podman) as name:
        podman("pause", name).ok()


@pytest.mark.needs_update
def test_update(podman, world):
    with running(podman, "--memory=64m") as name:
        podman("update", "--memory=96m", "--pids-limit=55", name).ok()
        assert cgroup_value(world, name, "memory", "memory.limit_in_bytes", "memory.max") == str(96 << 20)
        assert cgroup_value(world, name, "pids", "pids.max", "pids.max") == "55"


@pytest.mark.needs_update
@pytest.mark.needs_exec
def test_update_leaves_devices_alone(podman):
    """podman's resources carry a rule that denies every device; on an update it must not be applied."""
    with running(podman, "--memory=64m") as name:
        podman("update", "--memory=96m", name).ok()
        podman("exec", name, "sh", "-c", "echo x > /dev/null && head -c 1 /dev/zero > /dev/null").ok()


@pytest.mark.needs_checkpoint
def test_checkpoint_and_restore(podman):
    with running(podman, command=("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n > /tmp/n; sleep 0.05; done")) as name:
        wait_until("it counts", lambda: podman("cp", f"{name}:/tmp/n", "-").status == 0)
        podman("container", "checkpoint", name).ok()
        assert inspect(podman, name, "{{.State.Status}} {{.State.Checkpointed}}") == "exited true"
        podman("container", "restore", name).ok()
        assert inspect(podman, name, "{{.State.Status}}") == "running"
