"""install: only adds our entry to the files of the engines, and is idempotent; uninstall restores the old text; a broken file, or one of
another user, is not changed."""

import json
import os
import stat
import subprocess
import tomllib

import pytest

from pyrunc.commands import install as command
from pyrunc.helper.engines import PODMAN_OWN

CRI = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
CONTAINERD = """\
# by hand
version = 2
disabled_plugins = []  # none

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "pause"  # small
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc" # the usual one
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
"""


@pytest.fixture
def install(pyrunc, tmp_path):
    """install("docker", text, *words) -> (file, result); the file is below a directory of the test and contains `text` (None: there is no file)."""

    def call(engine, text=None, *words, code=0, fresh=True):
        file = tmp_path / ("conf.d" if engine == "podman" else engine) / "file.conf"
        if fresh and text is not None:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
        result = pyrunc.call("install", "--" + engine, "--config", file, "--runtime", pyrunc.path, *words)
        assert result.code == code, result
        return file, result

    return call


def others(file):
    return sorted(p.name for p in file.parent.iterdir() if p != file) if file.parent.exists() else []


def our_runtime(engine, text, path):
    """Whether the engine finds our executable in its configuration."""
    if engine == "docker":
        return json.loads(text)["runtimes"]["pyrunc"]["path"] == path
    data = tomllib.loads(text)
    if engine == "podman":
        return data["engine"]["runtimes"]["pyrunc"] == [path]
    entry = data["plugins"][CRI[data["version"]]]["containerd"]["runtimes"]["pyrunc"]
    return entry["runtime_type"] == "io.containerd.runc.v2" and entry["options"]["BinaryName"] == path


@pytest.mark.parametrize("engine", ["docker", "podman", "containerd"])
def test_install_and_uninstall_without_a_file(install, pyrunc, engine):
    file, result = install(engine, None, "--dry-run")
    assert not file.exists() and others(file) == [] and "+++ %s" % file in result.out and "--dry-run" in result.out
    file, result = install(engine)
    text = file.read_text()
    assert our_runtime(engine, text, str(pyrunc.path)) and stat.S_IMODE(file.stat().st_mode) == 0o644 and others(file) == []
    assert "pyrunc" in [line for line in result.out.splitlines() if not line.startswith("+")][-1]
    file, result = install(engine, fresh=False)
    assert "nothing to change" in result.out and file.read_text() == text and others(file) == []
    file, _ = install(engine, None, "--uninstall", fresh=False)
    assert not file.exists()
    file, result = install(engine, None, "--remove", fresh=False)
    assert "nothing to change" in result.out and not file.exists()


def test_docker_keeps_other_settings(install, pyrunc):
    old = '{\n    "log-driver": "local",\n    "runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2"}},\n    "default-runtime": "kata"\n}\n'
    file, result = install("docker", old)
    new = json.loads(file.read_text())
    assert new.pop("runtimes") == {"kata": {"runtimeType": "io.containerd.kata.v2"}, "pyrunc": {"path": str(pyrunc.path)}}
    assert new == {"log-driver": "local", "default-runtime": "kata"} and '\n    "log-driver"' in file.read_text()
    assert (file.parent / others(file)[0]).read_text() == old and others(file)[0] in result.out
    file, _ = install("docker", None, "--default", fresh=False)
    assert json.loads(file.read_text())["default-runtime"] == "pyrunc" and len(others(file)) == 2
    file, _ = install("docker", None, "--uninstall", fresh=False)
    assert json.loads(file.read_text()) == {"log-driver": "local", "runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2"}}}


def test_docker_arguments_stay(install, pyrunc):
    file, _ = install("docker", '{"runtimes": {"pyrunc": {"path": "/old/place", "runtimeArgs": ["--debug"]}}}')
    assert json.loads(file.read_text())["runtimes"]["pyrunc"] == {"path": str(pyrunc.path), "runtimeArgs": ["--debug"]}


