#!/usr/bin/python3
"""Boots a Debian kernel with an initrd that contains busybox, a release file and a bundle, and reports what works.

    boot.py RELEASE-FILE SUITE [--arch aarch64] [--append WORDS]

The kernel's package is unpacked below the cache (tools/roots.py) and run in qemu's emulation, without KVM. There are no modules: what
Debian builds as a module (overlayfs) is missing, as on a minimal machine.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import roots  # noqa: E402

if TYPE_CHECKING:
    from shapes import Json

PROJECT = HERE.parent.parent
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
QEMU = {
    "x86_64": ["qemu-system-x86_64", "-M", "q35", "-cpu", "max"],
    "aarch64": ["qemu-system-aarch64", "-M", "virt", "-cpu", "max"],
}
CONSOLE = {"x86_64": "ttyS0", "aarch64": "ttyAMA0"}
ARCHITECTURES = {"x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]}
SECONDS = 200
APPLETS = "sh id cat grep mkdir sleep true mount unshare".split()


def kernel(suite: str, arch: str) -> tuple[pathlib.Path, pathlib.Path]:
    """(the kernel, a static busybox) for that processor."""
    debian = DEBIAN[arch]
    root = roots.made("kernel-%s-%s" % (suite, debian), suite, ["linux-image-cloud-" + debian, "busybox-static"], "extract", debian)
    found = sorted([*root.glob("boot/vmlinuz-*"), *root.glob("usr/lib/modules/*/vmlinuz")])
    if not found:
        raise roots.Failed("%s has no kernel" % root)
    busybox = next(path for path in (root / "usr/bin/busybox", root / "bin/busybox") if path.exists())
    return found[-1], busybox


def configs(arch: str) -> dict[str, dict[str, Json]]:
    """{file name: config}: with docker's profile for this processor, a call that it refuses, and one that waits."""
    document = json.loads((PROJECT / "bundles/seccomp-docker/config.json").read_text())
    document["linux"]["seccomp"]["architectures"] = ARCHITECTURES[arch]
    document["linux"]["cgroupsPath"] = "/anywhere"

    def with_args(*args: str) -> dict[str, Json]:
        return {**document, "process": {**document["process"], "args": list(args)}}

    return {
        "config.json": with_args("/bin/grep", "Seccomp:", "/proc/self/status"),
        "refused.json": with_args("/bin/sh", "-c", "unshare -r true 2>&1"),
        "waiting.json": with_args("/bin/sleep", "600"),
    }


def initrd(release: pathlib.Path, busybox: pathlib.Path, arch: str, folder: pathlib.Path) -> pathlib.Path:
    tree = folder / "tree"
    for name in ("bin", "proc", "sys", "dev", "bundle/rootfs/bin", "bundle/rootfs/mnt"):
        (tree / name).mkdir(parents=True)
    shutil.copy(busybox, tree / "bin/busybox")
    shutil.copy(busybox, tree / "bundle/rootfs/bin/busybox")
    for name in APPLETS:
        (tree / "bundle/rootfs/bin" / name).symlink_to("busybox")
    shutil.copy(release, tree / "bin/pyrunc")
    (tree / "bin/pyrunc").chmod(0o755)
    shutil.copy(HERE / "guest.sh", tree / "init")
    (tree / "init").chmod(0o755)
    for name, document in configs(arch).items():
        (tree / "bundle" / name).write_text(json.dumps(document))
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = folder / "initrd"
    with open(packed, "wb") as file:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=tree, input=names.encode(), stdout=file, check=True)
    return packed


def boot(release: pathlib.Path, suite: str, arch: str, append: str = "") -> tuple[str, list[tuple[str, str]]]:
    """boot_kernel() with the kernel of a Debian suite."""
    image, busybox = kernel(suite, arch)
    return boot_kernel(release, image, busybox, arch, append)


def boot_kernel(
    release: pathlib.Path, image: pathlib.Path, busybox: pathlib.Path, arch: str, append: str = ""
) -> tuple[str, list[tuple[str, str]]]:
    """(kernel's version, [(check, "ok" or what was seen)]). Failed if the machine has no output."""
    if shutil.which(QEMU[arch][0]) is None:
        raise roots.Failed("%s is not installed" % QEMU[arch][0])
    with tempfile.TemporaryDirectory() as folder:
        packed = initrd(release, busybox, arch, pathlib.Path(folder))
        words = "console=%s panic=-1 quiet %s" % (CONSOLE[arch], append)
        argv = [*QEMU[arch], "-m", "1024", "-nographic", "-no-reboot", "-nic", "none", "-kernel", str(image), "-initrd", str(packed)]
        try:
            done = subprocess.run([*argv, "-append", words], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
            text = done.stdout.decode(errors="replace")
        except subprocess.TimeoutExpired as e:
            text = (e.stdout or b"").decode(errors="replace")
    lines = text.replace("\r", "").splitlines()
    version = next((line.partition("KERNEL ")[2] for line in lines if "KERNEL " in line), None)
    if version is None:
        raise roots.Failed("the machine did not come up: %s" % text[-400:])
    checks = []
    for line in lines:
        if line.startswith("CHECK "):
            name, _, verdict = line.removeprefix("CHECK ").partition(" FAILED: ")
            checks.append((name.removesuffix(" ok"), verdict or ("ok" if line.endswith(" ok") else "nothing was printed")))
    if "CHECKS END" not in lines:
        checks.append(("the end", "not reached: %s" % (lines[-1] if lines else "")))
    return version, checks


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="boots a release file with a kernel of Debian's")
    parser.add_argument("release", type=pathlib.Path)
    parser.add_argument("suite")
    parser.add_argument("--arch", choices=sorted(DEBIAN), default=os.uname().machine)
    parser.add_argument("--append", default="")
    options = parser.parse_args(argv)
    version, checks = boot(options.release, options.suite, options.arch, options.append)
    print("Linux %s" % version)
    for name, verdict in checks:
        print("  %-22s %s" % (name, verdict))
    return int(any(verdict != "ok" for _, verdict in checks))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
