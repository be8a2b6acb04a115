"""The pytest plugin of `import pyrunc`, in this tree and installed from a wheel."""

import shutil
import subprocess
import sys

import pytest

import harness
from test_python_api_programs import PYTHON

PLUGIN_TESTS = """
import pathlib

def test_words(pyrunc_container, tmp_path):
    container = pyrunc_container(["/bin/sh", "-c", "echo $HOSTNAME; hostname"], changes={"/hostname": "inside"})
    assert container.wait(30).status == 0 and b"inside" in container.stdout

def test_it_stays_until_the_end(pyrunc_container, pyrunc_runtime):
    pyrunc_container(["/bin/sleep", "1000"])
    assert len(pyrunc_runtime.containers()) == 1

def test_it_is_gone_then(pyrunc_runtime):
    assert pyrunc_runtime.containers() == []

def test_a_failure(pyrunc_container):
    assert pyrunc_container(["/bin/false"]).wait(30).status == 0
"""


@pytest.mark.kernel
def test_the_plugin(pyrunc, tmp_path):
    (tmp_path / "test_it.py").write_text(PLUGIN_TESTS)
    argv = [PYTHON, "-m", "pytest", "-q", "-p", "pyrunc.api.testing", "-p", "no:cacheprovider", "--pyrunc-runtime", pyrunc.path]
    done = subprocess.run(
        [*argv, "--basetemp", tmp_path / "t", tmp_path], capture_output=True, text=True, timeout=harness.WATCHDOG, cwd=tmp_path
    )
    assert "1 failed, 3 passed" in done.stdout and "status=1" in done.stdout, done.stdout + done.stderr


@pytest.mark.long
def test_installed(pyrunc, tmp_path):
    """From a wheel in a separate environment: pytest finds the plugin through its entry point, and the package finds its binary."""
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "-q"]
    source = tmp_path / "source"
    shutil.copytree(
        harness.ROOT / "runtime",
        source / "runtime",
        symlinks=True,
        ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "pyrunc-static"),
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(harness.ROOT / name, source / name)
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path / "wheel", source], check=True, timeout=600)
    subprocess.run(["/usr/bin/python3", "-m", "venv", tmp_path / "env"], check=True)
    own = tmp_path / "env/bin/python"
    subprocess.run([own, *pip[1:], "install", *(tmp_path / "wheel").iterdir(), "pytest"], check=True, timeout=600)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_it.py").write_text(PLUGIN_TESTS)
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    argv = [own, "-I", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", tmp_path / "t", tmp_path / "tests"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=harness.WATCHDOG, cwd=tmp_path / "tests", env=env)
    assert "1 failed, 3 passed" in done.stdout and "status=1" in done.stdout, done.stdout + done.stderr
    shown = subprocess.run(
        [own, "-I", "-c", "import pyrunc; print(pyrunc.Runtime().path)"], capture_output=True, text=True, env=env, check=True
    )
    assert shown.stdout == "%s\n" % (tmp_path / "env/bin/pyrunc")


def test_the_plugin_is_an_entry_point():
    import importlib
    import tomllib

    points = tomllib.loads((harness.ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert hasattr(importlib.import_module(points["pyrunc"]), "pyrunc_container")
    assert sys.modules["pyrunc.api.testing"].MakeContainer
