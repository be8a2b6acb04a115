#!/usr/bin/python3
"""A whole machine with the other processor: Debian for aarch64 in qemu's emulation, with Python, pytest, podman, this tree and the release file.

    machine.py RELEASE-FILE COMMAND [--seconds N]

The packages are unpacked, not configured (tools/roots.py); the extension is cross-compiled; the compiled launcher is the release file. What
of .venv is pure Python is copied. COMMAND runs as root in /src, under a shell that is PID 1's child; its output comes on the serial console,
and its exit status is ours. 124: it took longer than N seconds.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))
import boot  # noqa: E402
import release  # noqa: E402
import roots  # noqa: E402

if TYPE_CHECKING:
    from typing import TextIO

PROJECT = HERE.parent.parent
ARCH, DEBIAN, SUITE = "aarch64", "arm64", "trixie"
PACKAGES = """base-files bash dash libc-bin debianutils gzip python3 python3-jsonschema python3-prctl libseccomp2 busybox-static util-linux mount procps iproute2 libcap2-bin strace podman
conmon crun runc netavark aardvark-dns catatonit golang-github-containers-common uidmap nftables iptables kmod coreutils sed grep findutils
hostname login passwd tar bsdextrautils ncurses-base git""".split()
# pure Python, for the tests
SITE = "_pytest pytest pluggy iniconfig packaging pygments hypothesis hypothesis_jsonschema sortedcontainers xdist execnet py.py pyseccomp.py _hypothesis_ftz_detector.py _hypothesis_globals.py _hypothesis_pytestplugin.py pytest_rerunfailures.py attr attrs websocket".split()  # fmt: skip
INITRD = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox insmod /virtio_blk.ko
while [ ! -e /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /bin/sh /lab/init
"""
INIT = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb CI=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for dir in run tmp; do mount -t tmpfs -o mode=1777 tmpfs /$dir; done
mkdir -p /dev/pts /dev/shm /dev/mqueue /var/tmp /run/lock
ln -s /proc/self/fd /dev/fd
for n in 0:stdin 1:stdout 2:stderr; do ln -s fd/${n%:*} /dev/${n#*:}; done
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do echo +$controller > /sys/fs/cgroup/cgroup.subtree_control; done
for module in overlay veth bridge dummy tun nf_tables loop; do modprobe -q $module; done
ldconfig
ip link set lo up
hostname lab
cd /src
echo "LAB BEGINS $(uname -r) $(uname -m)"
sh /lab/command </dev/null
echo "LAB ENDS $?"
mount -o remount,ro / 2>/dev/null
busybox poweroff -f
"""


def extension(source: pathlib.Path) -> None:
    """Cross-compiles it as the Makefile does."""
    compiler, sysroot, _ = release.toolchain(ARCH)
    include = "%s/usr/include/python%d.%d" % (sysroot, *sys.version_info[:2])
    argv = ["make", "--silent", "-C", str(source), "ext", "CC=" + " ".join(compiler), "PY_INCLUDE=%s -I%s/usr/include" % (include, sysroot)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def tree(root: pathlib.Path, program: pathlib.Path) -> None:
    """/src: a clone with the extension, the launcher and a .venv."""
    source = root / "src"
    shutil.rmtree(source, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(source)], check=True)
    extension(source)
    shutil.copy(program, source / "runtime/bin/pyrunc-static")
    minor = "python%d.%d" % sys.version_info[:2]
    site = source / ".venv/lib" / minor / "site-packages"
    site.mkdir(parents=True)
    (source / ".venv/bin").mkdir()
    (source / ".venv/bin/python").symlink_to("/usr/bin/" + minor)
    (source / ".venv/bin/pyrunc").symlink_to("../../runtime/bin/pyrunc-static")
    (source / ".venv/pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = true\nversion = 3\n")
    (site / "pyrunc.pth").write_text("/src/runtime\n")
    here = PROJECT / ".venv/lib" / minor / "site-packages"
    for name in SITE:
        for path in [here / name, *here.glob(name.replace(".py", "") + "-*.dist-info")]:
            if path.is_dir():
                shutil.copytree(path, site / path.name, ignore=shutil.ignore_patterns("*.so"))
            elif path.exists():
                shutil.copy(path, site)
    for path in here.glob("pytest_*.dist-info"):
        shutil.copytree(path, site / path.name, dirs_exist_ok=True)


def modules(root: pathlib.Path, kernel: pathlib.Path) -> str:
    (version,) = [path.name for path in (kernel / "usr/lib/modules").iterdir()]
    target = root / "usr/lib/modules" / version
    if not target.exists():
        shutil.copytree(kernel / "usr/lib/modules" / version, target, symlinks=True)
        subprocess.run(["depmod", "-b", str(root), version], check=True)
    return version


def accounts(root: pathlib.Path) -> None:
    """What the scripts of base-passwd and others would write."""
    for name in ("passwd", "group"):
        shutil.copy(root / "usr/share/base-passwd" / (name + ".master"), root / "etc" / name)
    (root / "etc/subuid").write_text("root:100000:65536\n")
    (root / "etc/subgid").write_text("root:100000:65536\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost lab\n")
    for link, target in (
        ("bin/sh", "dash"),
        ("bin/awk", "busybox"),
        ("bin/which", "which.debianutils"),
        ("sbin/iptables", "xtables-nft-multi"),
    ):
        where = root / "usr" / link
        if not where.exists() and not where.is_symlink():
            where.symlink_to(target)


def initrd(root: pathlib.Path, version: str, folder: pathlib.Path) -> pathlib.Path:
    place = folder / "initrd.d"
    for name in ("bin", "dev", "proc", "root"):
        (place / name).mkdir(parents=True)
    shutil.copy(root / "usr/bin/busybox", place / "bin/busybox")
    module = next((root / "usr/lib/modules" / version).rglob("virtio_blk.ko*"))
    data = module.read_bytes()
    if module.suffix == ".xz":
        data = subprocess.run(["xz", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    (place / "virtio_blk.ko").write_bytes(data)
    (place / "init").write_text(INITRD)
    (place / "init").chmod(0o755)
    packed = folder / "initrd"
    with open(packed, "wb") as file:
        subprocess.run("find . | cpio --quiet -o -H newc -R 0:0", shell=True, cwd=place, stdout=file, check=True)
    return packed


def run(program: pathlib.Path, command: str, seconds: int, out: TextIO) -> int:
    """The command's exit status; 124 after that many seconds. `out` gets its output."""
    root = roots.made("machine-%s-%s" % (SUITE, DEBIAN), SUITE, PACKAGES, "extract", DEBIAN)
    image, _ = boot.kernel(SUITE, ARCH)
    version = modules(root, image.parent.parent)
    accounts(root)
    tree(root, program)
    # the packages' scripts would do this; an emulated processor takes seconds for one import without
    folders = [str(root / name) for name in ("usr/lib/python3/dist-packages", "usr/lib/python%d.%d" % sys.version_info[:2], "src")]
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-s", str(root), "-p", "/", *folders], stdout=subprocess.DEVNULL)
    (root / "lab").mkdir(exist_ok=True)
    (root / "lab/init").write_text(INIT)
    (root / "lab/command").write_text(command + "\n")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = pathlib.Path(name)
        disk = folder / "disk"
        with open(disk, "wb") as file:
            file.truncate(4 << 30)
        options = ["-t", "ext4", "-m", "0", "-O", "^has_journal,^metadata_csum", "-E", "lazy_itable_init=1"]
        subprocess.run(["mke2fs", "-q", "-F", *options, "-d", str(root), str(disk)], check=True)
        packed = initrd(root, version, folder)
        words = "console=%s panic=-1 quiet mitigations=off" % boot.CONSOLE[ARCH]
        argv = [*boot.QEMU[ARCH], "-smp", "2", "-m", "2048", "-nographic", "-no-reboot", "-nic", "none", "-kernel", str(image)]
        argv += ["-initrd", str(packed), "-append", words, "-drive", "if=none,id=root,format=raw,cache=unsafe,file=%s" % disk]
        argv += ["-device", "virtio-blk-pci,drive=root", "-device", "virtio-rng-pci"]
        status = 124
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as qemu:
            assert qemu.stdout is not None
            watchdog = threading.Timer(seconds, qemu.kill)
            watchdog.start()
            for line in qemu.stdout:
                text = line.decode(errors="replace").rstrip()
                print(text, file=out, flush=True)
                if text.startswith("LAB ENDS "):
                    status = int(text.split()[2])
            watchdog.cancel()
    return status


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="runs a command in a machine with the other processor")
    parser.add_argument("release", type=pathlib.Path)
    parser.add_argument("command")
    parser.add_argument("--seconds", type=int, default=1200)
    options = parser.parse_args(argv)
    try:
        return run(options.release, options.command, options.seconds, sys.stdout)
    except roots.Failed as e:
        print("machine: %s" % e, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
