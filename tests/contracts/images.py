"""The only image of the contract tests: a root file system with busybox, as a tarball and as an OCI image archive.

Owns the contents of that root. Nothing is fetched; the same input gives the same bytes (no clock in the archives).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness import Json


BUSYBOX = "/bin/busybox"
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
GROUP = "root:x:0:\ntty:x:5:\napp:x:1000:\nextra:x:2000:app\n"
FILES = {
    "etc/passwd": (PASSWD, 0o644),
    "etc/group": (GROUP, 0o644),
    "etc/hosts": ("127.0.0.1 localhost\n", 0o644),
    "etc/resolv.conf": ("", 0o644),
    "www/index.html": ("served\n", 0o644),
    "bin/garbage": ("neither ELF nor script", 0o755),
}
DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "home/app": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/bin": 0o755,
    "var": 0o755,
    "var/tmp": 0o1777,
    "www": 0o755,
}


def add(archive: tarfile.TarFile, name: str, kind: bytes, mode: int, data: bytes = b"", link: str = "", owner: int = 0) -> None:
    """Adds a member to a tar archive, without a time stamp."""
    item = tarfile.TarInfo(name)
    item.type, item.mode, item.size, item.linkname, item.uid, item.gid = kind, mode, len(data), link, owner, owner
    archive.addfile(item, io.BytesIO(data))


def rootfs_tar() -> bytes:
    """The root file system as an uncompressed tar archive."""
    with open(BUSYBOX, "rb") as file:
        busybox = file.read()
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode in DIRECTORIES.items():
            add(archive, name, tarfile.DIRTYPE, mode, owner=1000 if name == "home/app" else 0)
        add(archive, "bin/busybox", tarfile.REGTYPE, 0o755, busybox)
        for name in applets:
            if name != "busybox":
                add(archive, f"bin/{name}", tarfile.SYMTYPE, 0o777, link="busybox")
        for name, (text, mode) in FILES.items():
            add(archive, name, tarfile.REGTYPE, mode, text.encode())
    return buffer.getvalue()


def oci_archive(layer: bytes, reference: str) -> bytes:
    """The same root as an OCI image archive (image-spec image-layout.md), for tools that require one."""
    blobs = {}

    def blob(data: bytes, media_type: str) -> Json:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    kind = "application/vnd.oci.image."
    config = {
        "architecture": machine(),
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sleep", "100000"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind + "manifest.v1+json",
        "config": blob(json.dumps(config).encode(), kind + "config.v1+json"),
        "layers": [blob(gzip.compress(layer, mtime=0), kind + "layer.v1.tar+gzip")],
    }
    entry = blob(json.dumps(manifest).encode(), kind + "manifest.v1+json")
    entry["annotations"] = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add(archive, "oci-layout", tarfile.REGTYPE, 0o644, b'{"imageLayoutVersion":"1.0.0"}')
        add(archive, "index.json", tarfile.REGTYPE, 0o644, json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        for digest, data in blobs.items():
            add(archive, f"blobs/sha256/{digest}", tarfile.REGTYPE, 0o644, data)
    return buffer.getvalue()


def machine() -> str:
    """The architecture of this machine as images spell it."""
    name = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(name, name)
