"""The cases that capture.py records for each caller, as commands that users type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import callers
from callers import IMAGE
from sandbox import BASE, wait_until
from test_docker import buildkit

if TYPE_CHECKING:
    from collections.abc import Callable

    Take = Callable[[str], None]  # stores the recordings made since the last case under this name
    from callers import Buildah, Containerd, Docker, Podman
    from cri import Cri
    from harness import Json, Option


def podman_cases(podman: Podman, take: Take) -> None:
    """podman: the options that change the config, a pod, exec, update, pause, checkpoint."""
    plain = {
        "plain": [],
        "volume": [f"--volume={BASE}/volume:/data", f"--volume={BASE}/volume/in:/etc/in:ro"],
        "read-only": ["--read-only"],
        "volume-shared": [f"--volume={BASE}/volume:/data:rshared"],
        "volume-overlay": [f"--volume={BASE}/volume:/data:O"],
        "tmpfs": ["--tmpfs=/scratch:size=3m,mode=0700"],
        "ulimit": ["--ulimit=nofile=512:600", "--ulimit=core=0:0"],
        "caps": ["--cap-drop=all", "--cap-add=chown", "--cap-add=net_raw"],
        "user": ["--user=1000:1000", "--cap-add=net_raw", "--group-add=2000"],
        "tty": ["--tty"],
        "privileged": ["--privileged"],
        "systemd": ["--systemd=always"],
        "limits": ["--memory=64m", "--cpus=0.5", "--pids-limit=40", "--cpuset-cpus=0", "--oom-score-adj=100"],
        "userns": ["--uidmap=0:100000:5000", "--gidmap=0:100000:5000"],
        "unmasked": ["--security-opt=unmask=ALL", "--security-opt=seccomp=unconfined"],
        "sysctl": ["--sysctl=kernel.shmmax=7654321", "--hostname=inside", "--umask=0027", "--device=/dev/null:/dev/nothing:rw"],
        "init": ["--init", "--init-path=/usr/bin/tini-static"],
        "no-cgroups-limit": ["--pids-limit=0", "--cgroupns=private"],
    }
    for name, words in plain.items():
        podman.run(*words, IMAGE, "true").ok()
        take(name)
    podman.run("--pid=host", "--ipc=host", "--uts=host", IMAGE, "true", network="host").ok()
    take("host-namespaces")
    podman.run(IMAGE, "true", network="podman").ok()
    take("bridge")
    podman.run(IMAGE, "/no/such/file").exits(127)
    take("failed")
    podman("run", "--rm", "--preserve-fds=0", *podman.create_options("none"), "--interactive", IMAGE, "cat", stdin="x").ok()
    take("interactive")
    pod = (
        podman(
            "pod",
            "create",
            "--network=none",
            f"--cgroup-parent=/{podman.world.cgroup}",
            "--infra-command=sleep 1000",
            f"--infra-image={IMAGE}",
        )
        .ok()
        .out.strip()
    )
    podman("run", "--rm", f"--pod={pod}", IMAGE, "true").ok()
    podman("pod", "rm", "--force", "--time=0", pod).ok()
    podman.world.forget()
    take("pod")
    name = podman.run("-d", IMAGE, "sleep", "1000").ok().out.strip()
    podman("exec", name, "true").ok()
    podman("exec", "--tty", "--user=1000", "--env=A=b", "--workdir=/tmp", name, "tty").ok()
    podman("exec", "--privileged", name, "true").ok()
    podman("update", "--memory=96m", "--pids-limit=55", name).ok()
    podman("pause", name).ok()
    podman("unpause", name).ok()
    podman("kill", "--signal=USR1", name)
    podman("stop", "--time=0", name).ok()
    podman("rm", name).ok()
    take("life")
    name = podman.run("-d", IMAGE, "sleep", "1000").ok().out.strip()
    podman("container", "checkpoint", name).ok()
    podman("container", "restore", name).ok()
    podman("rm", "--force", "--time=0", name).ok()
    take("checkpoint")


def docker_cases(docker: Docker, take: Take) -> None:
    """docker: the options that change the config, exec, update, restart, and the builder without BuildKit."""
    plain = {
        "plain": [],
        "limits": ["--memory=64m", "--cpus=1.5", "--pids-limit=40", "--cpuset-cpus=0"],
        "privileged": ["--privileged"],
        "init": ["--init"],
        "tmpfs": ["--tmpfs=/scratch"],
        "read-only": ["--read-only", f"--volume={BASE}/volume:/data:ro"],
        "volume": [f"--volume={BASE}/volume:/data"],
        "user": ["--user=1000:1000", "--group-add=3000"],
        "tty": ["--tty"],
        "caps": ["--cap-drop=ALL", "--cap-add=CHOWN", "--security-opt=no-new-privileges"],
        "sysctl": ["--sysctl=net.ipv4.ip_default_ttl=77"],
        "ulimit": ["--ulimit=nofile=512:600", "--shm-size=3m", "--hostname=inside"],
    }
    for name, words in plain.items():
        docker.run(*words, IMAGE, "true").ok()
        take(name)
    docker.run("--pid=host", "--ipc=host", "--uts=host", IMAGE, "true", network="host").ok()
    take("host-namespaces")
    docker.run("--publish=127.0.0.1:18080:80", IMAGE, "true", network=None).ok()
    take("bridge")
    name = docker.run("-d", "--ipc=shareable", IMAGE, "sleep", "1000").ok().out.strip()
    docker("run", "--rm", f"--network=container:{name}", f"--pid=container:{name}", f"--ipc=container:{name}", IMAGE, "true").ok()
    docker("exec", name, "true").ok()
    docker("exec", "--tty", "--user=1000", "--env=A=b", "--workdir=/tmp", name, "tty").ok()
    docker("exec", "--privileged", name, "true").ok()
    docker("top", name).ok()
    docker("update", "--memory=96m", "--memory-swap=192m", "--cpus=0.5", name).ok()
    docker("update", "--pids-limit=33", name).ok()
    docker("pause", name).ok()
    docker("unpause", name).ok()
    docker("restart", "--time=0", name).ok()
    docker("rm", "--force", name).ok()
    take("life")
    docker.world.write(f"{BASE}/docker-build/Dockerfile", f"FROM {IMAGE}\nUSER app\nRUN id\n")
    docker("build", "--network=none", "--tag=built", f"{BASE}/docker-build", env={"DOCKER_BUILDKIT": "0"}).ok()
    take("build")


def buildkit_cases(docker: Docker, take: Take) -> None:
    """BuildKit inside dockerd: a plain step, one with mounts, one that fails."""
    steps = {
        "plain": "RUN id",
        "user": "USER app\nWORKDIR /made/up\nRUN id",
        "mounts": "RUN --mount=type=tmpfs,target=/scratch --mount=type=cache,target=/cache --mount=type=bind,target=/context ls",
        "no-network": "RUN --network=none id",
    }
    for name, lines in steps.items():
        buildkit(docker, docker.world, f"FROM {IMAGE}\n{lines}\n")
        take(name)


def containerd_cases(containerd: Containerd, take: Take) -> None:
    """ctr: plain, privileged, seccomp, limits, a terminal, exec, pause, checkpoint, the process namespace of the host."""
    host = f"--with-ns=pid:/proc/{containerd.world.inner_pid(containerd.world.pid)}/ns/pid"
    plain = {
        "plain": [],
        "privileged": ["--privileged"],
        "seccomp": ["--seccomp", "--read-only", "--net-host"],
        "limits": [f"--memory-limit={64 << 20}", "--cpus=0.5", "--user=1000:1000"],
        "host-pid": [host],
        "mount": [f"--mount=type=bind,src={BASE}/volume,dst=/data,options=rbind:ro"],
    }
    for name, words in plain.items():
        containerd.run("--rm", *words, callers.REFERENCE, f"ctr-{name}", "true").ok()
        take(name)
    words = containerd.run_words("--rm", "--tty", callers.REFERENCE, "ctr-tty", "tty")
    containerd.world.run_on_tty(containerd.argv("--namespace", containerd.namespace, *words)).ok()
    take("tty")
    containerd.run("--detach", callers.REFERENCE, "ctr-life", "sleep", "1000").ok()
    containerd.ctr("tasks", "exec", "--exec-id=a", "ctr-life", "true").ok()
    containerd.ctr("tasks", "ps", "ctr-life").ok()
    containerd.ctr("tasks", "pause", "ctr-life").ok()
    containerd.ctr("tasks", "resume", "ctr-life").ok()
    containerd.ctr("tasks", "checkpoint", f"--image-path={BASE}/dump", "ctr-life").ok()
    containerd.ctr("tasks", "kill", "--signal=SIGKILL", "ctr-life")
    wait_until("it has stopped", lambda: "STOPPED" in containerd.ctr("tasks", "ls").out or not containerd.ctr("tasks", "ls", "-q").out)
    containerd.ctr("tasks", "rm", "ctr-life")
    containerd.ctr("containers", "rm", "ctr-life")
    take("life")


def kubernetes_cases(cri: Cri, take: Take) -> None:
    """Pods through the CRI: sandbox and container, host network, host processes, privileged, terminal, exec, update."""

    def one(name: str, pod: Json = None, **options: Option) -> tuple[str, str]:
        sandbox = cri.run_pod(name, **(pod or {}))
        container = cri.create(sandbox, name, ["sleep", "1000"], **options)
        cri.start(container)
        return sandbox, container

    def end(sandbox: str, container: str) -> None:
        cri.stop(container, timeout=0)
        cri.remove(container)
        cri.remove_pod(sandbox)

    limits = {"cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512, "oom_score_adj": 500, "cpuset_cpus": "0"}
    sandbox, container = one(
        "plain",
        resources={**limits, "memory_limit_in_bytes": 64 << 20, "memory_swap_limit_in_bytes": 64 << 20},
        security={
            "run_as_user": {"value": 1000},
            "seccomp": {"profile_type": "RuntimeDefault"},
            "masked_paths": ["/proc/kcore"],
            "readonly_paths": ["/proc/sys"],
        },
        mounts=[{"container_path": "/data", "host_path": f"{BASE}/volume", "readonly": True}],
    )
    cri.exec(container, "true")
    cri.update(container, cpu_shares=256, memory_limit_in_bytes=96 << 20, memory_swap_limit_in_bytes=96 << 20)
    end(sandbox, container)
    take("pod")
    node = {"network": "NODE", "pid": "NODE"}
    end(*one("host", pod={"network": "NODE", "namespace_options": node}, security={"namespace_options": node}))
    take("host-network")
    end(*one("privileged", pod={"privileged": True}, security={"privileged": True}))
    take("privileged")
    end(*one("tty", tty=True, security={"readonly_rootfs": True, "namespace_options": {"pid": "POD"}}))
    take("tty")


def buildah_cases(buildah: Buildah, take: Take) -> None:
    """buildah: a plain step, a user and a directory, mounts, a terminal."""
    buildah.build("RUN id").ok()
    take("plain")
    buildah.build("USER app", "WORKDIR /made/up", "RUN id", options=["--cap-drop=CAP_CHOWN"]).ok()
    take("user")
    buildah.build("RUN --mount=type=tmpfs,target=/scratch ls", options=[f"--volume={BASE}/volume:/data:ro"]).ok()
    take("mounts")
    buildah.build("RUN exit 7").exits(7)
    take("failed")
    name = buildah("from", *buildah.limits, "scratch").ok().out.strip()
    buildah("add", name, f"{BASE}/build/rootfs.tar", "/").ok()
    words = [
        "env",
        *(f"{key}={value}" for key, value in buildah.env.items()),
        *buildah.argv("run", "--runtime", buildah.runtime, "--isolation=oci", "--tty", name, "--", "/bin/sh", "-c", "/bin/tty"),
    ]
    buildah.world.run_on_tty(words).ok()
    buildah("rm", name).ok()
    take("tty")