def test_containerd_changes_only_the_needed_lines(install, pyrunc):
    file, _ = install("containerd", CONTAINERD)
    text = file.read_text()
    assert text.startswith(CONTAINERD) and our_runtime("containerd", text, str(pyrunc.path))
    cri = tomllib.loads(text)["plugins"][CRI[2]]["containerd"]
    assert cri["runtimes"]["pyrunc"]["options"]["SystemdCgroup"] is True and cri["default_runtime_name"] == "runc"
    file, _ = install("containerd", None, "--default", fresh=False)
    text = file.read_text()
    assert tomllib.loads(text)["plugins"][CRI[2]]["containerd"]["default_runtime_name"] == "pyrunc" and "# small" in text
    file, result = install("containerd", None, "--default", fresh=False)
    assert "nothing to change" in result.out
    file, _ = install("containerd", None, "--uninstall", fresh=False)
    assert file.read_text() == CONTAINERD


@pytest.mark.parametrize("default", [(), ("--default",)], ids=["", "default"])
@pytest.mark.parametrize(
    "old",
    [
        "",
        "# nothing but words\n",
        "version = 2\n",
        "version = 3\nroot = '/x'\n",
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\n[debug]\nlevel = 'info'\n",
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n",
        'version = 2\n[plugins]\n  [plugins.\'io.containerd.grpc.v1.cri\']\n[plugins.x]\ny = """\n[plugins]\n"""\n',
    ],
)
def test_containerd_of_any_form(install, pyrunc, old, default):
    file, _ = install("containerd", old, *default)
    text = file.read_text()
    assert our_runtime("containerd", text, str(pyrunc.path))
    named = tomllib.loads(text)["plugins"][CRI[tomllib.loads(text)["version"]]]["containerd"].get("default_runtime_name")
    assert named == ("pyrunc" if default else None)
    assert "runc" in tomllib.loads(text)["plugins"][CRI[tomllib.loads(text)["version"]]]["containerd"]["runtimes"]
    file, _ = install("containerd", None, *default, fresh=False)
    assert file.read_text() == text
    install("containerd", None, "--uninstall", fresh=False)
    assert not file.exists() or file.read_text() in (old, old + "version = 2\n")


def test_podman_default(install):
    file, _ = install("podman", None, "--default", "--name", "py-2")
    engine = tomllib.loads(file.read_text())["engine"]
    assert engine["runtime"] == "py-2" and list(engine["runtimes"]) == ["py-2"]
    own = ["py-2", {"append": True}] if command._podman_appends() else [*PODMAN_OWN["runtime_supports_json"], "py-2"]  # podman 5, or 4
    assert engine["runtime_supports_json"] == own


def test_podman_keeps_manual_changes(install):
    file, _ = install("podman")
    file.write_text(file.read_text() + "# a note\n")
    install("podman", None, "--uninstall", fresh=False)
    assert not file.exists() and "# a note" in (file.parent / others(file)[0]).read_text()


@pytest.mark.kernel
def test_mode_owner_and_links_stay(install, tmp_path):
    real = tmp_path / "real.json"
    real.write_text("{}")
    os.chmod(real, 0o640)
    os.chown(real, 4321, 4322)
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/file.conf").symlink_to("../real.json")
    file, _ = install("docker")
    there = real.stat()
    assert file.is_symlink() and "pyrunc" in real.read_text()
    assert (stat.S_IMODE(there.st_mode), there.st_uid, there.st_gid) == (0o640, 4321, 4322)
    assert (tmp_path / "real.json.before-pyrunc").read_text() == "{}"


