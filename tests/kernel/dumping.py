"""Helpers shared by the tests of checkpoint and restore: a program that counts on request, and the two commands around it.

The count is only in the memory of the program. A signal requests each step, and a file in a directory of the host shows that it is done, so
no test waits for time to pass.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import harness
import hoststate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness import Json, Option, Result, Runtime
    from workshop import MakeBundle


CRIU = shutil.which("criu", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
COUNTER = (
    "n=0; trap 'n=$((n+1)); echo %s > /steps/$n' USR1; trap 'exit 7' TERM; echo ready > /steps/ready; "
    "while :; do sleep 1000 & wait $!; done"
)
SAY = "$n"


class Counter:
    """A bundle with the counting program, a directory for its images, and the commands."""

    def __init__(
        self,
        runtime: Runtime,
        make_bundle: MakeBundle,
        changes: Mapping[str, Json] | None = None,
        say: str = SAY,
        before: str = "",
        **kw: Option,
    ) -> None:
        self.runtime = runtime
        self.bundle = make_bundle(changes, args=["/bin/sh", "-c", before + COUNTER % say], **kw)
        self.steps = self.bundle.path / "steps"
        self.steps.mkdir()
        self.steps.chmod(0o777)
        (self.bundle.rootfs / "steps").mkdir()
        config = self.bundle.config
        config["mounts"].append({"destination": "/steps", "type": "bind", "source": str(self.steps), "options": ["rbind", "rprivate"]})
        self.bundle.write(config)
        self.images = self.bundle.path / "images"
        self.work = self.bundle.path / "work"
        self.count = 0
        self.id = ""  # until run()

    def run(self, *options: str, **kw: Option) -> Counter:
        self.id = self.runtime.new_id()
        argv = self.runtime.argv("run", "--detach", "--bundle", self.bundle, *options, self.id, **kw)
        null = subprocess.DEVNULL  # the container would inherit the capture files of the harness, and they would be part of the images
        assert subprocess.run(argv, stdin=null, stdout=null, stderr=null, env=self.runtime.env).returncode == 0
        harness.appears(str(self.steps / "ready"))
        return self

    def step(self) -> str:
        """Counts once more; returns the line that the program wrote."""
        self.count += 1
        self.runtime.kill(self.id, "USR1")
        return harness.appears(str(self.steps / str(self.count))).strip()

    def checkpoint(self, *options: str, id: str | None = None, **kw: Option) -> Result:
        return self.runtime.call("checkpoint", "--image-path", self.images, "--work-path", self.work, *options, id or self.id, **kw)

    def restore(self, *options: str, detach: bool = True, id: str | None = None, **kw: Option) -> Result:
        words = ["restore", "--bundle", self.bundle, "--image-path", self.images, "--work-path", self.work]
        return self.runtime.call(*words, *(["--detach"] if detach else []), *options, id or self.id, **kw)

    def dumped(self, *options: str, **kw: Option) -> Counter:
        result = self.checkpoint(*options, **kw)
        assert result.code == 0, "%s\n%s" % (result, self.log("dump.log"))
        return self

    def restored(self, *options: str, **kw: Option) -> Counter:
        result = self.restore(*options, **kw)
        assert result.code == 0, "%s\n%s" % (result, self.log("restore.log"))
        assert result.err == ""
        return self

    def again(self, *options: str) -> Counter:
        """Checkpoints to files and restores."""
        return self.dumped(*options).restored(*options)

    def log(self, name: str) -> str:
        path = self.work / name
        if not path.exists():
            return "no %s" % name
        lines = path.read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if "Error" in line] + lines[-5:])

    def cgroups(self, file: str = "") -> list[str]:
        """The directories of its cgroups that contain `file`."""
        found = hoststate.cgroups(self.bundle.config["linux"]["cgroupsPath"].strip("/"))
        return sorted(path for path in found if os.path.exists(os.path.join(path, file)))

    def pid(self) -> int:
        return self.runtime.state(self.id)["pid"]

    def inside(self, *words: str) -> str:
        """The standard output of a program run in the container."""
        return self.runtime.ok("exec", self.id, *words).out

    def known(self) -> bool:
        return os.path.exists(os.path.join(self.runtime.root, self.id))


def mounts_of(made: Counter) -> list[tuple[str, list[str]]]:
    """[(mount point, options)] as the container sees them. Without relatime, which depends on which /dev/null covers a file."""
    lines = pathlib.Path("/proc/%d/mountinfo" % made.pid()).read_text().splitlines()
    return sorted((line.split(" ")[4], sorted(set(line.split(" ")[5].split(",")) - {"relatime"})) for line in lines)


class Listener:
    """The caller's end of --console-socket."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(path))
        self.socket.listen(1)
        self.socket.settimeout(harness.WATCHDOG)

    def receive(self) -> int:
        """The master, from a single message with one descriptor, followed by end of file."""
        peer, _address = self.socket.accept()
        with peer:
            peer.settimeout(harness.WATCHDOG)
            data, fds, _flags, _address = socket.recv_fds(peer, 4096, 8)
            assert data and len(fds) == 1 and peer.recv(1) == b""
        return fds[0]

    def close(self) -> None:
        self.socket.close()
        self.path.unlink()
