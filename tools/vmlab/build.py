#!/usr/bin/python3
"""Builds the machine of the test lab: kernel, initrd, disk, and a snapshot of its memory when it is up and idle.

    tools/vmlab/build.py as root; does nothing if the result is up to date
    tools/vmlab/build.py --force

Everything comes from Debian's archive, using the host's apt sources: the packages of kind `guest` in tools/apt-packages.txt, the
kernel of kind `kernel`; what the host lacks (kind `vm`) tools/setup.sh installs. The result is in $PYRUNC_VMLAB, by default
~/.cache/pyrunc-vmlab, and takes about 1.2 GB. Invariant: `key` is written last, so an interrupted build does not count.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

import lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shapes import Say


PACKAGES = lab.HERE.parent / "apt-packages.txt"
KEY = lab.DIR / "key"
LOG = lab.DIR / "build.log"
USELESS_MODULES = ("sound", "drivers/gpu", "drivers/media", "drivers/infiniband/hw")
DRIVERS = ("virtio_pci", "virtio_blk", "virtio_console")
UNWANTED = ("man", "doc", "locale", "info")
INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
%s
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /usr/lib/systemd/systemd
"""
BOOTING = 900  # seconds until the machine has started and has used everything
WARM_UP = """
for m in overlay veth bridge tun nf_tables nft_chain_nat nft_masq nft_compat loop dummy \\
    unix_diag inet_diag tcp_diag udp_diag netlink_diag; do
    modprobe $m || echo "no module $m"
done
chmod 666 /dev/net/tun /dev/fuse
[ "$(systemctl is-system-running --wait)" = running ] || systemctl --failed --no-pager
"""
WARM_UP_EACH = """
set -e
podman import -q /usr/local/lib/lab/busybox.tar localhost/busybox >/dev/null
podman run --rm localhost/busybox true
podman --runtime runc run --rm localhost/busybox true
python3 -c 'import json, subprocess, ctypes, unittest'
if [ $(id -u) = 0 ]; then criu check; fi
"""


def packages(kind: str) -> list[str]:
    rows = (line.split() for line in PACKAGES.read_text().splitlines() if line[:1] not in ("", "#"))
    return [row[1] for row in rows if row[0] == kind]


def guest_packages() -> list[str]:
    """What is installed in the guest. A launcher that is not static is linked with the libpython of the Python that runs this."""
    return [*packages("guest"), "libpython%d.%d" % sys.version_info[:2]]


def key() -> str | None:
    """Identifies what the machine is built from. A snapshot only works with one version of qemu."""
    text = hashlib.sha256(repr((guest_packages(), packages("kernel"))).encode())
    for path in sorted(p for p in lab.HERE.rglob("*") if p.is_file() and p.suffix != ".md" and "__pycache__" not in p.parts):
        if path.name != "run.py":
            text.update(path.read_bytes())
    try:
        text.update(subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, check=False).stdout)
    except FileNotFoundError:
        return None
    return text.hexdigest()


def is_current() -> bool:
    return KEY.exists() and KEY.read_text() == key()