BAD = {
    ("docker", '{"a": 1,}'): "not JSON",
    ("docker", "[]"): "not a JSON object",
    ("docker", '{"runtimes": []}'): "/runtimes is not an object",
    ("docker", '{"runtimes": {"pyrunc": {"runtimeType": "x"}}}'): "/runtimes/pyrunc",
    ("docker", '{"debug": true, "debug": false}'): "duplicate key",
    ("docker", b'{"x": "\xff"}'): "not UTF-8",
    ("docker", "[" * 100000): "not JSON",
    ("podman", "[engine]\nruntime = 'crun'\n"): "not written by pyrunc install",
    ("containerd", "version = 2\n[plugins\n"): "not TOML",
    ("containerd", "[plugins.cri]\n"): "version 1",
    ("containerd", "version = 4\n"): "version 4",
    ("containerd", "version = '2'\n"): "version 2",
    ("containerd", "version = 2\nplugins = {}\n"): "can't be added",
    ("containerd", "version = 2\nplugins = 7\n"): "plugins is not a table",
    (
        "containerd",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.pyrunc]\nruntime_type = 'other'\n",
    ): "did not write",
    ("containerd", "version = 2\n# pyrunc install: end\n"): "marks",
}


@pytest.mark.parametrize(("engine", "text"), BAD, ids=range(len(BAD)))
def test_broken_or_foreign_files_stay(install, engine, text):
    file, result = install(engine, text, code=1)
    assert file.read_bytes() == (text if isinstance(text, bytes) else text.encode()) and others(file) == []
    assert BAD[engine, text] in result.err and "nothing was changed" in result.err and str(file) in result.err
    assert result.out == "" and len(result.err.splitlines()) == 1


def test_podman_with_a_broken_main_file(install, tmp_path):
    (tmp_path / "containers.conf").write_text("[engine\n")
    file, result = install("podman", None, code=1)
    assert not file.exists() and "containers.conf: not TOML" in result.err


@pytest.mark.kernel
def test_no_file_is_written_when_one_is_refused(pyrunc, scratch):
    """Both engines are checked before the first file is written: an ordinary user may not write Docker's file."""
    home = scratch / "home-of-4321"
    home.mkdir()
    os.chown(home, 4321, 4321)
    env = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": ""}
    words = ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups", "--", str(pyrunc.path)]
    both = subprocess_run([*words, "install", "--podman", "--docker"], env)
    assert both.returncode == 1 and b"only root can write" in both.stderr and list(home.iterdir()) == []
    alone = subprocess_run([*words, "install", "--podman"], env)
    assert alone.returncode == 0, alone.stderr
    assert (home / ".config/containers/containers.conf.d/50-pyrunc.conf").exists()


def subprocess_run(argv, env):
    return subprocess.run(argv, env=env, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs an engine"),
        (["--docker", "--podman", "--config", "x"], "--config is the file of one engine"),
        (["--docker", "--runtime", "/no/such"], "no runtime at /no/such"),
        (["--docker", "--runtime", "/etc/passwd"], "is not executable"),
        (["--docker", "--name", "a.b"], "invalid name"),
        (["--docker", "--name", ""], "invalid name"),
        (["--docker", "--config", "/dev/null/x"], "not a directory"),
        (["--docker", "--config", "/dev"], "not a regular file"),
        (["--docker", "--config", "/dev/zero"], "not a regular file"),
        (["--docker", "word"], "requires exactly 0 argument"),
    ],
)
def test_wrong_use(pyrunc, words, said):
    result = pyrunc.call("install", *words)
    assert result.code == 1 and said in result.err and result.out.count("\n+") == 0


@pytest.mark.kernel
def test_no_space(pyrunc, tmp_path):
    """The disk is full: the error says so, and the old file is intact."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12k,nr_inodes=20", "tmpfs", place], check=True)
    try:
        (place / "daemon.json").write_text('{"x": "%s"}' % ("y" * 5000))
        old = (place / "daemon.json").read_text()
        result = pyrunc.call("install", "--docker", "--config", place / "daemon.json", "--runtime", pyrunc.path)
        assert result.code == 1 and "no space left on device" in result.err
        assert (place / "daemon.json").read_text() == old and [p.name for p in place.iterdir()] == ["daemon.json"]
    finally:
        subprocess.run(["umount", place], check=True)
