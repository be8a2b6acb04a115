"""Files next to the launcher that users other than root can write are never executed, whatever their names are.

Each case has a control: the same files are used if only root can write them.
"""

import os
import pathlib
import shutil
import subprocess

import pytest

import harness
from pyrunc import install_paths

pytestmark = pytest.mark.kernel
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SOMEBODY = 1234
ENV = {"PATH": "/usr/bin:/bin"}
LIBRARY = "lib/python3.13/site-packages"


@pytest.fixture
def prefix(tmp_path, static_launcher):
    """bin/pyrunc, and next to it the package as files."""
    tmp_path.chmod(0o755)
    (tmp_path / "bin").mkdir()
    shutil.copy(static_launcher, tmp_path / "bin/pyrunc")
    shutil.copytree(ROOT / "runtime/pyrunc", tmp_path / "pyrunc", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    (tmp_path / LIBRARY).mkdir(parents=True)
    (tmp_path / "config.json").write_text('{"ociVersion": "1.0.0"}')
    return tmp_path


def marking(prefix):
    """Code that leaves a mark when it is executed."""
    return "open(%r, 'w').close()\n" % str(prefix / "mark")


def run(prefix, *argv, **kw):
    words = argv or ("validate", "--bundle", str(prefix))
    done = subprocess.run([prefix / "bin/pyrunc", *words], env=ENV, capture_output=True, text=True, timeout=harness.WATCHDOG, **kw)
    return done, (prefix / "mark").exists()


def owned(path):
    os.chown(path, SOMEBODY, 0)


def writable(path):
    path.chmod(path.stat().st_mode | 0o002)


def by_group(path):
    os.chown(path, 0, SOMEBODY)
    path.chmod(path.stat().st_mode | 0o020)


CHANGES = {"not at all": lambda path: None, "owned": owned, "writable": writable, "by group": by_group}


@pytest.mark.parametrize("level", ["pyrunc/helper/main.py", "pyrunc/helper", "pyrunc", "."])
@pytest.mark.parametrize("change", CHANGES)
def test_the_helper(prefix, level, change):
    (prefix / "pyrunc/helper/main.py").write_text(marking(prefix))
    CHANGES[change](prefix / level)
    done, marked = run(prefix)
    assert marked is (change == "not at all"), done
    assert "Traceback" not in done.stderr and (marked or "root must be specified" in done.stdout), "validate works without it"


@pytest.mark.parametrize("level", [LIBRARY + "/jsonschema.py", LIBRARY, "lib"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_library(prefix, level, change):
    (prefix / LIBRARY / "jsonschema.py").write_text(marking(prefix))
    CHANGES[change](prefix / level)
    done, marked = run(prefix)
    assert marked is (change == "not at all"), done


@pytest.mark.parametrize("level", ["bin/python3", "bin"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_interpreter_of_the_environment(prefix, level, change):
    """The interpreter of a pip install in a virtual environment or in /opt, whatever its version is. The helper always runs."""
    (prefix / "pyrunc").rename(prefix / LIBRARY / "pyrunc")
    (prefix / "bin/python3").write_text('#!/bin/sh\n: >%s\nexec /usr/bin/python3 "$@"\n' % (prefix / "mark"))
    (prefix / "bin/python3").chmod(0o755)
    CHANGES[change](prefix / level)
    done, marked = run(prefix)
    assert marked is (change == "not at all"), done
    assert "Traceback" not in done.stderr and "root must be specified" in done.stdout


def test_a_library_behind_a_link_of_another_user(prefix):
    real = prefix / "elsewhere"
    real.mkdir()
    (real / "jsonschema.py").write_text(marking(prefix))
    (prefix / LIBRARY).rmdir()
    (prefix / LIBRARY).symlink_to(real)
    assert run(prefix)[1] is True
    (prefix / "mark").unlink()
    os.lchown(prefix / LIBRARY, SOMEBODY, SOMEBODY)
    assert run(prefix)[1] is False


@pytest.mark.parametrize("name", ["pyrunc", "runc", "/nowhere/bin/pyrunc", "{}/other/bin/pyrunc"])
def test_argv_0_is_not_used_to_find_files(prefix, name):
    """`exec -a NAME …/bin/pyrunc` finds the packages next to the executed link, and none next to NAME."""
    (prefix / "mine/bin").mkdir(parents=True)
    (prefix / "mine" / LIBRARY).mkdir(parents=True)
    (prefix / "mine/bin/pyrunc").symlink_to("../../bin/pyrunc")
    (prefix / "mine" / LIBRARY / "jsonschema.py").write_text(marking(prefix))
    (prefix / "other" / LIBRARY).mkdir(parents=True)
    (prefix / "other" / LIBRARY / "jsonschema.py").write_text("open(%r, 'w').close()\n" % str(prefix / "wrong"))
    argv = [name.format(prefix), "validate", "--bundle", str(prefix)]
    done = subprocess.run(argv, executable=prefix / "mine/bin/pyrunc", env=ENV, capture_output=True, text=True, timeout=harness.WATCHDOG)
    assert (prefix / "mark").exists() and not (prefix / "wrong").exists(), done


@pytest.mark.parametrize("level", ["pyrunc/cli.py", "pyrunc", LIBRARY])
@pytest.mark.parametrize("change", ["not at all", "owned", "writable"])
def test_the_package_of_the_plain_launcher(prefix, level, change):
    """The package is next to the launcher, or in a prefix."""
    shutil.copy(ROOT / "runtime/bin/pyrunc", prefix / "bin/pyrunc")
    if level == LIBRARY:
        shutil.rmtree(prefix / "pyrunc")
        shutil.copytree(ROOT / "runtime/pyrunc", prefix / LIBRARY / "pyrunc", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    CHANGES[change](prefix / level)
    done, _marked = run(prefix, "--version")
    if change == "not at all":
        assert done.returncode == 0 and done.stdout.startswith("pyrunc version")
    else:
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "pyrunc: no package beside the launcher\n")


@pytest.mark.parametrize("launcher", ["compiled", "plain"])
def test_a_checkout_of_the_launchers_owner(prefix, launcher):
    """If root runs the launcher of a developer, other files of the developer are no additional risk. Files of a third user are."""
    if launcher == "plain":
        shutil.copy(ROOT / "runtime/bin/pyrunc", prefix / "bin/pyrunc")
        (prefix / "pyrunc/commands/version.py").write_text("def main(options, args):\n    %s    return 0\n" % marking(prefix))
        words: tuple[str, ...] = ("version",)
    else:
        (prefix / "pyrunc/helper/main.py").write_text(marking(prefix))
        words = ()
    for path in (prefix, *prefix.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY)
    (prefix / "pyrunc").chmod(0o775)  # as with the umask of systems that create a group for each user
    assert run(prefix, *words)[1] is True
    (prefix / "mark").unlink()
    for path in ("pyrunc/cli.py", "pyrunc/helper"):
        os.chown(prefix / path, SOMEBODY + 1, SOMEBODY)
    assert run(prefix, *words)[1] is False


def test_what_makes_a_path_untrusted(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "a/b").mkdir(parents=True)
    path = str(tmp_path / "a/b")
    assert install_paths.untrusted(path) is None and install_paths.untrusted(path + "/../b/./nowhere") is None
    assert install_paths.untrusted("/tmp") is None, "sticky"
    (tmp_path / "a").chmod(0o1777)
    assert install_paths.untrusted(path) is None, "sticky: files of root in the directory cannot be replaced"
    (tmp_path / "a").chmod(0o777)
    assert install_paths.untrusted(path) == "everybody may write to %s" % (tmp_path / "a")
    (tmp_path / "a").chmod(0o755)
    (tmp_path / "loop").symlink_to("loop")
    assert install_paths.untrusted(str(tmp_path / "loop")).endswith("has too many levels")
    (tmp_path / "link").symlink_to(path)
    os.chown(tmp_path / "a/b", SOMEBODY, SOMEBODY)
    assert install_paths.untrusted(str(tmp_path / "link")) == "%s belongs to uid %d" % (path, SOMEBODY)
