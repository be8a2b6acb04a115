"""docker commands other than running a container: wait, attach, copy, commit, rename, networks, volumes, policies, and a restart of the daemon
while containers are running."""

import json
import os

import pytest

from callers import IMAGE
from sandbox import BASE, wait_until


def test_stats(docker):
    with docker.running("--memory=64m") as name:
        line = json.loads(docker("stats", "--no-stream", "--format={{json .}}", name).ok().out)
        assert line["MemUsage"].endswith("/ 64MiB") and line["PIDs"] == "1"


def test_events(docker):
    since = docker("info", "--format={{.SystemTime}}").ok().out.strip()
    docker.run("--name", "eventful", IMAGE, "sh", "-c", "exit 3").exits(3)
    docker("rm", "eventful").ok()
    until = docker("info", "--format={{.SystemTime}}").ok().out.strip()
    words = ["--filter=container=eventful", "--format={{.Action}} {{.Actor.Attributes.exitCode}}"]
    out = docker("events", f"--since={since}", f"--until={until}", *words).ok().out.splitlines()
    seen = [line.replace(" <no value>", "").strip() for line in out]
    assert [word for word in seen if word.split()[0] in ("create", "start", "die", "destroy")] == ["create", "start", "die 3", "destroy"]


def test_unhealthy(docker):
    with docker.running("--health-cmd=echo bad; exit 1", "--health-interval=200ms", "--health-retries=2") as name:
        wait_until("it is unhealthy", lambda: docker.inspect(name, "{{.State.Health.Status}}") == "unhealthy")
        log = json.loads(docker.inspect(name, "{{json .State.Health.Log}}"))
        assert log[-1]["ExitCode"] == 1 and log[-1]["Output"] == "bad\n"


def test_out_of_memory_score(docker):
    assert docker.run("--oom-score-adj=321", IMAGE, "cat", "/proc/self/oom_score_adj").ok().out == "321\n"


def test_cpus(docker):
    script = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpuset/cpuset.cpus 2>/dev/null || cat cpu.max cpuset.cpus"
    out = docker.run("--cpus=0.5", "--cpuset-cpus=0", IMAGE, "sh", "-c", script).ok().out
    assert out.split() == ["50000", "100000", "0"]


def test_apparmor(docker):
    if not os.path.isdir("/sys/kernel/security/apparmor"):
        pytest.skip("this kernel has no AppArmor (tests/vm has it)")
    out = docker.run("--security-opt=apparmor=unconfined", IMAGE, "cat", "/proc/self/attr/current").ok().out
    assert out == "unconfined\n"


def test_unmasked_paths(docker):
    script = "cat /proc/kcore 2>/dev/null | head -c 1 | wc -c; echo x 2>/dev/null > /proc/sysrq-trigger || echo denied"
    assert docker.run(IMAGE, "sh", "-c", script).ok().out == "0\ndenied\n"
    out = docker.run("--security-opt=systempaths=unconfined", IMAGE, "grep", "-c", " /proc/", "/proc/mounts").exits(1).out
    assert out == "0\n"


@pytest.mark.needs_exec
def test_volume_propagation(docker, world):
    os.makedirs(world.outer(f"{BASE}/spread/m"), exist_ok=True)
    words = f"--mount=type=bind,source={BASE}/spread,target=/data,bind-propagation="
    with docker.running(words + "rslave") as down, docker.running(words + "rprivate") as none:
        world.run(["mount", "-t", "tmpfs", "later", f"{BASE}/spread/m"]).ok()
        try:
            assert docker("exec", down, "grep", "-c", "later", "/proc/mounts").ok().out == "1\n"
            assert docker("exec", none, "grep", "-c", "later", "/proc/mounts").exits(1).out == "0\n"
        finally:
            world.run(["umount", f"{BASE}/spread/m"]).ok()


@pytest.mark.long
def test_user_network_with_names(docker):
    """A user-defined bridge: containers find each other by name and by alias, through the resolver of dockerd."""
    docker("network", "create", "web").ok()
    try:
        words = ["--network-alias=server", "--name=first"]
        with docker.running(*words, command=("httpd", "-f", "-p", "80", "-h", "/www"), network="web"):
            for host in ("first", "server"):
                assert docker.run(IMAGE, "wget", "-qO-", f"http://{host}/index.html", network="web").ok().out == "served\n"
            docker.run(IMAGE, "wget", "-qO-", "-T", "2", "http://first/index.html", network="bridge").exits(1)
    finally:
        docker("network", "rm", "web").ok()


@pytest.mark.needs_exec
def test_network_connected_later(docker):
    docker("network", "create", "later").ok()
    try:
        with docker.running(network="bridge") as name:
            docker("network", "connect", "later", name).ok()
            assert docker("exec", name, "cat", "/sys/class/net/eth1/operstate").ok().out == "up\n"
            docker("network", "disconnect", "later", name).ok()
            docker("exec", name, "test", "-e", "/sys/class/net/eth1").exits(1)
    finally:
        docker("network", "rm", "later").ok()


def test_parent_cgroup(docker, world):
    with docker.running(f"--cgroup-parent=/{world.cgroup}/nested", "--memory=64m") as name:
        found = [h for h in world.hierarchies() if os.path.isdir(f"{h}/{world.cgroup}/nested/{name}")]
        assert found, "the cgroup of the container is not below the given one"
    for hierarchy in found:
        if os.path.isdir(f"{hierarchy}/{world.cgroup}/nested"):  # runc leaves the parent behind
            os.rmdir(f"{hierarchy}/{world.cgroup}/nested")


