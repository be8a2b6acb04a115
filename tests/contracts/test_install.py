"""`pyrunc install` as the engines see it: each one accepts the edited file, runs a container with the runtime named there, and is in its old
state after --uninstall. The command is always pyrunc's; the runtime that it registers is the one under test."""

import json
import os
import signal

import pytest

import callers
import cri as kubernetes
from callers import IMAGE, Containerd
from sandbox import BASE, wait_until

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def install(world, runtime):
    """install("--docker", ...) registers the runtime under test with an engine as `installed`; this is undone at the end of the test."""
    ours, done = os.path.join(PROJECT, ".venv/bin/pyrunc"), []

    def call(*words):
        done.append(words)
        return world.run([ours, "install", *words, "--name=installed", f"--runtime={runtime}"]).ok()

    yield call
    for words in done:
        world.run([ours, "install", *words, "--name=installed", "--uninstall"]).ok()


def test_install(podman, world, install):
    world.add_user()  # a layer over /etc, so that the files of the machine do not change
    own = {"CONTAINERS_CONF": f"{BASE}/no.conf", "CONTAINERS_CONF_OVERRIDE": podman.env["CONTAINERS_CONF"]}
    world.write(f"{BASE}/no.conf", "")
    installed = {**own, "CONTAINERS_CONF": "/etc/containers/containers.conf.d/50-pyrunc.conf"}
    argv = [word for word in podman.argv() if word not in ("--runtime", podman.runtime)]

    def call(*words, env):
        return world.run([*argv, *words], env={**podman.env, **env})

    words = ["run", "--rm", *podman.create_options("none")]
    call("--runtime=installed", *words, IMAGE, "true", env=own).exits(125)
    install("--podman", "--default")
    info = json.loads(call("info", "--format=json", env=installed).ok().out)["host"]["ociRuntime"]
    assert (info["name"], info["path"]) == ("installed", podman.runtime)
    assert call(*words, IMAGE, "echo", "works", env=installed).ok().out == "works\n"
    assert call("--runtime=runc", *words, IMAGE, "echo", "others", env=installed).ok().out == "others\n"
    if os.path.basename(podman.runtime) != "runc":  # which does not support --cgroup-manager
        assert call("run", "--rm", "--network=none", "--cgroups=disabled", IMAGE, "echo", "without", env=installed).ok().out == "without\n"
    failed = call(*words, IMAGE, "/no/such/file", env=installed).exits(127)
    assert "Error: installed: " in failed.err and "time=" not in failed.err, "the JSON log was not read"


def test_install_and_reload(docker, world, install):
    """dockerd adds and removes a runtime without a restart."""

    def known():
        return json.loads(docker("info", "--format", "{{json .Runtimes}}").ok().out).keys()

    def reload():
        world.end(world.daemons[docker.name], signal.SIGHUP)

    assert "installed" not in known()
    install("--docker", f"--config={docker.place}.json")
    reload()
    wait_until("dockerd knows it", lambda: "installed" in known())
    assert docker.run("--runtime=installed", IMAGE, "echo", "works").ok().out == "works\n"
    world.run(
        [
            os.path.join(PROJECT, ".venv/bin/pyrunc"),
            "install",
            "--docker",
            f"--config={docker.place}.json",
            "--uninstall",
            "--name=installed",
        ]
    ).ok()
    reload()
    wait_until("dockerd has forgotten it", lambda: "installed" not in known())


class Installed(Containerd):
    """Another containerd, whose CRI only knows the runtime that pyrunc install wrote into its file."""

    address = f"{BASE}/installed.sock"
    name = "installed"

    def runtimes(self):
        return ""


@pytest.mark.caller("kubernetes")
def test_install_and_handler(world, runtime, layer, install, started):
    """A pod with the handler that install added; an unknown handler is rejected."""
    missing = callers.packages_missing(Containerd.needs) + kubernetes.missing()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    words = ["--containerd", f"--config={BASE}/installed.toml"]
    one = Installed(world, runtime, layer, before=lambda: install(*words))
    try:
        cri = kubernetes.Cri(one)
        started.append(cri)
        with pytest.raises(kubernetes.Failed, match="no runtime for"):
            cri.run_pod("other", handler="other")
        sandbox = cri.run_pod("handled", handler="installed")
        container = cri.create(sandbox, "one", ["echo", "works"])
        cri.start(container)
        wait_until("it has exited", lambda: cri.status(container)[0] == 2)
        assert cri.log(sandbox, "one") == "works\n"
        cri.remove_pod(sandbox)
    finally:
        if cri in started:
            cri.close()
            started.remove(cri)
        callers.gone(world)
        world.stop_daemon("installed")
