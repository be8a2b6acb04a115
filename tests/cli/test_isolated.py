"""The caller's directory and environment cannot change which code runs.

A directory full of modules with names that pyrunc and the standard library use becomes the working directory, a part of PYTHONPATH, and the
bundle; each module leaves a marker when it is executed.
"""

import resource
import shutil
import subprocess

import pytest

import harness
import hoststate

NAMES = (
    "os sys json re posix errno fcntl pyrunc encodings codecs io abc signal socket stat sitecustomize usercustomize typing "
    "jsonschema pyseccomp seccomp prctl _prctl heapq readline"
).split()
HOSTILE_ENVIRONMENT = {
    "PYTHONPATH": "{trap}",
    "PYTHONHOME": "{trap}",
    "PYTHONSTARTUP": "{trap}/os.py",
    "PYTHONUSERBASE": "{trap}",
    "PYTHONPLATLIBDIR": "{trap}",
    "PYTHONPYCACHEPREFIX": "{trap}",
    "PYTHONINSPECT": "1",
    "PYTHONBREAKPOINT": "os.system",
    "PYTHONWARNINGS": "error",
    "PYTHONVERBOSE": "1",
    "PYTHONDEBUG": "1",
    "PYTHONDUMPREFS": "1",
    "PYTHONMALLOC": "debug",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONTRACEMALLOC": "5",
    "PYTHONHASHSEED": "0",
    "PYTHONIOENCODING": "latin-1",
    "PYTHONCOERCECLOCALE": "1",
    "PYTHONUTF8": "0",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONSAFEPATH": "",
    "PYTHONEXECUTABLE": "/bin/false",
    "PYTHONOPTIMIZE": "2",
    "PYTHON_GIL": "1",
    "LANG": "xx_YY.nonsense",
    "LC_ALL": "C",
    "TMPDIR": "{trap}",
    "TMP": "/no/such",
    "HOME": "{trap}",
    "PATH": "{trap}/bin",
    "IFS": "/",
    "ENV": "{trap}/env",
    "BASH_ENV": "{trap}/env",
}


@pytest.fixture
def trap(tmp_path):
    """The directory of these modules; trap_touched() lists those that were executed."""
    folder = tmp_path / "trap"
    (folder / "bin").mkdir(parents=True)
    marker = tmp_path / "touched"
    body = (
        "import posix\nfd = posix.open(%r, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND)\nposix.write(fd, (__name__ + '\\n').encode())\n"
        % str(marker)
    )
    for name in NAMES:
        (folder / (name + ".py")).write_text(body)
    (folder / "evil.pth").write_text("import os\n")
    (folder / "env").write_text("echo env >> %s\n" % marker)
    for name in ("python3", "sh", "env", "readlink", "dirname", "mount", "newuidmap", "ps", "busctl", "true"):
        (folder / "bin" / name).write_text("#!/bin/sh\necho bin/%s >> %s\n" % (name, marker))
        (folder / "bin" / name).chmod(0o755)
    return folder


def whole_life(runtime, bundle, **kw):
    id = runtime.new_id()
    runtime.ok("create", "--bundle", bundle, id, **kw)
    runtime.ok("start", id, **kw)
    assert '"running"' in runtime.ok("state", id, **kw).out
    runtime.ok("exec", id, "/bin/true", **kw)
    runtime.ok("list", **kw)
    runtime.ok("kill", id, "KILL", **kw)
    runtime.stopped(id, None)
    runtime.ok("delete", id, **kw)


@pytest.mark.kernel
def test_hostile_directory(pyrunc, waiting, trap):
    whole_life(pyrunc, waiting, cwd=trap)
    assert trap_touched(trap) == ""


def trap_touched(trap):
    marker = trap.parent / "touched"
    return marker.read_text() if marker.exists() else ""


@pytest.mark.parametrize("name", HOSTILE_ENVIRONMENT)
def test_hostile_variable(pyrunc, trap, name):
    """Each variable alone, with a command that reads and prints."""
    value = HOSTILE_ENVIRONMENT[name].format(trap=trap)
    plain = pyrunc.call("list", "--format", "json")
    result = pyrunc.call("list", "--format", "json", env={name: value}, cwd=trap)
    assert (result.code, result.out, result.err) == (0, plain.out, ""), result
    assert trap_touched(trap) == ""


@pytest.mark.kernel
def test_hostile_environment(pyrunc, waiting, trap):
    """All of them at once during the whole life of a container, including helper processes (for a filter that must be compiled)."""
    env = {name: value.format(trap=trap) for name, value in HOSTILE_ENVIRONMENT.items()}
    waiting.patch(
        {
            "/linux/seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}],
            }
        }
    )
    whole_life(pyrunc, waiting, env=env, cwd=trap)
    assert trap_touched(trap) == ""


