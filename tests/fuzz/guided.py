#!/usr/bin/python3
"""`make fuzz`: inputs for targets.py, guided by the code that they reach; Atheris generates them if it is installed, otherwise a built-in loop.

    guided.py [--seconds 60] [--target loader] [--save] [--own]

Each target runs in a separate process, starting from the saved corpus, until it has used SECONDS of processor time. New inputs are stored in
build/fuzz/TARGET; with --save, those that reach new code are added to tests/fuzz/corpus, which every test run replays, and the time and the
number of inputs are added to tests/fuzz/spent.json, which `make security-report` shows. After a crash, its input is in build/fuzz and the
status is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, FrameType
    from typing import Any

    from harness import Json


HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "build/fuzz"
SPENT = HERE / "spent.json"
SLICE = 600  # seconds of wall clock time after which a target's progress is saved
NAMES = ("loader", "process", "seccomp", "options", "handshake_messages", "state", "passwd", "user_option", "landlock_annotation", "images")
SECONDS = 1  # seconds of processor time for one input
HANG = 60  # seconds of wall clock time
LARGEST = 4096  # the largest input, in bytes, that is saved
SAVED = 40  # the most inputs of a target in the corpus
for folder in ("runtime", "bundles", "tests", "tests/fuzz"):
    sys.path.insert(0, str(ROOT / folder))


def corpus(name: str) -> pathlib.Path:
    folder = HERE / "corpus" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def expired(number: int, _frame: FrameType | None) -> None:
    raise TimeoutError("an input took longer than %d s" % (SECONDS if number == signal.SIGPROF else HANG))


def bounded(run: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def one(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, HANG)
        try:
            run(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)

    signal.signal(signal.SIGPROF, expired)
    signal.signal(signal.SIGALRM, expired)
    return one


def with_atheris(name: str, seconds: float) -> None:
    """Never returns, because the library ends the process."""
    import atheris

    with atheris.instrument_imports(include=["pyrunc"], enable_loader_override=False):
        import targets
    work = WORK / name
    work.mkdir(parents=True, exist_ok=True)
    options = ["-artifact_prefix=%s/%s-" % (WORK, name), "-rss_limit_mb=2048", "-timeout=10", "-verbosity=0", "-print_final_stats=1"]
    limits = ["-max_total_time=%d" % seconds, "-max_len=%d" % (4 * LARGEST)]
    atheris.Setup([sys.argv[0], *options, *limits, str(work), str(corpus(name))], bounded(targets.TARGETS[name]))
    atheris.Fuzz()


class Lines:
    """Lines of the package that are reached for the first time: each is only reported once, so that tracing costs nothing afterwards."""

    def __init__(self) -> None:
        self.new = 0
        if hasattr(sys, "monitoring"):
            tool, events = sys.monitoring.COVERAGE_ID, sys.monitoring.events
            sys.monitoring.use_tool_id(tool, "fuzz")
            sys.monitoring.register_callback(tool, events.LINE, self.line)
            sys.monitoring.set_events(tool, events.LINE)
        else:
            self.seen: set[tuple[CodeType, int]] = set()
            sys.settrace(self.trace)

    def line(self, code: CodeType, _number: int) -> object:
        if "/pyrunc/" in code.co_filename:
            self.new += 1
        return sys.monitoring.DISABLE

    def trace(self, frame: FrameType, event: str, _arg: object) -> Json:
        if "/pyrunc/" not in frame.f_code.co_filename:
            return None
        key = (frame.f_code, frame.f_lineno)
        if event == "line" and key not in self.seen:
            self.seen.add(key)
            self.new += 1
        return self.trace


PIECES = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\u0000", b"\\ud800", b"\0", b"\n", b"-1", b"4294967295", b"18446744073709551616", b"null",
          b"true", b'""', b"1e5", b"\xff", b"/", b"..", b"=", b"\x1b[", b"size", b"pid"]  # fmt: skip


def changed(data: bytes, others: Sequence[bytes]) -> bytes:
    """A mutation of an input: pieces inserted, removed or duplicated, bits flipped, or a part of another input."""
    made = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        at = random.randrange(len(made) + 1)
        what = random.randrange(6)
        if what == 0 and made:
            made[at % len(made)] ^= 1 << random.randrange(8)
        elif what == 1:
            made[at:at] = random.choice(PIECES)
        elif what == 2:
            del made[at : at + random.choice((1, 2, 8, 64))]
        elif what == 3:
            made[at:at] = made[at : at + random.randrange(1, 64)]
        elif what == 4:
            other = random.choice(others)
            start = random.randrange(len(other) + 1)
            made[at:at] = other[start : start + random.randrange(1, 128)]
        else:
            made[at : at + 1] = random.choice(PIECES)
    return bytes(made[: 4 * LARGEST])


def alone(name: str, seconds: float) -> None:
    """The built-in loop. After a crash, the input is saved and the status is 1."""
    import targets

    run, lines = bounded(targets.TARGETS[name]), Lines()
    work = WORK / name
    work.mkdir(parents=True, exist_ok=True)
    pool = [path.read_bytes() for folder in (corpus(name), work) for path in sorted(folder.iterdir())] or [b"{}"]
    end, count, first = time.monotonic() + seconds, 0, list(pool)
    while time.monotonic() < end:
        data = first.pop() if first else changed(random.choice(pool), pool)
        lines.new = 0
        count += 1
        try:
            run(data)
        except BaseException as e:
            (WORK / ("%s-crash-%d" % (name, count))).write_bytes(data)
            print("%s: %s: %s" % (name, type(e).__name__, str(e)[:300]))
            sys.exit(1)
        if lines.new and not first:
            pool.append(data)
            (work / ("%d-%d" % (os.getpid(), count))).write_bytes(data)
    print("%s: %d inputs, %d in the pool" % (name, count, len(pool)))


def seeds() -> None:
    """The initial corpus: inputs that are known to reach a lot of code, from the examples of the tests. Existing files are kept."""
    import harness
    import make_rootfs

    configs: dict[str, str] = {"base": json.dumps(harness.BASE)}
    configs.update({name: (ROOT / "bundles" / name / "config.json").read_text() for name in make_rootfs.bundles()})
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}]}  # fmt: skip
    landlock = {"ruleset": {"handledAccessFs": 13}, "rules": {"pathBeneath": [{"allowedAccess": 5, "paths": ["/bin"]}]}}
    state = {"version": 1, "id": "c1", "bundle": "/b", "rootfs": "/b/rootfs", "created": "2024-01-01T00:00:00Z", "status": "created", "pid": 2,
             "start_time": 1, "annotations": {}, "boot_id": "x", "cgroup_paths": {}}  # fmt: skip
    base: Any = harness.BASE  # a config: JSON
    process = json.dumps({**base["process"], "capabilities": {"bounding": ["CAP_KILL"]}, "rlimits": []})
    image = "\x19\x43\x56\x54\x01\x00\x00\x00"
    entries = [
        image + "\x02\x00\x00\x00\x08\x01",
        image + "\x06\x00\x00\x00\x72\x04\x20\x01\x38\x00",
        image + "\x02\x00\x00\x00\x08\x01" * 2,
    ]
    texts: dict[str, dict[str, str] | list[str]] = {
        "loader": configs, "process": [process], "seccomp": [json.dumps(profile)], "landlock_annotation": [json.dumps(landlock)],
        "state": [json.dumps(state) + "\n" + json.dumps(state) + "\n"], "passwd": ["root:x:0:0::/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n"],
        "user_option": ["0", "1:2", "root", "root:root", "4294967296"], "handshake_messages": ["h", 'q{"part": "mounts", "request": {}}', "F" * 28],
        "options": ["/mnt\0tmpfs\0tmpfs\0ro\0size=1m\0mode=755", "/x\0bind\0/etc\0rbind\0rro\0idmap\0private", "/proc\0proc\0proc\0hidepid=2"],
        "images": ["|next|".join([*entries, entries[2], "", '["pipe:[1]", "/dev/null", "x"]'])],
    }  # fmt: skip
    for name, found in texts.items():
        for title, text in found.items() if isinstance(found, dict) else enumerate(found):
            path = corpus(name) / ("seed-%s" % title)
            if not path.exists():
                path.write_text(text)


def save(name: str) -> None:
    """Adds inputs that reach lines not reached by earlier ones to the corpus, the smallest ones first."""
    import targets

    run, lines = bounded(targets.TARGETS[name]), Lines()
    saved = sorted(corpus(name).iterdir())
    found = sorted((WORK / name).iterdir(), key=lambda path: path.stat().st_size)
    number = len(saved)
    for path in saved + found:
        data = path.read_bytes()
        lines.new = 0
        if len(data) <= LARGEST:
            run(data)
        if lines.new and path in found and number < SAVED:
            (corpus(name) / ("found-%s" % hashlib.sha256(data).hexdigest()[:12])).write_bytes(data)
            number += 1


def account(name: str, seconds: float, inputs: int) -> None:
    """Adds to spent.json: {target: {"seconds": processor time, "inputs": number}}."""
    spent = json.loads(SPENT.read_text()) if SPENT.exists() else {}
    before = spent.get(name, {"seconds": 0, "inputs": 0})
    spent[name] = {"seconds": before["seconds"] + round(seconds), "inputs": before["inputs"] + inputs}
    SPENT.write_text(json.dumps(spent, indent=1, sort_keys=True) + "\n")


def processor_time() -> float:
    """The processor time of the processes that have been waited for, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fuzzed(name: str, seconds: int, own: bool, saving: bool) -> bool:
    """Whether one target ran for so many seconds of processor time without a crash."""
    used, inputs = 0.0, 0
    while used < seconds:
        began = processor_time()
        part = max(1, min(SLICE, round(seconds - used)))
        argv = [sys.executable, __file__, "--one", name, "--seconds", str(part), *(["--own"] if own else [])]
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace")
        spent, output = processor_time() - began, done.stdout + done.stderr
        numbers = re.findall(r"number_of_executed_units: (\d+)|: (\d+) inputs", output)
        count = sum(int(one or other) for one, other in numbers)
        used, inputs = used + spent, inputs + count
        print("%s: status %d, %d inputs, %.0f s of processor time" % (name, done.returncode, inputs, used), flush=True)
        if done.returncode:
            print(output[-6000:])
            return False
        if saving:
            account(name, spent, count)
            subprocess.run([sys.executable, __file__, "--one", name, "--keep"], check=True)
    return True


def main() -> int | None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--seconds", type=int, default=60, help="of processor time, for each target (default: 60)")
    parser.add_argument("--target", action="append", choices=NAMES, help="only this one; may be given several times")
    parser.add_argument("--save", action="store_true", help="keep what reaches new code in tests/fuzz/corpus, and what was spent")
    parser.add_argument("--own", action="store_true", help="the loop of our own, although Atheris is there")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    library = importlib.util.find_spec("atheris") is not None and not asked.own
    if asked.one:
        if asked.keep:
            save(asked.one)
        else:
            (with_atheris if library else alone)(asked.one, asked.seconds)
        return None
    WORK.mkdir(parents=True, exist_ok=True)
    seeds()
    failed = [name for name in asked.target or NAMES if not fuzzed(name, asked.seconds, not library, asked.save)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
