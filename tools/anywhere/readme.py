#!/usr/bin/python3
"""The lines of README.md's section `Install`, run as they are written, each way of installing in a fresh Debian root.

    readme.py DIST [--old RELEASE-FILE] [--only WAY]

DIST has the files of `make release wheels packages`. After each way, a container with docker's seccomp profile runs by the installed
pyrunc, and what was installed is removed: nothing may be left. --old: a container of that release file runs while the one of DIST is installed
over it. The roots are Debian's minimal system, with Python or the packages of `make demo` where a way needs them; an overlay takes the changes.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))
import boot  # noqa: E402
import matrix  # noqa: E402
import roots  # noqa: E402

PROJECT = HERE.parent.parent
SUITE = "trixie"
SECONDS = 1800
OVERLAY = 'set -e; mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"; exec sh -c "$3" sh "$2/root" "$4"'
FILES = (
    "find / -xdev '(' -path /src -o -path /tmp -o -path /bundle -o -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /root/.cache -o -path /var/lib/dpkg ')' -prune"
    " -o '(' -name '*pyrunc*' -o -name daemon.json ')' ! -name '*.before-pyrunc' -print"
)  # *.before-pyrunc: the backup of an engine's configuration stays
CHECK = """
echo "+ pyrunc run"
pyrunc --version >&2
pyrunc run --bundle /bundle readme-$$ | grep -q 'Seccomp:.2'
"""
UPGRADE = """
install -m 755 /bundle/old /usr/local/bin/pyrunc
pyrunc run --detach --bundle /bundle --config /bundle/waiting.json readme-$$ </dev/null >/dev/null 2>&1
%s
pyrunc state readme-$$ | grep -q running
pyrunc exec readme-$$ id | grep -q uid=0
pyrunc kill readme-$$ KILL
pyrunc delete --force readme-$$
pyrunc install --docker --uninstall
rm /usr/local/bin/pyrunc
"""
# way: (the block of the section; the beginning of its line, or "" for all; the root; the lines that remove what was installed)
WAYS = {
    "file": (0, "", "minimal", "pyrunc install --docker --uninstall\nrm /usr/local/bin/pyrunc"),
    "tarball": (1, "", "minimal", "./install.sh --uninstall"),
    "pip": (2, "", "python", "/opt/pyrunc/bin/pyrunc install --podman --uninstall\nrm -r /opt/pyrunc"),
    "deb": (3, "apt ", "build", "apt remove --yes pyrunc"),
    "rpm": (3, "dnf ", "minimal", "dnf --quiet --assumeyes remove pyrunc"),
    "sources": (3, "make ", "build", "make uninstall"),
}
BEFORE = {
    "deb": "make deb >&2; apt-get -qq update; echo 'APT::Get::Assume-Yes \"yes\";' >/etc/apt/apt.conf.d/yes\n",
    "rpm": "apt-get -qq update && apt-get -qq --no-install-recommends --yes install dnf >/dev/null; mkdir dist; mv *.rpm dist; echo assumeyes=True >>/etc/dnf/dnf.conf\n",
}
PATH = {"pip": "PATH=/opt/pyrunc/bin:$PATH\n"}


def blocks() -> list[str]:
    section = (PROJECT / "README.md").read_text().partition("\n## Install\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\n(.*?)^```", section, re.M | re.S)


def packages() -> dict[str, list[str]]:
    demo = [line.split()[1] for line in (PROJECT / "tools/apt-packages.txt").read_text().splitlines() if line.startswith("demo ")]
    return {"minimal": ["mount"], "python": ["mount", "python3-venv"], "build": demo + matrix.MORE}


def bundle(folder: pathlib.Path, old: pathlib.Path | None) -> None:
    (folder / "rootfs/bin").mkdir(parents=True)
    (folder / "rootfs/mnt").mkdir()
    shutil.copy("/bin/busybox", folder / "rootfs/bin/busybox")
    for name in boot.APPLETS:
        (folder / "rootfs/bin" / name).symlink_to("busybox")
    for name, document in boot.configs(os.uname().machine).items():
        document["linux"]["cgroupsPath"] = "/readme-%d" % os.getpid()
        (folder / name).write_text(json.dumps(document))
    if old is not None:
        shutil.copy(old, folder / "old")


def run(kind: str, script: str, dist: pathlib.Path, old: pathlib.Path | None, sources: bool) -> str:
    """ "" or what went wrong."""
    base = roots.made({"build": "root-" + SUITE}.get(kind, kind + "-" + SUITE), SUITE, packages()[kind], "minbase")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = pathlib.Path(name)
        for part in ("upper/src", "upper/bundle", "work", "root"):
            (folder / part).mkdir(parents=True)
        bundle(folder / "upper/bundle", old)
        if sources:
            shutil.rmtree(folder / "upper/src")
            subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(folder / "upper/src")], check=True)
        else:
            shutil.copytree(dist, folder / "upper/src", dirs_exist_ok=True)
        for path in ("/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt"):
            if os.path.exists(path):
                target = folder / ("upper" + path)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", OVERLAY, "sh", str(base), name, matrix.ENTER, script]
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
        print(done.stdout, done.stderr, flush=True)
        return "" if done.returncode == 0 else "FAILED: " + (done.stderr.strip().splitlines() or ["?"])[-1]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="runs the lines of README.md's section Install")
    parser.add_argument("dist", type=pathlib.Path)
    parser.add_argument("--old", type=pathlib.Path)
    parser.add_argument("--only", choices=sorted(WAYS), action="append")
    options = parser.parse_args(argv)
    rows = []
    for way, (number, word, kind, removal) in WAYS.items():
        if options.only and way not in options.only:
            continue
        lines = "\n".join(line for line in blocks()[number].splitlines() if line.startswith(word))
        script = "set -e\n%s >/tmp/before\n%sset -x\n%s\nset +x\n%s%s\n%s\n%s >/tmp/after\ndiff /tmp/before /tmp/after >&2" % (
            FILES, BEFORE.get(way, ""), lines, PATH.get(way, ""), CHECK, removal, FILES,
        )  # fmt: skip
        rows.append((way, run(kind, script, options.dist, None, kind == "build") or "ok"))
    if options.old:
        script = "set -ex\n" + UPGRADE % blocks()[0]
        rows.append(("upgrade", run("minimal", script, options.dist, options.old, False) or "ok"))
    for row in rows:
        print("%-10s %s" % row)
    return int(any(verdict != "ok" for _, verdict in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
