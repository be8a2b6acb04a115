#!/usr/bin/python3
"""Sizes and start times of the files of `make release`, of the launchers of this tree, and of runc and crun, as a table.

    sizes.py DIST [--rounds N]

The times are the least of N runs of `--version`, the programs taking turns; the ratios are those of the CPU times, which a busy machine changes
less.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKED = ("linux-%s.tar.gz", "_%s.whl", ".%s.rpm")


def programs(dist: pathlib.Path) -> list[tuple[str, str]]:
    arch = os.uname().machine
    found = [("release file", path) for path in sorted(dist.glob("pyrunc-*-linux-" + arch))]
    found.append(("compiled launcher of `make build`", PROJECT / "runtime/bin/pyrunc-static"))
    found.append(("plain launcher", PROJECT / "runtime/bin/pyrunc"))
    rows = [(name, str(path)) for name, path in found if path.exists()]
    return rows + [(name, path) for name in ("runc", "crun") if (path := shutil.which(name)) is not None]


def libraries(path: str) -> int:
    """Bytes of the shared libraries that it maps."""
    said = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    return sum(os.stat(words[2]).st_size for words in map(str.split, said.splitlines()) if len(words) > 2 and words[2].startswith("/"))


def start_ms(paths: list[str], rounds: int) -> list[tuple[float, float]]:
    """For each the least of its elapsed times, and the least of its CPU times."""
    least = [(float("inf"), float("inf"))] * len(paths)
    quiet = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    for _ in range(rounds):
        for number, path in enumerate(paths):
            begin = time.perf_counter()
            _, status, usage = os.wait4(os.posix_spawn(path, [path, "--version"], {"PATH": "/usr/bin:/bin"}, file_actions=quiet), 0)
            if status:
                raise SystemExit("%s --version has failed" % path)
            elapsed, cpu = time.perf_counter() - begin, usage.ru_utime + usage.ru_stime
            least[number] = (min(least[number][0], elapsed * 1e3), min(least[number][1], cpu * 1e3))
    return least


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="sizes and start times, beside runc and crun")
    parser.add_argument("dist", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args(argv)
    rows = programs(options.dist)
    times = start_ms([path for _, path in rows], options.rounds)
    peers = {name: number for number, (name, _) in enumerate(rows) if name in ("runc", "crun")}
    print("| | size, MB | shared libraries, MB | `--version`, ms | CPU time, ms | %s |" % " | ".join("to " + name for name in peers))
    print("|---|---|---|---|---|%s" % ("---|" * len(peers)))
    for number, (name, path) in enumerate(rows):
        ratios = " | ".join("%.2f" % (times[number][1] / times[peer][1]) for peer in peers.values())
        sizes = (os.stat(path).st_size / 1e6, libraries(path) / 1e6)
        print("| %s | %.1f | %.1f | %.1f | %.1f | %s |" % (name, *sizes, *times[number], ratios))
    for pattern in PACKED:
        for path in options.dist.glob("*" + pattern % os.uname().machine):
            print("| %s | %.1f | | | | | |" % (path.name, path.stat().st_size / 1e6))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
