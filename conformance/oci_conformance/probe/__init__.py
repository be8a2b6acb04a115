"""Builds the probe, which runs inside containers: probe.c compiled statically, or probe.sh with a static busybox.

Rule: both print the same lines; what only the compiled one can do needs "probe" in a case's `needs`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oci_conformance.shapes import Json, Line, Operation


HERE = os.path.dirname(os.path.abspath(__file__))
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox", "/sbin/busybox", "/usr/local/bin/busybox")


class Missing(Exception):
    """There is neither a compiler that links statically nor a static busybox; the text says what to install."""


class Tools:
    """The contents of bin/ in every root: `probe`, and `busybox` if available."""

    def __init__(self, probe: str, busybox: str | None, compiled: bool) -> None:
        self.probe = probe
        self.busybox = busybox
        self.compiled = compiled


def prepare(directory: str, busybox: str | None = None, shell: bool = False, ready: str | None = None) -> Tools:
    """Builds the Tools in the directory. `busybox`: a path instead of the search; `shell`: do not compile; `ready`: a probe that was
    compiled earlier."""
    if ready:
        why = copied(ready, os.path.join(directory, "probe"))
        if why:
            raise Missing("%s: %s" % (ready, why))
    else:
        why = "not asked for" if shell else build(os.path.join(directory, "probe"))
    path = find_busybox(busybox)
    if why and not path:
        raise Missing(
            "cannot look inside a container: the C probe was not built (%s), and there is no static busybox (Debian: busybox-static)" % why
        )
    if path:
        target = os.path.join(directory, "busybox")
        shutil.copyfile(path, target)
        os.chmod(target, 0o755)
        path = target
    if why:
        with open(os.path.join(HERE, "probe.sh")) as source, open(os.path.join(directory, "probe"), "w") as script:
            script.write(source.read())
        os.chmod(os.path.join(directory, "probe"), 0o755)
    return Tools(os.path.join(directory, "probe"), path, not why)


def copied(source: str, target: str) -> str | None:
    """Copies a probe that was compiled elsewhere. Returns None, or the reason why it cannot be used."""
    try:
        shutil.copyfile(source, target)
        os.chmod(target, 0o755)
        done = subprocess.run([target, "say", "x"], capture_output=True, text=True)
    except OSError as e:
        return e.strerror
    return None if done.stdout.startswith('{"op": "say"') else "not the probe"


def build(target: str) -> str | None:
    """Compiles probe.c. Returns None, or the reason why it failed."""
    words = "no C compiler"
    for compiler in ([os.environ["CC"]] if os.environ.get("CC") else []) + ["cc", "gcc", "clang", "musl-gcc"]:
        if not shutil.which(compiler):
            continue
        argv = [compiler, "-std=gnu11", "-Os", "-static", "-s", "-o", target, os.path.join(HERE, "probe.c")]
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
        if done.returncode == 0 and subprocess.run([target, "say", "x"], capture_output=True).returncode == 0:
            os.chmod(target, 0o755)
            return None
        words = "%s: %s" % (compiler, (done.stderr.strip().splitlines() or ["it does not run"])[-1])
    return words


def find_busybox(asked: str | None = None) -> str | None:
    """The path of a static busybox, or None. Missing if the requested one is not static."""
    for path in [asked] if asked else [shutil.which("busybox"), *BUSYBOX]:
        if path and os.path.isfile(path) and static(path):
            return path
    if asked:
        raise Missing("%s is not a static busybox" % asked)
    return None


def static(path: str) -> bool:
    """Whether an ELF file needs no interpreter; libraries are not in the root."""
    with open(path, "rb") as file:
        head = file.read(8192)
    return head[:4] == b"\x7fELF" and b"/ld-" not in head and b"/lib/ld" not in head


def argv(operations: Iterable[Operation], program: str = "/bin/probe") -> list[str]:
    """["/bin/probe", "stat", "/x", "+", "self"] of ("stat /x", "self") or ([…], […])."""
    words = [program]
    for operation in operations:
        if len(words) > 1:
            words.append("+")
        words += operation.split(" ") if isinstance(operation, str) else [str(word) for word in operation]
    return words


def parse(text: str) -> list[Line]:
    """The objects of the probe's lines; a line of something else becomes {"op": "?", "text": line}."""
    found = []
    for line in text.splitlines():
        try:
            seen = json.loads(line)
        except ValueError:
            seen = None
        if not isinstance(seen, dict) or "op" not in seen:
            seen = {"op": "?", "text": line}
        found.append(plain(seen))
    return found


def plain(value: Json) -> Json:
    """The probe's output, one character per byte → text, with undecodable bytes as surrogates. `name.hex` is the script's form."""
    if isinstance(value, str):
        try:
            return value.encode("latin-1").decode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return value
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        made = {}
        for key, item in value.items():
            if key.endswith(".hex"):
                made[key[:-4]] = [unhex(part) for part in item] if isinstance(item, list) else unhex(item)
            else:
                made[plain(key)] = plain(item)
        return made
    return value


def unhex(text: str) -> str:
    return bytes.fromhex(text).decode("utf-8", "surrogateescape")
