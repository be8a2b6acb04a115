"""constants.py agrees with this machine's headers: no other test would notice a mistyped number."""

import shutil
import subprocess

import pytest

import kernel_constants
from pyrunc.linux import caps, constants

HEADERS = """sched.h linux/sched.h fcntl.h sys/mount.h linux/mount.h sys/stat.h linux/stat.h sys/statvfs.h linux/openat2.h unistd.h
sys/file.h sys/mman.h linux/memfd.h linux/close_range.h linux/magic.h sys/prctl.h linux/prctl.h linux/securebits.h linux/keyctl.h
linux/seccomp.h linux/audit.h linux/bpf.h linux/filter.h linux/ioprio.h linux/mempolicy.h sys/personality.h sys/resource.h sys/ioctl.h
asm/termbits.h linux/nsfs.h net/if.h signal.h sys/wait.h sys/socket.h poll.h sys/epoll.h sys/timerfd.h sys/signalfd.h sys/eventfd.h
sys/inotify.h linux/landlock.h linux/capability.h""".split()
WORD = 1 << 32


def _numbers():
    """{name: number} of the package's constants, the tests' constants, and the capabilities."""
    known = {**vars(kernel_constants), **vars(constants), **caps.NUMBERS}
    return {name: number for name, number in known.items() if name.isupper() or name.startswith("MOUNT_ATTR")}


def test_plain_ints_by_kernel_names():
    for name, number in _numbers().items():
        assert type(number) is int, name
    assert not vars(kernel_constants).keys() & {name for name in vars(constants) if name.isupper()}


def test_they_are_what_the_headers_say(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("this machine has no C compiler")
    lines = ["#define _GNU_SOURCE", "#include <stdio.h>"] + ["#include <%s>" % h for h in HEADERS]
    lines.append("int main(void) {")
    for name in _numbers():  # not all are macros, and older headers lack some: those that cannot be compared are missing from the output
        lines.append("#ifdef %s" % name)
        lines.append('printf("%s %%lld\\n", (long long)(%s));' % (name, name))
        lines.append("#endif")
    lines.append("return 0; }")
    (tmp_path / "all.c").write_text("\n".join(lines))
    subprocess.run([compiler, "-w", "-o", tmp_path / "all", tmp_path / "all.c"], check=True, capture_output=True)
    text = subprocess.run([tmp_path / "all"], check=True, capture_output=True, text=True).stdout
    found = dict(line.split() for line in text.splitlines())
    numbers = _numbers()
    wrong = {n: (numbers[n], int(v)) for n, v in found.items() if numbers[n] % WORD != int(v) % WORD}
    wrong.pop("RLIM_INFINITY", None)
    assert not wrong
    assert len(found) > 200


def test_all_capabilities_are_named():
    assert kernel_constants.CAP_LAST_CAP == len(caps.NAMES) - 1
