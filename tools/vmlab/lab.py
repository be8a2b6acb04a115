"""A disposable machine with systemd as pid 1 and cgroup v2: Debian in qemu's processor emulation, without KVM.

build.py creates its disk, its kernel and a snapshot of its memory, booted and idle; a Guest starts from that within two seconds, runs
commands through the agent inside, and is discarded. Invariant: the disk and the memory of the snapshot are never written to, so that guests
can run in parallel, and each starts in the same state.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO, NoReturn, TextIO

    from shapes import Json


HERE = pathlib.Path(__file__).resolve().parent
DIR = pathlib.Path(os.environ.get("PYRUNC_VMLAB") or os.path.expanduser("~/.cache/pyrunc-vmlab"))
KERNEL, INITRD, DISK, OVERLAY, RAM, STATE = (DIR / n for n in ("vmlinuz", "initrd", "root.img", "overlay.qcow2", "ram", "state"))
MEMORY = 2 << 30
SHARE = 16 << 30  # size of the second disk in the guest, because a restored guest can't detect a different one; sparse
KERNEL_WORDS = (
    "console=ttyS0 quiet loglevel=4 mitigations=off nowatchdog no_timer_check tsc=reliable random.trust_cpu=on cryptomgr.notests "
    "systemd.show_status=0 systemd.log_target=kmsg systemd.log_level=warning panic=-1 rw"
)
EXT4 = "^has_journal,^metadata_csum"
# What the guest does not need. Byte code is kept: compiling it again would cost the guest seconds.
LEAVE_OUT = (".git", ".stamps", ".mypy_cache", ".ruff_cache", ".pytest_cache", "build", "mypy*", "mypyc*", "ruff", ".hypothesis")


class LabError(Exception):
    """The lab itself has failed, not the command that it runs."""


def folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder that is removed at the end of the `with` block."""
    return tempfile.TemporaryDirectory(prefix="vmlab.")