@pytest.mark.long
@pytest.mark.needs_exec
def test_live_restore(docker, world):
    """dockerd stops and starts again while a container is running; it can still use the container and notices its end."""
    settings = json.loads(world.read(f"{docker.place}.json"))
    world.write(f"{docker.place}.json", json.dumps({**settings, "live-restore": True}))
    try:
        world.stop_daemon(docker.name)
        docker.start()
        with docker.running(network="bridge") as name:
            before = docker.inspect(name, "{{.State.Pid}}")
            world.stop_daemon(docker.name)
            assert world.exists(f"/proc/{before}/ns/pid"), "the container ended with the daemon"
            docker.start()
            assert docker.inspect(name, "{{.State.Status}} {{.State.Pid}}") == f"running {before}"
            assert docker("exec", name, "echo", "again").ok().out == "again\n"
            docker("stop", "-t", "0", name).ok()
            assert docker.inspect(name, "{{.State.ExitCode}}") == "137"
    finally:
        world.write(f"{docker.place}.json", json.dumps(settings))
        world.stop_daemon(docker.name)
        docker.start()


def test_buildx(docker, world):
    """BuildKit with its own client: a secret, a cache that survives, a bind mount of the context, a tmpfs."""
    if docker("buildx", "version").status:
        pytest.skip("not installed: docker-buildx")
    world.write(f"{BASE}/buildx/secret", "hush")
    world.write(f"{BASE}/buildx/context/word", "from the context\n")
    text = f"""\
FROM {IMAGE}
ARG TURN
RUN --mount=type=secret,id=word cat /run/secrets/word > /secret
RUN --mount=type=cache,target=/cache echo $TURN >> /cache/turns; cp /cache/turns /turns
RUN --mount=type=bind,target=/context cp /context/word /word
RUN --mount=type=tmpfs,target=/scratch grep -c ' /scratch tmpfs' /proc/mounts > /tmpfs
RUN --network=none ls /sys/class/net > /devices
USER app
RUN id -u > /tmp/user
"""
    world.write(f"{BASE}/buildx/context/Dockerfile", text)
    words = ["buildx", "build", "--load", "--tag=built", "--network=none", f"--secret=id=word,src={BASE}/buildx/secret"]
    try:
        for turn in ("one", "two"):
            docker(*words, f"--build-arg=TURN={turn}", f"{BASE}/buildx/context").ok()
        files = ("/secret", "/turns", "/word", "/tmpfs", "/devices", "/tmp/user")
        assert docker.run("built", "cat", *files).ok().out == "hushone\ntwo\nfrom the context\n1\nlo\n1000\n"
        docker.run("built", "ls", "/run/secrets", "/cache/turns").exits(1)
    finally:
        docker("rmi", "--force", "built")
        docker("builder", "prune", "--force", "--all")


COMPOSE = """\
services:
  store:
    image: {image}
    command: ["httpd", "-f", "-p", "80", "-h", "/www"]
    healthcheck: {{test: ["CMD", "wget", "-qO-", "http://127.0.0.1/index.html"], interval: 300ms}}
    volumes: ["data:/www"]
  front:
    image: {image}
    depends_on: {{store: {{condition: service_healthy}}}}
    command: ["sh", "-c", "wget -qO /www/front http://store/index.html && exec httpd -f -p 80 -h /www"]
    ports: ["127.0.0.1:18090:80"]
    init: true
    deploy: {{resources: {{limits: {{memory: 64m, pids: 20}}}}}}
  worker:
    image: {image}
    command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    read_only: true
    cap_drop: [ALL]
    user: "1000"
    scale: 2
volumes: {{data: {{}}}}
"""


def test_compose(docker, world):
    """docker compose up of three services that wait for each other, exec, scale, logs, down: nothing is left."""
    if docker("compose", "version").status:
        pytest.skip("not installed: docker-compose")
    file = world.write(f"{BASE}/compose/compose.yaml", COMPOSE.format(image=IMAGE))

    def compose(*words):
        return docker("compose", "--file", file, "--project-name", "three", *words)

    try:
        compose("up", "--detach", "--wait").ok()
        rows = [json.loads(line) for line in compose("ps", "--format=json").ok().out.splitlines()]
        assert sorted(row["Service"] for row in rows) == ["front", "store", "worker", "worker"]
        assert {row["State"] for row in rows} == {"running"}
        assert world.run(["busybox", "wget", "-qO-", "http://127.0.0.1:18090/front"]).ok().out == "served\n"
        assert compose("exec", "-T", "worker", "id", "-u").ok().out == "1000\n"
        compose("up", "--detach", "--scale", "worker=4", "--no-recreate").ok()
        assert len(compose("ps", "-q", "worker").ok().out.split()) == 4
        compose("restart", "--timeout=1", "store").ok()  # it is the first process of its namespace, so TERM does not end it
        compose("stop", "worker").ok()
        rows = [json.loads(line) for line in compose("ps", "--all", "--format=json", "worker").ok().out.splitlines()]
        assert {row["ExitCode"] for row in rows} == {0}, "the handler of the workers has run"
    finally:
        compose("down", "--volumes", "--timeout=1").ok()
    assert docker("ps", "-aq").ok().out == "" and "three" not in docker("network", "ls").ok().out
