#!/usr/bin/python3
"""The lab's agent inside the guest: accepts one request at a time from the virtio port and runs its command under systemd.

A request: length (u32, big endian), JSON, then `stdin` bytes. Answers: a byte of kind, length, data. Kinds: o and e, a piece of the
command's output; x, its exit status, the last answer. The command is a transient service with Delegate=yes: root's in system.slice,
a user's in its user manager. What it leaves running ends with it.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import pwd
import selectors
import struct
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shapes import Json


RNDRESEEDCRNG = 0x5207
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def port() -> int:
    """The descriptor of the virtio port, once its driver has created it."""
    while True:
        for path in glob.glob("/dev/vport*"):
            return os.open(path, os.O_RDWR)
        time.sleep(0.05)


def receive(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(fd, size - len(data))
        if not part:  # the other end is not open yet
            time.sleep(0.02)
        data += part
    return data


def send(fd: int, kind: bytes, data: bytes = b"") -> None:
    rest = memoryview(kind + struct.pack(">I", len(data)) + data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def awaken(request: Json) -> None:
    """Updates the clock and the random numbers: a restored guest has those of the snapshot."""
    if abs(time.time() - request["time"]) > 0.5:
        time.clock_settime(time.CLOCK_REALTIME, request["time"])
    with open("/dev/urandom", "wb", buffering=0) as random:
        random.write(bytes.fromhex(request["seed"]))
        fcntl.ioctl(random, RNDRESEEDCRNG)


def mount_share(place: str) -> None:
    """Mounts the second disk, which contains a copy of the shared folder, at the same path as on the host. Everybody can enter the folders
    above it."""
    if os.path.ismount(place):
        return
    os.makedirs(place, exist_ok=True)
    above = os.path.dirname(place)
    while above != "/":
        os.chmod(above, os.stat(above).st_mode | 0o111)
        above = os.path.dirname(above)
    subprocess.run(["mount", "-t", "ext4", "/dev/vdb", place], check=True)


def command(request: Json, who: pwd.struct_passwd) -> tuple[list[str], dict[str, str]]:
    """-> (argv of systemd-run, its environment)."""
    folder = request["cwd"] or request["share"] or who.pw_dir
    argv = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--working-directory=" + folder]
    argv += ["--property=Delegate=yes", "--property=KillSignal=SIGKILL"]
    env = {"HOME": who.pw_dir, "USER": who.pw_name, "LOGNAME": who.pw_name, "SHELL": "/bin/bash", "LANG": "C.UTF-8", "PATH": PATH}
    if who.pw_uid:
        argv.append("--user")
        env["XDG_RUNTIME_DIR"] = "/run/user/%d" % who.pw_uid
        env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=%s/bus" % env["XDG_RUNTIME_DIR"]
    env.update(request["env"])
    argv += ["--setenv=%s=%s" % pair for pair in env.items()]
    return [*argv, "--", *request["argv"]], env


def pump(fd: int, process: subprocess.Popen[bytes]) -> None:
    """Forwards both streams until they are closed."""
    pipes = selectors.DefaultSelector()
    assert process.stdout and process.stderr  # serve() asks for pipes
    pipes.register(process.stdout, selectors.EVENT_READ, b"o")
    pipes.register(process.stderr, selectors.EVENT_READ, b"e")
    while pipes.get_map():
        for key, _events in pipes.select():
            data = os.read(key.fd, 65536)
            if data:
                send(fd, key.data, data)
            else:
                pipes.unregister(key.fileobj)


def serve(fd: int, request: Json) -> int:
    """Runs one command until it exits. -> its exit status."""
    stdin = os.memfd_create("stdin")
    if request["stdin"]:
        os.write(stdin, receive(fd, request["stdin"]))
        os.lseek(stdin, 0, os.SEEK_SET)
    awaken(request)
    if request["share"]:
        mount_share(request["share"])
    who = pwd.getpwnam(request["user"])
    argv, env = command(request, who)
    user, group, groups = (who.pw_uid, who.pw_gid, os.getgrouplist(who.pw_name, who.pw_gid)) if who.pw_uid else (None, None, None)
    process = subprocess.Popen(
        argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd="/", user=user, group=group, extra_groups=groups
    )
    os.close(stdin)
    pump(fd, process)
    status = process.wait()
    return status if status >= 0 else 128 - status


def main() -> None:
    fd = port()
    while True:
        request = json.loads(receive(fd, struct.unpack(">I", receive(fd, 4))[0]))
        try:
            status = serve(fd, request)
        except Exception as e:
            send(fd, b"e", ("agent: %r\n" % e).encode())
            status = 125
        send(fd, b"x", struct.pack(">I", status))


if __name__ == "__main__":
    main()