class Guest:
    """One machine. share: a folder whose copy is at the same path inside. cold: boots even if there is a snapshot. keep: changes to the
    disk are kept (only for build.py). console: a file for the output of kernel and systemd."""

    def __init__(
        self,
        tmp: str,
        share: str | os.PathLike[str] | None = None,
        cold: bool = False,
        words: str = "",
        console: str | None = None,
        keep: bool = False,
    ) -> None:
        if not DISK.exists():
            raise LabError("there is no guest in %s: make test-vm builds it" % DIR)
        self.console = console or os.path.join(tmp, "console")
        self.share = str(share) if share else ""
        image = share_image(tmp, share)
        os.truncate(image, SHARE)
        cold = cold or keep or bool(words) or not STATE.exists()
        pairs = [socket.socketpair(), socket.socketpair()]
        theirs = [pair[1] for pair in pairs]
        argv = self._argv(image, theirs, cold, words, keep)
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
            pass_fds=[s.fileno() for s in theirs], env={**os.environ, "TMPDIR": tmp}, preexec_fn=die_with_us,
        )  # fmt: skip
        for end in theirs:
            end.close()
        self.agent = pairs[0][0]
        self.monitor = pairs[1][0].makefile("rwb")
        self._reply()
        self.qmp("qmp_capabilities")
        if cold and not keep:
            return
        # the memory is a separate file and not part of the stream; a restored guest maps it copy-on-write
        self.qmp("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])
        if not cold:
            self._restore()

    def _argv(self, image: str, ends: list[socket.socket], cold: bool, words: str, keep: bool) -> list[str]:
        disk, kind = (OVERLAY, "qcow2") if OVERLAY.exists() else (DISK, "raw")
        size = "%dM" % (MEMORY >> 20)
        memory = "memory-backend-ram,id=ram,size=%s" % size
        if keep or not cold:
            memory = "memory-backend-file,id=ram,size=%s,mem-path=%s,share=%s" % (size, RAM, "on" if keep else "off")
        drive = "if=none,id=%s,file=%s,format=%s,cache=unsafe,snapshot=%s"
        argv = ["qemu-system-x86_64", "-name", "vmlab", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        argv += ["-machine", "q35,memory-backend=ram,vmport=off,smm=off,hpet=off", "-accel", "tcg,thread=multi,tb-size=256"]
        argv += ["-cpu", "max,-la57", "-smp", "2", "-m", size, "-object", memory]  # la57: five-level page tables only cost time
        argv += ["-kernel", str(KERNEL), "-initrd", str(INITRD), "-append", ("%s %s" % (KERNEL_WORDS, words)).strip()]
        argv += ["-drive", drive % ("root", disk, kind, "off" if keep else "on"), "-device", "virtio-blk-pci,drive=root"]
        argv += ["-drive", drive % ("share", image, "raw", "off"), "-device", "virtio-blk-pci,drive=share"]
        argv += ["-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"]
        argv += ["-chardev", "socket,id=agent,fd=%d" % ends[0].fileno()]
        argv += ["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=lab"]
        argv += [
            "-chardev",
            "socket,id=qmp,fd=%d" % ends[1].fileno(),
            "-mon",
            "chardev=qmp,mode=control",
            "-serial",
            "file:" + self.console,
        ]
        return argv if cold else [*argv, "-incoming", "defer"]

    # -- qemu's own protocol

    def _restore(self) -> None:
        self.qmp("migrate-incoming", uri="exec:cat %s" % shlex.quote(str(STATE)))  # file: is new in qemu 8.2
        while self.qmp("query-status")["status"] == "inmigrate":
            time.sleep(0.01)
        self.qmp("cont")

    def save(self) -> None:
        """Writes the snapshot and stops the machine (build.py)."""
        self.qmp("stop")
        self.qmp("migrate", uri="exec:cat > %s" % shlex.quote(str(STATE)))
        while (info := self.qmp("query-migrate")).get("status") not in ("completed", "failed"):
            time.sleep(0.05)
        if info["status"] == "failed":
            raise LabError("the snapshot failed: %s" % info.get("error-desc"))
        self.qmp("quit")
        self.process.wait()

    def qmp(self, command: str, **arguments: object) -> Json:
        self.monitor.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.monitor.flush()
        while True:
            reply = self._reply()
            if "error" in reply:
                raise LabError("%s: %s" % (command, reply["error"]["desc"]))
            if "return" in reply:
                return reply["return"]

    def _reply(self) -> Json:
        try:
            line = self.monitor.readline()
        except OSError:
            line = b""
        return json.loads(line) if line else self._gone()

    def _gone(self) -> NoReturn:
        self.process.kill()
        assert self.process.stderr  # a pipe, see __init__
        tail = self.process.stderr.read().decode(errors="replace")[-1000:]
        with contextlib.suppress(OSError):
            tail += pathlib.Path(self.console).read_text(errors="replace")[-2000:]
        raise LabError("the machine has ended: %s" % tail.strip())

    # -- the agent

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                part = self.agent.recv(size - len(data))
            except OSError:
                part = b""
            data += part or self._gone()
        return bytes(data)

    def run(
        self,
        argv: Sequence[str],
        user: str = "root",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes = b"",
        on_output: Callable[[bytes], object] | None = None,
        on_error: Callable[[bytes], object] | None = None,
    ) -> int:
        """Runs a command until it exits and returns its exit status. on_output and on_error get chunks of bytes; by default they are
        written to our own streams."""
        request: Json = {"argv": list(argv), "user": user, "env": env or {}, "cwd": cwd, "stdin": len(stdin), "share": self.share}
        request.update(time=time.time(), seed=os.urandom(64).hex())
        text = json.dumps(request).encode()
        message = struct.pack(">I", len(text)) + text + stdin
        # in a thread: a guest that answers early must not wait for the end of a long stdin
        threading.Thread(target=self._send, args=(message,), daemon=True).start()
        streams = {b"o": on_output or write_to(sys.stdout), b"e": on_error or write_to(sys.stderr)}
        while True:
            kind, size = struct.unpack(">cI", self._receive(5))
            data = self._receive(size)
            if kind == b"x":
                status: int = struct.unpack(">I", data)[0]
                return status
            streams[kind](data)

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # whatever waits for the answer notices a dead machine
            self.agent.sendall(message)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()


def write_to(stream: TextIO) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        stream.buffer.write(data)
        stream.flush()

    return write


def die_with_us() -> None:
    """In the child: a machine never outlives the process that started it."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def share_image(tmp: str, share: str | os.PathLike[str] | None) -> str:
    """An ext4 image with a copy of the folder, owned by root and readable for all; empty without one."""
    image = os.path.join(tmp, "share.img")
    if not share:
        pathlib.Path(image).touch()
        return image
    copy = os.path.join(tmp, "copy")
    os.mkdir(copy)
    excluded = ["--exclude=" + name for name in LEAVE_OUT]
    pack = ["tar", "-C", str(share), *excluded, "--owner=0", "--group=0", "--mode=go+rX,go-w", "-cf", "-", "."]
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
        done("tar", ["tar", "-C", copy, "-xpf", "-"], stdin=packed.stdout)
    used = sum(os.lstat(os.path.join(top, n)).st_size + 4096 for top, folders, files in os.walk(copy) for n in [*folders, *files])
    size = used * 5 // 4 + (512 << 20)
    make = ["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-O", EXT4 + ",^resize_inode", "-i", "8192", "-E", "lazy_itable_init=1"]
    done("mke2fs", [*make, "-d", copy, image, "%dk" % (size >> 10)])
    shutil.rmtree(copy)
    return image


def done(what: str, argv: Sequence[str], stdin: int | IO[bytes] | None = subprocess.DEVNULL) -> bytes:
    """Runs a tool on the host; LabError with its last output if it fails."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        made = subprocess.run(argv, capture_output=True, env={**os.environ, "PATH": path}, check=False, stdin=stdin)
    except OSError as e:
        raise LabError("%s: %s" % (what, e.strerror)) from None
    if made.returncode:
        raise LabError("%s ended with status %d: %s" % (what, made.returncode, made.stderr.decode(errors="replace").strip()[-1500:]))
    return made.stdout