def build(say: Say, force: bool = False) -> None:
    """Builds unless it is up to date. LabError if that is not possible. Only one build runs at a time; others wait."""
    if not force and is_current():
        return
    if os.geteuid():
        raise lab.LabError("building the machine needs root")
    if os.uname().machine != "x86_64":
        raise lab.LabError("the machine is built for x86_64 hosts only")
    try:
        lab.DIR.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise lab.LabError("%s: %s" % (lab.DIR, e.strerror)) from None
    with open(lab.DIR / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if force or not is_current():
            KEY.unlink(missing_ok=True)
            with tempfile.TemporaryDirectory(prefix="vmlab.", dir="/var/tmp") as tmp:
                make(pathlib.Path(tmp), say)
            KEY.write_text(key() or "")


def make(tmp: pathlib.Path, say: Say) -> None:
    start = time.monotonic()

    def step(text: str) -> None:
        say("vmlab: %3d s: %s" % (time.monotonic() - start, text))

    lab.done("tools/setup.sh", ["sh", str(lab.HERE.parent / "setup.sh"), "vm"])
    step("the tools are there; fetching and unpacking the guest's packages")
    root = tmp / "root"
    make_root(tmp, root)
    version = unpack_kernel(tmp, root)
    make_initrd(tmp, root, version)
    step("Linux %s; setting the guest up" % version)
    set_up(tmp, root)
    for path in (lab.DISK, lab.OVERLAY, lab.STATE, lab.RAM):
        path.unlink(missing_ok=True)
    with open(lab.DISK, "wb") as disk:
        disk.truncate(8 << 30)
    make_disk = ["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-O", lab.EXT4, "-E", "lazy_itable_init=1,discard"]
    lab.done("mke2fs", [*make_disk, "-d", str(root), str(lab.DISK)])
    step("the disk is made; booting once, for the snapshot")
    snapshot(say)
    step("done")


# ---- the root file system


def apt_sources() -> list[str]:
    """The host's apt sources for Debian that are not local files; if there are none, mmdebstrap uses its default mirror."""
    found = []
    for path in sorted(
        glob.glob("/etc/apt/sources.list") + glob.glob("/etc/apt/sources.list.d/*.list") + glob.glob("/etc/apt/sources.list.d/*.sources")
    ):
        text = pathlib.Path(path).read_text()
        if "debian-archive" in text.lower() and "file:" not in text:
            found.append(path)
    return found


def suite() -> str:
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise lab.LabError("/etc/os-release does not name the Debian release")


def known(names: list[str]) -> list[str]:
    """Those that this version of Debian has, as far as apt's lists say. (Debian 12 has no docker-cli: docker.io contains it.)"""
    lines = lab.done("apt-cache", ["apt-cache", "madison", "python3", *names]).decode().splitlines()
    found = {line.split()[0] for line in lines if line.strip()}
    return [name for name in names if name in found] if "python3" in found else names


def make_root(tmp: pathlib.Path, root: pathlib.Path) -> None:
    """Creates it with mmdebstrap. The kernel's packages are only downloaded: their scripts would spend an hour building an initrd. (After
    Debian 13, the modules, the image and its configuration are in packages of their own.)"""
    settings = tmp / "apt.conf"
    wanted = ("Acquire::Check-", "Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::AllowInsecure")
    lines = lab.done("apt-config", ["apt-config", "dump"]).decode().splitlines()
    settings.write_text("".join(line + "\n" for line in lines if line.startswith(wanted)))
    fetch = (
        "cd '%s'; export APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\"; needs() { apt-cache depends $1 | sed -n 's/ *Depends: //p'; }; "
        "image=$(needs %s | grep linux-image | head -1); "
        "apt-get download -qq $image $(needs $image | grep -E '^linux-(base|binary|modules)-[0-9]')"
    )
    argv = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=essential",
        "--format=directory",
        "--include=" + ",".join(known(guest_packages())),
    ]
    argv += ["--aptopt=%s" % settings, "--dpkgopt=force-unsafe-io", "--skip=check/empty"]
    argv += ["--dpkgopt=path-exclude=/usr/share/%s/*" % name for name in UNWANTED]
    argv += ["--customize-hook=" + fetch % (tmp, packages("kernel")[0]), suite(), str(root), *apt_sources()]
    with open(LOG, "wb") as log:
        try:
            code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode
        except OSError as e:
            raise lab.LabError("mmdebstrap: %s" % e.strerror) from None
    if code:
        raise lab.LabError("mmdebstrap ended with status %d: %s" % (code, LOG.read_text(errors="replace").strip()[-1500:]))


def unpack_kernel(tmp: pathlib.Path, root: pathlib.Path) -> str:
    """-> the kernel's version. Modules are stored unpacked on the disk, and the ELF image is extracted: an emulated processor takes seconds
    for either."""
    for package in glob.glob(str(tmp / "linux-*.deb")):
        lab.done("dpkg-deb", ["dpkg-deb", "-x", package, str(tmp / "kernel")])
    found = [*(tmp / "kernel").glob("usr/lib/modules/*"), *(tmp / "kernel").glob("lib/modules/*")]
    images = [path for above in found for path in (tmp / "kernel/boot" / ("vmlinuz-" + above.name), above / "vmlinuz") if path.exists()]
    configs = [path for above in found for path in (tmp / "kernel/boot" / ("config-" + above.name), above / "config") if path.exists()]
    if not images or not configs:
        raise lab.LabError("the kernel's packages were not fetched: %s" % LOG.read_text(errors="replace").strip()[-500:])
    version = found[0].name
    modules = root / "usr/lib/modules" / version
    shutil.copytree(found[0], modules, symlinks=True)
    for name in USELESS_MODULES:
        shutil.rmtree(modules / "kernel" / name, ignore_errors=True)
    packed = [str(p) for p in modules.rglob("*.ko.xz")]
    for at in range(0, len(packed), 500):
        lab.done("xz", ["xz", "-d", "-T0", *packed[at : at + 500]])
    lab.done("depmod", ["depmod", "-b", str(root), version])
    image = images[0].read_bytes()
    lab.KERNEL.write_bytes(elf_of(image) or image)
    shutil.copy(configs[0], root / "boot" / ("config-" + version))
    return version


