"""dockerd on containerd: docker's users, its bridge network (a prestart hook of libnetwork), its exit codes, its builder."""

import json
import os

import pytest

from callers import IMAGE
from sandbox import BASE, wait_until


def test_any_other_failure(docker):
    """125 means that the runtime fails for another reason than a missing command."""
    result = docker.run("--sysctl=net.ipv4.ip_default_ttl=nonsense", IMAGE, "true").exits(125)
    assert "ip_default_ttl" in result.err, result


def test_killed(docker):
    with docker.running() as name:
        docker("kill", name).ok()
        assert docker("wait", name).ok().out == "137\n"


def test_network_bridge(docker):
    out = docker.run(IMAGE, "ip", "-4", "addr", "show", "eth0", network=None).ok().out
    assert "inet 172.31.250." in out


def test_published_port(docker, world):
    with docker.running("--publish=127.0.0.1:18080:80", command=("httpd", "-f", "-h", "/www"), network=None):
        fetch = ["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:18080/index.html"]
        assert wait_until("the page comes", lambda: world.run(fetch).out) == "served\n"


def test_containers_reach_each_other(docker):
    docker("network", "create", "--subnet=172.31.251.0/24", "between").ok()
    try:
        with docker.running("--name", "server", command=("httpd", "-f", "-h", "/www"), network="between"):
            script = "for n in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://172.31.251.2/index.html && break; sleep 0.2; done"
            assert docker.run(IMAGE, "sh", "-c", script, network="between").ok().out == "served\n"
    finally:
        docker("network", "rm", "between").ok()


def test_network_of_another_container(docker):
    with docker.running(network=None) as name:
        inside = docker.run(IMAGE, "ip", "-4", "addr", "show", "eth0", network=f"container:{name}").ok().out
        assert "inet 172.31.250." in inside


def test_restart_on_the_bridge(docker):
    """The network is released and acquired again."""
    with docker.running(network=None) as name:
        before = docker.inspect(name, "{{.State.Pid}}")
        docker("restart", "--time=0", name).ok()
        status, pid = docker.inspect(name, "{{.State.Status}} {{.State.Pid}}").split()
        assert status == "running" and pid != before
        assert "inet 172.31.250." in docker("exec", name, "ip", "-4", "addr", "show", "eth0").ok().out


def test_restart_policy(docker):
    with docker.running("--restart=on-failure:2", command=("sh", "-c", "echo once more; exit 1")) as name:
        wait_until("it was started three times", lambda: docker("logs", name).out.count("once more") == 3)


def test_out_of_memory(docker):
    script = "head -c 100m /dev/zero | tail -c 90m > /dev/null"
    with docker.running("--memory=24m", "--memory-swap=24m", command=("sh", "-c", script)) as name:
        docker("wait", name).ok()
        wait_until("the daemon has heard of it", lambda: docker.inspect(name, "{{.State.OOMKilled}}") == "true")


def test_working_directory_is_created(docker):
    assert docker.run("--workdir=/made/up", IMAGE, "pwd").ok().out == "/made/up\n"


def test_privileged(docker):
    out = docker.run("--privileged", IMAGE, "sh", "-c", "ls /dev | wc -l; grep CapEff /proc/self/status").ok().out.split()
    assert int(out[0]) > 20 and int(out[2], 16) & 1 << 21


def test_tmpfs_holds_no_programs(docker):
    out = docker.run("--tmpfs=/scratch:size=3m,mode=0700", IMAGE, "sh", "-c", "grep /scratch /proc/mounts; stat -c %a /scratch").ok().out
    assert "size=3072k" in out and "noexec" in out and out.endswith("700\n")


def test_init(docker):
    if not os.path.exists("/usr/bin/docker-init"):
        pytest.skip("not installed: docker-init (tini)")
    assert "docker-init" in docker.run("--init", IMAGE, "ps", "-o", "pid,comm").ok().out


def test_cgroup_namespace(docker):
    out = docker.run("--cgroupns=private", IMAGE, "cat", "/proc/self/cgroup").ok().out
    assert all(line.endswith(":/") for line in out.splitlines())


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
    """The BuildKit inside dockerd calls `run --keep` and `delete`; an environment variable of the daemon names its runtime."""
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
    assert status.endswith('exit code: 7"}\n'), status


def buildkit(docker, world, dockerfile):
    """Makes dockerd build `dockerfile` with BuildKit. The session protocol of the client isn't needed if the context comes over HTTP, here from a
    busybox in the private network namespace. Returns the daemon's stream of JSON objects."""
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
def test_exec_privileged(docker):
    with docker.running() as name:
        out = docker("exec", "--privileged", name, "grep", "CapEff", "/proc/self/status").ok().out
        assert int(out.split()[1], 16) & 1 << 21


@pytest.mark.needs_exec
def test_health_check(docker):
    with docker.running("--health-cmd=test -e /etc/passwd", "--health-interval=1s") as name:
        wait_until("it is healthy", lambda: docker.inspect(name, "{{.State.Health.Status}}") == "healthy")


@pytest.mark.needs_ps
def test_top(docker):
    with docker.running() as name:
        assert "sleep 1000" in docker("top", name).ok().out
