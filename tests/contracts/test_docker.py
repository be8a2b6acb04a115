"""dockerd on containerd: docker's users, its bridge network (a prestart hook of libnetwork), its exit codes, its builder."""

import json
import os

import pytest

from callers import IMAGE
from docker_tools import inspect, running
from sandbox import BASE, wait_until


def status_of(docker, key, *words):
    """A line of /proc/self/status as seen by a container's process."""
    text = docker.run(*words, IMAGE, "cat", "/proc/self/status").ok().out
    return next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith(key + ":"))


def test_hello(docker):
    assert docker.run(IMAGE, "echo", "hello").ok().out == "hello\n"


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_exit_status(docker, status):
    docker.run(IMAGE, "sh", "-c", f"exit {status}").exits(status)


@pytest.mark.parametrize(
    ("status", "command"),
    [
        (127, "/no/such/file"),
        (127, "nosuch"),
        (126, "/etc/passwd"),
        (126, "/tmp"),
    ],
    ids=["missing path", "not in PATH", "not executable", "a directory"],
)
def test_command_that_cannot_run(docker, status, command):
    result = docker.run(IMAGE, command).exits(status)
    assert f'exec: "{command}"' in result.err and "unable to retrieve OCI runtime error" not in result.err, result


def test_any_other_failure(docker):
    """125: the runtime refuses, and not for want of the command."""
    result = docker.run("--sysctl=net.ipv4.ip_default_ttl=nonsense", IMAGE, "true").exits(125)
    assert "ip_default_ttl" in result.err, result


def test_killed(docker):
    with running(docker) as name:
        docker("kill", name).ok()
        assert docker("wait", name).ok().out == "137\n"


def test_network_bridge(docker):
    out = docker.run(IMAGE, "ip", "-4", "addr", "show", "eth0", network=None).ok().out
    assert "inet 172.31.250." in out


def test_published_port(docker, world):
    with running(docker, "--publish=127.0.0.1:18080:80", command=("httpd", "-f", "-h", "/www"), network=None):
        fetch = ["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:18080/index.html"]
        assert wait_until("the page comes", lambda: world.run(fetch).out) == "served\n"


def test_containers_reach_each_other(docker):
    docker("network", "create", "--subnet=172.31.251.0/24", "between").ok()
    try:
        with running(docker, "--name", "server", command=("httpd", "-f", "-h", "/www"), network="between"):
            script = "for n in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://172.31.251.2/index.html && break; sleep 0.2; done"
            assert docker.run(IMAGE, "sh", "-c", script, network="between").ok().out == "served\n"
    finally:
        docker("network", "rm", "between").ok()


def test_network_none(docker):
    assert "eth0" not in docker.run(IMAGE, "ls", "/sys/class/net").ok().out


def test_network_host(docker, world):
    inside = docker.run(IMAGE, "readlink", "/proc/self/ns/net", network="host").ok().out
    assert inside == world.run(["readlink", "/proc/self/ns/net"]).out


def test_network_of_another_container(docker):
    with running(docker, network=None) as name:
        inside = docker.run(IMAGE, "ip", "-4", "addr", "show", "eth0", network=f"container:{name}").ok().out
        assert "inet 172.31.250." in inside


def test_host_namespaces(docker, world):
    script = "for name in pid ipc uts net; do readlink /proc/self/ns/$name; done"
    inside = docker.run("--pid=host", "--ipc=host", "--uts=host", IMAGE, "sh", "-c", script, network="host").ok().out
    assert inside == world.run(["sh", "-c", script]).out


def test_logs(docker):
    with running(docker, command=("sh", "-c", "echo out; echo err >&2; exec sleep 1000")) as name:
        wait_until("both lines are logged", lambda: docker("logs", name).text.count("\n") == 2)
        result = docker("logs", name).ok()
        assert (result.out, result.err) == ("out\n", "err\n")


def test_stop(docker):
    with running(docker, command=("sh", "-c", "trap 'exit 3' TERM; echo set; while :; do sleep 0.05; done")) as name:
        wait_until("the trap is set", lambda: docker("logs", name).out)
        docker("stop", "--time=20", name).ok()
        assert inspect(docker, name, "{{.State.Status}} {{.State.ExitCode}}") == "exited 3"


def test_stop_by_force(docker):
    with running(docker) as name:
        docker("stop", "--time=0", name).ok()
        assert inspect(docker, name, "{{.State.ExitCode}}") == "137"


