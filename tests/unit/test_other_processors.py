"""The extension for processors other than x86-64. It is only compiled, without warnings, not run."""

import os
import shutil
import subprocess
import sysconfig

import pytest

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MACHINES = {"aarch64": 0xB7, "riscv64": 0xF3}  # e_machine in an ELF file


def assigned(name):
    """The words in a variable of the Makefile."""
    with open(os.path.join(REPO, "Makefile")) as file:
        return next(line for line in file if line.split()[:2] == [name, ":="]).partition(":=")[2]


@pytest.mark.parametrize("machine", MACHINES)
def test_the_extension_compiles(tmp_path, machine):
    compiler = machine + "-linux-gnu-gcc"
    if shutil.which(compiler) is None:
        pytest.skip("this machine has no %s (Debian's gcc-%s-linux-gnu)" % (compiler, machine))
    headers = subprocess.run([compiler, "-E", "-"], input=b"#include <stdio.h>", capture_output=True)
    if headers.returncode:
        pytest.skip("this machine has no headers of the C library for %s" % machine)
    names = assigned("EXT_SOURCES").partition(",")[2].rpartition(")")[0].split()
    sources = [os.path.join(REPO, "runtime/csrc", name) for name in names]
    # Debian has a pyconfig.h for each processor; the one for this machine will do, because the sizes are the same
    config = tmp_path / (machine + "-linux-gnu") / ("python" + sysconfig.get_python_version()) / "pyconfig.h"
    config.parent.mkdir(parents=True)
    here = os.path.join(sysconfig.get_path("include"), "pyconfig.h")
    multiarch = "/usr/include/%s/%s/pyconfig.h" % (sysconfig.get_config_var("MULTIARCH"), config.parent.name)
    config.write_text('#include "%s"\n' % (multiarch if os.path.exists(multiarch) else here))
    include = ["-I%s" % tmp_path, "-I" + sysconfig.get_path("include")]
    target = tmp_path / "extension.so"
    command = [compiler, *assigned("EXT_CFLAGS").split(), "-Werror", *include, *sources, *assigned("EXT_LDFLAGS").split(), "-o", target]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert target.read_bytes()[:20] == b"\x7fELF\2\1\1" + bytes(9) + b"\3\0" + bytes([MACHINES[machine], 0]), "a shared object"
