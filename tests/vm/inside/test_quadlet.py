"""Containers as units: podman's generators write the services, and the system and user managers start, watch and stop them."""

import os
import pathlib

import pytest

import guest
from guest import IMAGE, Podman, read

NAME = "by-quadlet"
UNIT = NAME + ".service"
QUADLET = """\
[Container]
Image=%(image)s
ContainerName=by-quadlet
GlobalArgs=--runtime=%(runtime)s
Network=none
Volume=%(data)s:/data
Exec=sh /data/script
PodmanArgs=--memory=64m
%(keys)s

[Service]
Restart=on-failure
ExecStopPost=/bin/sh -c 'echo $$SERVICE_RESULT $$EXIT_CODE $$EXIT_STATUS >> %(data)s/ended'
"""
SERVES = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
# busybox has no systemd-notify, but its logger sends a datagram unchanged, and managers read it line by line
SAYS_READY = 'until test -e /data/go; do sleep 0.1; done; ln -s $NOTIFY_SOCKET /dev/log; logger "up\nREADY=1"\n'


class Quadlet:
    """A .container file in a directory of a manager, and the service that the manager's generator makes from it."""

    def __init__(self, runtime, folder, user=()):
        self.runtime, self.user = runtime, user
        self.podman = Podman(runtime, "systemd")
        self.file = folder / (NAME + ".container")

    def write(self, data, script=SERVES, keys=""):
        (data / "script").write_text(script)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(QUADLET % {"image": IMAGE, "runtime": self.runtime.path, "data": data, "keys": keys})
        self.systemctl("daemon-reload")

    def systemctl(self, *words, **options):
        return guest.systemctl(*self.user, *words, **options)

    def shown(self, *properties):
        return guest.shown(UNIT, *properties, user=self.user)

    def container(self):
        """-> (pid, cgroup directory) of the running container, which the runtime under test has created."""
        pid, by = self.podman.ok("inspect", "--format", "{{.State.Pid}} {{.OCIRuntime}}", NAME).out.split()
        assert by == self.runtime.path
        return int(pid), guest.cgroup_of(int(pid))

    def clean(self):
        self.file.unlink(missing_ok=True)
        self.systemctl("stop", UNIT, check=False)
        self.systemctl("reset-failed", UNIT, check=False)
        self.systemctl("daemon-reload")


@pytest.fixture
def quadlet(runtime, no_leaks):
    if not os.path.exists("/usr/lib/systemd/system-generators/podman-system-generator"):
        pytest.skip("this version of podman has no quadlet")
    if os.getuid():
        made = Quadlet(runtime, pathlib.Path.home() / ".config/containers/systemd", ["--user"])
    else:
        made = Quadlet(runtime, pathlib.Path("/etc/containers/systemd"))
    yield made
    made.clean()


def lives(quadlet, data):
    """A whole life: generated, started, killed and restarted, stopped."""
    quadlet.write(data)
    generated = "/run/user/1000/systemd/generator/" if quadlet.user else "/run/systemd/generator/"
    shown = quadlet.shown("FragmentPath", "Type", "Restart")
    assert shown == {"FragmentPath": generated + UNIT, "Type": "notify", "Restart": "on-failure"}
    quadlet.systemctl("start", UNIT)
    shown = quadlet.shown("ActiveState", "ControlGroup", "MainPID")
    pid, group = quadlet.container()
    assert shown["ActiveState"] == "active" and read("/proc/%s/comm" % shown["MainPID"]) == "conmon", shown
    assert str(group).startswith("/sys/fs/cgroup%s/libpod-payload-" % shown["ControlGroup"]), group
    assert "67108864" in [read(p / "memory.max") for p in (group, group.parent)]
    quadlet.podman.ok("kill", NAME)
    guest.until(lambda: quadlet.shown("NRestarts", "ActiveState") == {"NRestarts": "1", "ActiveState": "active"}, "the restart")
    again, _group = quadlet.container()
    assert again != pid and read(data / "ended") == "exit-code exited 137"
    ended_well(quadlet, data)


def ended_well(quadlet, data):
    """Stops the service: the program gets TERM and exits with 0, and nothing is left of it."""
    quadlet.systemctl("stop", UNIT)
    assert quadlet.shown("ActiveState") == {"ActiveState": "inactive"}  # and not failed; the manager forgets everything else
    assert read(data / "ended").splitlines()[-1] == "success exited 0"
    assert quadlet.podman.ok("ps", "--all", "--quiet").out == ""


def test_a_unit_of_root(quadlet, tmp_path):
    """Its cgroup is split: conmon and the container each have one below that of the unit."""
    lives(quadlet, tmp_path)


@pytest.mark.vm_user
def test_a_unit_of_the_user(quadlet, tmp_path):
    lives(quadlet, tmp_path)


def becomes_ready(quadlet, data, scope):
    """The program reports when it is ready; until then the unit is starting. Its cgroup is a scope that the runtime has requested."""
    quadlet.write(data, SAYS_READY + SERVES, "Notify=true\nCgroupsMode=no-conmon")
    quadlet.systemctl("start", "--no-block", UNIT)
    running = ["container", "inspect", "--format", "{{.State.Status}}", NAME]
    guest.until(lambda: quadlet.podman.call(*running).out == "running\n", "a running container")
    assert quadlet.shown("ActiveState", "SubState") == {"ActiveState": "activating", "SubState": "start"}
    (data / "go").touch()
    guest.until(lambda: quadlet.shown("ActiveState")["ActiveState"] != "activating", "the end of the start")
    assert quadlet.shown("ActiveState")["ActiveState"] == "active"
    _pid, group = quadlet.container()
    limited = next(p for p in (group, *group.parents) if p.suffix == ".scope")
    assert scope in str(limited) and read(limited / "memory.max") == "67108864"
    assert guest.shown(limited.name, "MemoryMax", user=quadlet.user) == {"MemoryMax": "67108864"}
    ended_well(quadlet, data)


def test_readiness_of_a_unit_of_root(quadlet, tmp_path):
    becomes_ready(quadlet, tmp_path, "/machine.slice/libpod-")


@pytest.mark.vm_short
@pytest.mark.vm_user
def test_readiness_of_a_unit_of_the_user(quadlet, tmp_path):
    becomes_ready(quadlet, tmp_path, "/user@1000.service/user.slice/libpod-")