def test_restart(docker):
    """The same id is created again at once: directory and cgroup of the first must be gone."""
    with running(docker, network=None) as name:
        before = inspect(docker, name, "{{.State.Pid}}")
        docker("restart", "--time=0", name).ok()
        assert inspect(docker, name, "{{.State.Status}}") == "running" and inspect(docker, name, "{{.State.Pid}}") != before


def test_restart_policy(docker):
    with running(docker, "--restart=on-failure:2", command=("sh", "-c", "echo once more; exit 1")) as name:
        wait_until("it was started three times", lambda: docker("logs", name).out.count("once more") == 3)


def test_memory_limit(docker):
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    assert docker.run("--memory=64m", IMAGE, "sh", "-c", script).ok().out == f"{64 << 20}\n"


def test_limits(docker):
    script = "cd /sys/fs/cgroup; cat pids/pids.max cpu/cpu.cfs_quota_us cpuset/cpuset.cpus 2>/dev/null || cat pids.max cpu.max cpuset.cpus"
    out = docker.run("--pids-limit=40", "--cpus=0.5", "--cpuset-cpus=0", IMAGE, "sh", "-c", script).ok().out.split()
    assert out[0] == "40" and out[1] == "50000" and out[-1] == "0"


def test_out_of_memory(docker):
    script = "head -c 100m /dev/zero | tail -c 90m > /dev/null"
    with running(docker, "--memory=24m", "--memory-swap=24m", command=("sh", "-c", script)) as name:
        docker("wait", name).ok()
        wait_until("the daemon has heard of it", lambda: inspect(docker, name, "{{.State.OOMKilled}}") == "true")


def test_user(docker):
    assert "uid=1000(app) gid=1000(app)" in docker.run("--user=1000:1000", IMAGE, "id").ok().out
    assert docker.run("--user=app", "--group-add=3000", IMAGE, "sh", "-c", "id -G; echo $HOME").ok().out == "1000 2000 3000\n/home/app\n"


def test_working_directory_is_created(docker):
    assert docker.run("--workdir=/made/up", IMAGE, "pwd").ok().out == "/made/up\n"


def test_environment(docker):
    out = docker.run("--env=COLOUR=blue", "--hostname=inside", IMAGE, "sh", "-c", "env; hostname").ok().out.splitlines()
    assert "COLOUR=blue" in out and "HOME=/root" in out and out[-1] == "inside"
    assert not [line for line in out if line.startswith(("LC_CTYPE", "GOMAXPROCS", "TTRPC_ADDRESS", "NAMESPACE"))]


def test_read_only(docker):
    result = docker.run("--read-only", "--tmpfs=/scratch", IMAGE, "sh", "-c", "touch /scratch/x && echo scratch; touch /x").exits(1)
    assert result.out == "scratch\n" and "Read-only file system" in result.err


def test_capabilities(docker):
    assert int(status_of(docker, "CapEff", "--cap-drop=ALL"), 16) == 0
    assert int(status_of(docker, "CapEff", "--cap-drop=ALL", "--cap-add=CHOWN"), 16) == 1
    assert int(status_of(docker, "CapEff", "--user=1000"), 16) == 0


def test_no_new_privileges(docker):
    assert status_of(docker, "NoNewPrivs", "--security-opt=no-new-privileges") == "1"


def test_seccomp_default(docker):
    assert status_of(docker, "Seccomp") == "2"
    assert status_of(docker, "Seccomp", "--security-opt=seccomp=unconfined") == "0"


def test_privileged(docker):
    out = docker.run("--privileged", IMAGE, "sh", "-c", "ls /dev | wc -l; grep CapEff /proc/self/status").ok().out.split()
    assert int(out[0]) > 20 and int(out[2], 16) & 1 << 21


def test_tmpfs(docker):
    out = docker.run("--tmpfs=/scratch:size=3m,mode=0700", IMAGE, "sh", "-c", "grep /scratch /proc/mounts; stat -c %a /scratch").ok().out
    assert "size=3072k" in out and "noexec" in out and out.endswith("700\n")


