"""Other ways in which podman uses a runtime: kube play, secrets, namespaces of other containers, names on a bridge, automatic user namespaces,
streams, and data that it reads (stats, events, diff, export)."""

import json
import os

import pytest

from callers import IMAGE, packages_missing
from sandbox import BASE, wait_until

pytestmark = pytest.mark.long


def test_stats(podman):
    with podman.running("--memory=64m") as name:
        (line,) = json.loads(podman("stats", "--no-stream", "--format=json", name).ok().out)
        assert line["mem_usage"].endswith("/ 67.11MB") and line["pids"] == "1"


def test_events(podman):
    try:
        podman.run("--name", "eventful", IMAGE, "sh", "-c", "exit 3").exits(3)
    finally:
        podman.remove("eventful")
    out = podman("events", "--stream=false", "--filter=container=eventful", "--format={{.Status}}").ok().out.split()
    assert [word for word in out if word in ("create", "start", "died", "remove")] == ["create", "start", "died", "remove"]


@pytest.mark.needs_exec
def test_unhealthy(podman):
    with podman.running("--health-cmd=echo bad; exit 1", "--health-interval=disable", "--health-retries=1") as name:
        podman("healthcheck", "run", name).exits(1)
        assert podman.inspect(name, "{{.State.Health.Status}}") == "unhealthy"


@pytest.mark.needs_exec
def test_uts_namespace_of_another_container(podman):
    """test_engines_life.py tests the other kinds; docker does not support this one."""
    with podman.running() as name:
        mine = podman("exec", name, "readlink", "/proc/self/ns/uts").ok().out
        assert podman.run(f"--uts=container:{name}", IMAGE, "readlink", "/proc/self/ns/uts").ok().out == mine


def test_user_network_with_names(podman):
    missing = packages_missing([]) + [
        path for path in ("/usr/lib/podman/netavark", "/usr/lib/podman/aardvark-dns") if not os.path.exists(path)
    ]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    podman("network", "create", "web").ok()
    try:
        with podman.running("--name=first", command=("httpd", "-f", "-p", "80", "-h", "/www"), network="web"):
            assert podman.run(IMAGE, "wget", "-qO-", "http://first/index.html", network="web").ok().out == "served\n"
    finally:
        podman("network", "rm", "--force", "--time=0", "web").ok()


def test_published_port(podman, world):
    with podman.running("--publish=127.0.0.1:18091:80", command=("httpd", "-f", "-p", "80", "-h", "/www"), network="bridge"):
        fetch = ["busybox", "wget", "-qO-", "http://127.0.0.1:18091/index.html"]
        wait_until("the port is served", lambda: world.run(fetch).out == "served\n")


def test_secrets(podman, world):
    world.write(f"{BASE}/podman-secret", "hush")
    podman("secret", "create", "word", f"{BASE}/podman-secret").ok()
    try:
        script = "cat /run/secrets/word; echo; ls -ln /run/secrets/word | cut -c1-10; echo $WORD"
        out = podman.run("--secret=word,mode=0400", "--secret=word,type=env,target=WORD", IMAGE, "sh", "-c", script).ok().out
        assert out == "hush\n-r--------\nhush\n"
    finally:
        podman("secret", "rm", "word").ok()


def test_user_namespace_found_by_podman(podman, world):
    """--userns=auto uses free ids of the user `containers`."""
    world.add_user()
    for name in ("subuid", "subgid"):
        if "containers:" not in world.read(f"/etc/{name}"):
            world.write(f"/etc/{name}", world.read(f"/etc/{name}") + "containers:2147483647:2147483648\n")
    one = podman.run("--userns=auto:size=2000", IMAGE, "cat", "/proc/self/uid_map").ok().out.split()
    assert one[0] == "0" and int(one[1]) >= 2147483647 and one[2] == "2000"
    assert podman.run("--userns=auto", IMAGE, "sh", "-c", "touch /x && stat -c %u /x").ok().out == "0\n"


POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: played}}
spec:
  hostname: of-the-pod
  restartPolicy: Never
  volumes:
  - {{name: data, emptyDir: {{}}}}
  - {{name: words, configMap: {{name: words}}}}
  initContainers:
  - name: before
    image: localhost/{image}
    command: [sh, -c, "echo prepared > /data/first"]
    volumeMounts: [{{name: data, mountPath: /data}}]
  containers:
  - name: main
    image: localhost/{image}
    command: [sh, -c, "cat /data/first /words/one; hostname; id -u; sleep 1000"]
    securityContext: {{runAsUser: 1000, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
    resources: {{limits: {{memory: 64Mi}}}}
    livenessProbe: {{exec: {{command: ["true"]}}, periodSeconds: 60}}
    volumeMounts: [{{name: data, mountPath: /data}}, {{name: words, mountPath: /words}}]
  - name: side
    image: localhost/{image}
    command: [sh, -c, "sleep 1000"]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: words}}
data: {{one: "configured\\n"}}
"""


@pytest.mark.needs_exec
def test_kube_play(podman, world):
    """A pod written for Kubernetes: an init container, a config map, a shared volume, a security context, two containers."""
    file = world.write(f"{BASE}/pod.yaml", POD.format(image=IMAGE))
    podman("kube", "play", "--network=none", "--no-hosts", file).ok()
    try:
        wait_until("it has spoken", lambda: "1000" in podman("logs", "played-main").out)
        assert podman("logs", "played-main").ok().out == "prepared\nconfigured\nof-the-pod\n1000\n"
        ipc = {podman("exec", f"played-{name}", "readlink", "/proc/self/ns/ipc").ok().out for name in ("main", "side")}
        assert len(ipc) == 1
    finally:
        podman("kube", "down", "--force", file).ok()


def test_pod_with_one_process_namespace(podman):
    options = [f"--cgroup-parent=/{podman.world.cgroup}", "--network=none"]
    podman("pod", "create", "--name=together", "--share=pid,ipc,uts", *options).ok()
    try:
        podman("run", "-d", "--pod=together", "--name=one", IMAGE, "sh", "-c", "sleep 1000; true of-the-other").ok()
        out = podman("run", "--rm", "--pod=together", IMAGE, "ps").ok().out
        assert "true of-the-other" in out
        podman("pod", "pause", "together").ok()
        podman("pod", "unpause", "together").ok()
        podman("pod", "restart", "together").ok()
    finally:
        podman("pod", "rm", "--force", "--time=0", "together").ok()
        for path in sorted(podman.world.container_cgroups(), key=len, reverse=True):  # podman forgets hierarchies without controllers
            os.rmdir(path)


def test_cgroups_split_off(podman):
    """--cgroups=no-conmon: the monitor stays in the cgroup of podman."""
    assert podman.run("--cgroups=no-conmon", IMAGE, "echo", "works").ok().out == "works\n"


def test_personality_and_cpus(podman):
    script = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpuset/cpuset.cpus 2>/dev/null || cat cpu.max cpuset.cpus"
    out = podman.run("--personality=LINUX32", "--cpus=0.5", "--cpuset-cpus=0", IMAGE, "sh", "-c", script + "; uname -m").ok().out.split()
    assert out[0] == "50000" and out[-2] == "0" and out[-1] != "x86_64"


def test_streams_may_be_opened_again(podman):
    """A program of another user opens /dev/stdout by its path and writes to it, as web servers do with their logs."""
    result = podman.run("--user=app", IMAGE, "sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr").ok()
    assert (result.out, result.err) == ("out\n", "err\n")