def elf_of(image: bytes) -> bytes | None:
    """The kernel proper within a bzImage (x86 boot protocol: setup_sects, payload_offset, payload_length), if zstd unpacks it."""

    def word(at: int) -> int:
        return int.from_bytes(image[at : at + 4], "little")

    start = (image[0x1F1] + 1) * 512 + word(0x248)
    unpacked = subprocess.run(["zstd", "-dcq"], input=image[start : start + word(0x24C)], capture_output=True, check=False)
    return unpacked.stdout if unpacked.stdout[:4] == b"\x7fELF" else None


def make_initrd(tmp: pathlib.Path, root: pathlib.Path, version: str) -> None:
    """Builds the initrd from busybox and the drivers of the disk and of the agent's port, which Debian 12's kernel, unlike later ones, has as
    modules in part; everything else is in the kernel or on the disk."""
    place = tmp / "initrd"
    for name in ("bin", "dev", "proc", "root"):
        (place / name).mkdir(parents=True)
    shutil.copy(root / "usr/bin/busybox", place / "bin/busybox")
    insmod: list[str] = []
    for driver in DRIVERS:
        out = lab.done("modprobe", ["modprobe", "-d", str(root), "-S", version, "-D", driver]).decode()
        for words in map(str.split, out.splitlines()):
            name = os.path.basename(words[1])
            if words[0] == "insmod" and not (place / name).exists():
                shutil.copy(words[1], place / name)
                insmod.append("/bin/busybox insmod /" + name)
    (place / "init").write_text(INIT % "\n".join(insmod))
    (place / "init").chmod(0o755)
    with open(lab.INITRD, "wb") as archive:
        subprocess.run("find . | cpio --quiet -o -H newc -R 0:0", shell=True, cwd=place, stdout=archive, check=True)


def set_up(tmp: pathlib.Path, root: pathlib.Path) -> None:
    """Adds the files of guest/, the user, the agent and an image for podman, and disables some units."""
    shutil.copytree(lab.HERE / "guest", root, dirs_exist_ok=True)
    shutil.copy(lab.HERE / "agent.py", root / "usr/local/lib/lab/agent.py")
    (root / "etc/fstab").write_text("")
    in_root = ["chroot", str(root)]
    lab.done("useradd", [*in_root, "useradd", "-m", "-u", "1000", "-s", "/bin/bash", "user"])
    for name in ("subuid", "subgid"):  # useradd has added a line
        shutil.copy(lab.HERE / "guest/etc" / name, root / "etc" / name)
    lab.done("systemctl", [*in_root, "systemctl", "--quiet", "enable", "lab-agent.service", "lab-network.service"])
    lab.done("systemctl", [*in_root, "systemctl", "--quiet", "set-default", "multi-user.target"])
    for line in (lab.HERE / "units-off").read_text().splitlines():
        if line[:1] != "#":
            path = root / "etc/systemd" / (line if "/" in line else "system/" + line)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to("/dev/null")
    busybox_image(tmp / "busybox", root)
    shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)


def busybox_image(place: pathlib.Path, root: pathlib.Path) -> None:
    """What podman imports as localhost/busybox."""
    for name in ("bin", "etc", "root"):
        (place / name).mkdir(parents=True)
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o1777)
    busybox = root / "usr/bin/busybox"
    shutil.copy(busybox, place / "bin/busybox")
    for name in lab.done("busybox", [str(busybox), "--list"]).decode().split():
        if name != "busybox":
            (place / "bin" / name).symlink_to("busybox")
    (place / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (place / "etc/group").write_text("root:x:0:\n")
    lab.done("tar", ["tar", "-C", str(place), "-cf", str(root / "usr/local/lib/lab/busybox.tar"), "."])


# ---- the snapshot


def snapshot(say: Say) -> None:
    """Boots, uses everything once that tests will use, and saves the idle machine."""
    lab.done("qemu-img", ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(lab.DISK), str(lab.OVERLAY)])
    with lab.folder() as tmp, lab.Guest(tmp, keep=True) as guest, ended_after(BOOTING, guest):
        for user, script in (("root", WARM_UP), ("root", WARM_UP_EACH), ("user", WARM_UP_EACH), ("root", "sync; sleep 1; sync")):
            heard = bytearray()
            if guest.run(["sh", "-c", script], user, on_output=heard.extend, on_error=heard.extend):
                say("vmlab: warming up as %s: %s" % (user, heard.decode(errors="replace").strip()[-500:]))
        guest.save()


@contextlib.contextmanager
def ended_after(seconds: float, guest: lab.Guest) -> Iterator[None]:
    """Kills a machine that takes longer: whatever waits for its agent then fails."""
    timer = threading.Timer(seconds, guest.process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


if __name__ == "__main__":
    try:
        build(print, "--force" in sys.argv[1:])
    except lab.LabError as e:
        sys.exit("vmlab: %s" % e)
    print("vmlab: up to date in %s" % lab.DIR)