def test_volume(docker, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    script = "cat /data/in; echo back > /data/out"
    assert docker.run(f"--volume={BASE}/volume:/data", IMAGE, "sh", "-c", script).ok().out == "from outside\n"
    assert world.read(f"{BASE}/volume/out") == "back\n"


def test_volume_read_only(docker, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    assert "Read-only file system" in docker.run(f"--volume={BASE}/volume:/data:ro", IMAGE, "touch", "/data/x").exits(1).err


def test_ulimit(docker):
    out = docker.run("--ulimit=nofile=512:600", IMAGE, "sh", "-c", "ulimit -Sn; ulimit -Hn").ok().out
    assert out == "512\n600\n"


def test_sysctl(docker):
    assert docker.run("--sysctl=net.ipv4.ip_default_ttl=77", IMAGE, "cat", "/proc/sys/net/ipv4/ip_default_ttl").ok().out == "77\n"


def test_init(docker):
    if not os.path.exists("/usr/bin/docker-init"):
        pytest.skip("not installed: docker-init (tini)")
    assert "docker-init" in docker.run("--init", IMAGE, "ps", "-o", "pid,comm").ok().out


def test_tty(docker):
    assert docker.run("--tty", IMAGE, "tty").ok().out.strip() == "/dev/pts/0"


def test_interactive_tty(docker, world):
    result = world.run_on_tty(docker.argv("run", "--rm", "-it", "--network=none", IMAGE, "sh", "-c", "tty; exit 5"))
    assert result.status == 5 and "/dev/pts/0" in result.out, result


def test_standard_input(docker):
    assert docker.run("--interactive", IMAGE, "cat", stdin="piped").ok().out == "piped"


def test_many_at_once(docker, world):
    words = ["run", "--rm", "--network=none", IMAGE]
    commands = [docker.argv(*words, "sh", "-c", f"echo {number}; exit {number}") for number in range(6)]
    for number, result in enumerate(world.run_together(commands)):
        assert result.exits(number).out == f"{number}\n"


def test_device_rules(docker):
    """Device rules are enforced: nothing but the standard devices may be opened, although a node may be made."""
    script = "mknod /tmp/mem c 1 1 && cat /tmp/mem; mknod /tmp/null c 1 3 && echo x > /tmp/null && echo written"
    result = docker.run("--cap-add=MKNOD", IMAGE, "sh", "-c", script).ok()
    assert "Operation not permitted" in result.err and result.out == "written\n"


def test_device(docker):
    script = "stat -c %t:%T /dev/given && echo x > /dev/given"
    assert docker.run("--device=/dev/null:/dev/given:rw", IMAGE, "sh", "-c", script).ok().out == "1:3\n"


def test_cgroup_namespace(docker):
    out = docker.run("--cgroupns=private", IMAGE, "cat", "/proc/self/cgroup").ok().out
    assert all(line.endswith(":/") for line in out.splitlines())


def test_garbage_binary(docker):
    result = docker.run(IMAGE, "/bin/garbage")
    assert result.status in (1, 126, 127, 125, 255), result
    assert "exec format error" in result.text, result


def test_daemon_knows_the_runtime(docker):
    info = json.loads(docker("info", "--format", "{{json .}}").ok().out)
    assert info["DefaultRuntime"] == "contracts" and info["Runtimes"]["contracts"]["path"] == docker.runtime
    assert info["RuncCommit"]["ID"] not in ("", "N/A")


def test_build(docker, world):
    """The builder without BuildKit runs each step as a container."""
    text = f"FROM {IMAGE}\nRUN echo built > /built && id -u\nUSER app\nRUN id -u > /tmp/user\n"
    world.write(f"{BASE}/docker-build/Dockerfile", text)
    docker("build", "--network=none", "--tag=built", f"{BASE}/docker-build", env={"DOCKER_BUILDKIT": "0"}).ok()
    try:
        assert docker.run("built", "cat", "/built", "/tmp/user").ok().out == "built\n1000\n"
    finally:
        docker("rmi", "--force", "built").ok()


def test_buildkit(docker, world):
    """The BuildKit inside dockerd calls `run --keep` and `delete`; its runtime is named by a variable of the daemon."""
    if not os.path.exists("/usr/bin/curl"):
        pytest.skip("not installed: curl")
    text = f"FROM {IMAGE}\nRUN echo built > /built && id -u\nUSER app\nRUN id -u > /tmp/user\n"
    status = buildkit(docker, world, text)
    assert '"error"' not in status, status
    try:
        assert docker.run("built", "cat", "/built", "/tmp/user").ok().out == "built\n1000\n"
    finally:
        docker("rmi", "--force", "built").ok()


def test_buildkit_exit_status(docker, world):
    if not os.path.exists("/usr/bin/curl"):
        pytest.skip("not installed: curl")
    status = buildkit(docker, world, f"FROM {IMAGE}\nRUN exit 7\n")
    assert "did not complete successfully: exit code: 7" in status, status


def buildkit(docker, world, dockerfile):
    """Has dockerd build `dockerfile` by BuildKit. The client's session protocol isn't needed if the context comes by HTTP,
    here from a busybox in the private network namespace. The answer is the daemon's stream of JSON objects."""
    world.write(f"{BASE}/context/Dockerfile", dockerfile)
    world.run(["tar", "-cf", f"{BASE}/context.tar", "-C", f"{BASE}/context", "."]).ok()
    server = world.popen(["busybox", "httpd", "-f", "-p", "127.0.0.1:18081", "-h", BASE])
    try:
        fetch = ["busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:18081/context.tar"]
        wait_until("the context is served", lambda: world.run(fetch).status == 0)
        query = "version=2&networkmode=none&t=built&nocache=1&rm=1&remote=http://127.0.0.1:18081/context.tar"
        return world.run(["curl", "--silent", "--unix-socket", docker.socket, "--request", "POST", f"http://d/build?{query}"]).ok().out
    finally:
        world.end(server, 15)
        server.wait()
        docker("builder", "prune", "--force", "--all")


@pytest.mark.needs_exec
def test_exec(docker):
    with running(docker, "--user=app", "--env=COLOUR=blue") as name:
        assert docker("exec", name, "sh", "-c", "id -u; echo $COLOUR").ok().out == "1000\nblue\n"
        words = ["--user=0", "--env=COLOUR=red", "--workdir=/tmp"]
        assert docker("exec", *words, name, "sh", "-c", "id -u; echo $COLOUR; pwd").ok().out == "0\nred\n/tmp\n"
        assert docker("exec", "--interactive", name, "cat", stdin="piped").ok().out == "piped"
        docker("exec", name, "sh", "-c", "exit 9").exits(9)


@pytest.mark.needs_exec
@pytest.mark.parametrize("command", ["/no/such/file", "nosuch", "/etc/passwd"])
def test_exec_that_cannot_run(docker, command):
    with running(docker) as name:
        assert docker("exec", name, command).status in (126, 127)


@pytest.mark.needs_exec
def test_exec_tty(docker):
    with running(docker) as name:
        assert docker("exec", "--tty", name, "tty").ok().out.strip() == "/dev/pts/0"


@pytest.mark.needs_exec
def test_exec_privileged(docker):
    with running(docker) as name:
        out = docker("exec", "--privileged", name, "grep", "CapEff", "/proc/self/status").ok().out
        assert int(out.split()[1], 16) & 1 << 21


@pytest.mark.needs_exec
def test_health_check(docker):
    with running(docker, "--health-cmd=test -e /etc/passwd", "--health-interval=1s") as name:
        wait_until("it is healthy", lambda: inspect(docker, name, "{{.State.Health.Status}}") == "healthy")


@pytest.mark.needs_ps
def test_top(docker):
    with running(docker) as name:
        assert "sleep 1000" in docker("top", name).ok().out


@pytest.mark.needs_pause
def test_pause(docker):
    with running(docker) as name:
        docker("pause", name).ok()
        assert inspect(docker, name, "{{.State.Status}}") == "paused"
        docker("unpause", name).ok()
        assert inspect(docker, name, "{{.State.Status}}") == "running"


@pytest.mark.needs_pause
def test_kill_while_paused(docker):
    with running(docker) as name:
        docker("pause", name).ok()
        docker("rm", "--force", name).ok()
        docker("run", "-d", "--name", "next", "--network=none", IMAGE, "true").ok()
        docker("rm", "--force", "next").ok()


@pytest.mark.needs_update
@pytest.mark.needs_exec
def test_update(docker):
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    with running(docker, "--memory=64m") as name:
        docker("update", "--memory=96m", "--memory-swap=192m", name).ok()
        docker("update", "--pids-limit=33", name).ok()
        assert docker("exec", name, "sh", "-c", script).ok().out == f"{96 << 20}\n"
        docker("exec", name, "sh", "-c", "echo x > /dev/null").ok()
