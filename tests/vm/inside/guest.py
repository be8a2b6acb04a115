"""What tests in the guest look with: control files, systemctl, waiting for what has no event.

Its one rule: what a test finds is read from the kernel or from systemctl, never from the runtime's own state.
"""

import contextlib
import pathlib
import select
import subprocess
import time

import harness

IMAGE = "localhost/busybox"  # in podman's store, root's and the user's
CGROUP = pathlib.Path("/sys/fs/cgroup")


def cgroup_of(pid):
    """The directory of a process's cgroup."""
    with open("/proc/%d/cgroup" % pid) as file:
        return CGROUP / file.read().strip().rpartition("::")[2].lstrip("/")


def read(path):
    return pathlib.Path(path).read_text().strip()


def numbers(path):
    """A flat keyed file: {key: number}."""
    return {key: int(value) for key, value in (line.split() for line in read(path).splitlines())}


def told(*argv, check=True, **options):
    """What a command of the guest prints."""
    with harness.Capture() as out, harness.Capture() as err:
        code = wait_for(argv, out.file, err.file, **options)
        assert not check or code == 0, harness.Result(argv, code, out.text(), err.text())
        return out.text().strip()


def wait_for(argv, out, err, **options):
    """Runs a command whose children may keep its streams open; they are files. -> its exit status."""
    process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=err, **options)
    try:
        return process.wait(2 * harness.WATCHDOG)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError("hangs: %r" % (argv,)) from None


def systemctl(*words, **options):
    return told("systemctl", *words, **options)


def shown(unit, *properties, user=()):
    """{property: text} of a unit."""
    lines = systemctl(*user, "show", "--property=" + ",".join(properties), unit).splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def until(true, what):
    """Waits for what the kernel tells nobody: asks again and again, up to the watchdog."""
    end = time.monotonic() + harness.WATCHDOG
    while not true():
        assert time.monotonic() < end, "it never came about: " + what
        select.select([], [], [], 0.02)


@contextlib.contextmanager
def file_holds(path, text):
    """A file of the kernel's with another value for a while."""
    path = pathlib.Path(path)
    before = path.read_text().strip()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)


class Podman:
    """podman with the runtime under test and one of its cgroup managers."""

    def __init__(self, runtime, manager):
        self.manager = manager
        self.argv = ["podman", "--runtime", runtime.path, "--cgroup-manager", manager]
        self.names = []

    def call(self, *words, stdin=None):
        with harness.Capture() as out, harness.Capture() as err:
            code = wait_for([*self.argv, *words], out.file, err.file)
            return harness.Result([*self.argv, *words], code, out.text(), err.text())

    def ok(self, *words):
        result = self.call(*words)
        assert result.code == 0, result
        return result

    def once(self, *words, command=("true",)):
        return self.call("run", "--rm", "--network=none", *words, IMAGE, *command)

    def up(self, *words, command=("sleep", "1000")):
        """A detached container -> (id, pid, cgroup directory)."""
        id = self.ok("run", "-d", "--network=none", "--stop-timeout=0", *words, IMAGE, *command).out.strip()
        self.names.append(id)
        pid = int(self.ok("inspect", "--format", "{{.State.Pid}}", id).out)
        return id, pid, cgroup_of(pid)

    def clean(self):
        for id in self.names:
            self.call("rm", "--force", "--time=0", id)