def test_hostile_environment_and_a_refusal(pyrunc, make_bundle, trap):
    """Texts of refusals come from the helper process, which loads third-party code; it must not be affected either."""
    env = {name: value.format(trap=trap) for name, value in HOSTILE_ENVIRONMENT.items()}
    bundle = make_bundle({"/process/noNewPrivileges": "yes"})
    result = pyrunc.call("create", "--bundle", bundle, pyrunc.new_id(), env=env, cwd=trap)
    assert result.code == 1 and "/process/noNewPrivileges" in result.err
    assert pyrunc.call("validate", "--bundle", bundle, env=env, cwd=trap).code == 1
    assert trap_touched(trap) == ""


@pytest.mark.kernel
def test_empty_environment(pyrunc, waiting):
    whole_life(pyrunc, waiting, env={})


@pytest.mark.kernel
def test_bundle_full_of_modules(pyrunc, waiting, trap):
    """containerd calls the runtime with the bundle as working directory, and the root comes from the image."""
    for name in NAMES:
        shutil.copy(trap / (name + ".py"), waiting.path)
        shutil.copy(trap / (name + ".py"), waiting.rootfs)
    whole_life(pyrunc, waiting, cwd=waiting.path)
    assert trap_touched(trap) == ""


@pytest.mark.kernel
def test_root_with_its_own_python(pyrunc, make_bundle, tmp_path):
    """An image with such modules where the interpreter would look after pivot_root: none of them is read, neither on success nor on failure."""
    for args in (["/bin/true"], ["nosuch"]):
        bundle = make_bundle(args=args)
        marker = bundle.rootfs / "touched"
        for version in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
            for folder in ("usr/lib/%s" % version, "usr/lib/%s/encodings" % version, "usr/local/lib/%s/dist-packages" % version):
                (bundle.rootfs / folder).mkdir(parents=True, exist_ok=True)
                for name in [*NAMES, "traceback", "linecache", "locale", "pwd", "utf_8", "ascii", "idna", "warnings"]:
                    (bundle.rootfs / folder / (name + ".py")).write_text("open('/touched', 'a').write('x')\n")
        assert pyrunc.run(bundle).code == (0 if args == ["/bin/true"] else 1)
        assert not marker.exists()


@pytest.mark.kernel
@pytest.mark.parametrize("umask", [0, 0o777])
def test_umask_of_the_caller(pyrunc, make_bundle, umask):
    """It affects neither files of the runtime nor the program."""
    result = pyrunc.run(make_bundle(args=["/bin/sh", "-c", "umask; touch /x; stat -c %a /x"]), umask=umask)
    assert (result.code, result.out) == (0, "0022\n644\n"), result


def test_launcher_by_links_and_relative_paths(pyrunc, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(pyrunc.path)
    (tmp_path / "second").symlink_to("link")
    for path, cwd in (
        (str(link), "/"),
        (str(tmp_path / "second"), "/"),
        ("./second", tmp_path),
        ("../" + tmp_path.name + "/link", tmp_path),
    ):
        other = harness.Runtime(path, pyrunc.root, pyrunc.token, pyrunc.cgroup)
        assert other.call("list", "-q", cwd=cwd).code == 0


def test_low_descriptor_limit(pyrunc, waiting):
    """With any number of descriptors the result is clean: it works, or it reports an error and leaves nothing behind."""
    for number in range(3, 40, 3):
        id = pyrunc.new_id()

        def limit(n=number):
            resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))

        result = pyrunc.call("create", "--bundle", waiting, id, preexec_fn=limit)
        if result.code == 2 and "sh: " in result.err:
            continue  # the shell of the launcher could not open its script
        assert result.code in (0, 1, 127), result
        assert "internal error" not in result.err
        pyrunc.ok("delete", "--force", id)
    assert hoststate.state_dirs(pyrunc.root) == set()


def test_removed_working_directory(pyrunc, waiting, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    argv = [
        "/bin/sh",
        "-c",
        'cd %s && rmdir %s && exec "$@"' % (gone, gone),
        "sh",
        *pyrunc.argv("create", "--bundle", waiting, pyrunc.new_id()),
    ]
    with harness.Capture() as err:  # not a pipe: the container keeps standard error open
        code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err.file).returncode
        words = err.text()
    assert code == 0 or (code == 1 and words.startswith("create failed: ") and len(words.splitlines()) == 1), words
