"""The manual pages: complete, without warnings from mandoc or groff, and with every option and command."""

import os
import re
import shutil
import subprocess
import sys

import pytest

import harness
from pyrunc import commands as command_table


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    target = tmp_path_factory.mktemp("man")
    done = subprocess.run([sys.executable, harness.ROOT / "tools/man.py", target], capture_output=True, text=True)
    assert done.returncode == 0, done
    return target


def tool(name):
    path = shutil.which(name, path="/usr/bin:/bin")
    if not path:
        pytest.skip("no %s on this machine" % name)
    return path


def rendered(page):
    done = subprocess.run([tool("mandoc"), "-Tascii", page], capture_output=True, text=True)
    assert done.returncode == 0, done
    return re.sub(r".\x08", "", done.stdout)


def test_one_page_for_each_command(pages):
    assert {page.name for page in pages.iterdir()} == {"pyrunc.8", *("pyrunc-%s.8" % command for command in command_table.COMMANDS)}


def test_mandoc_has_no_warnings(pages):
    """mandoc cannot find pages that are not installed yet, so cross references are checked here."""
    done = subprocess.run([tool("mandoc"), "-Tlint", *sorted(pages.iterdir())], capture_output=True, text=True)
    assert [line for line in done.stdout.splitlines() if "referenced manual not found" not in line] == []
    named = {match for page in pages.iterdir() for match in re.findall(r"^\.(?:It )?Xr (\S+) 8", page.read_text(), re.M)}
    assert named == {page.stem for page in pages.iterdir()}


def test_man_has_no_warnings(pages):
    env = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    for page in sorted(pages.iterdir()):
        done = subprocess.run([tool("man"), "--warnings", "--local-file", page], capture_output=True, text=True, env=env)
        assert done.returncode == 0 and done.stderr == "" and "NAME" in done.stdout, done


@pytest.mark.parametrize("command", ["", *command_table.COMMANDS])
def test_every_option_and_name_is_there(pages, command):
    text = rendered(pages / ("pyrunc-%s.8" % command if command else "pyrunc.8"))
    kinds, short = (
        (command_table.COMMANDS[command].options, command_table.COMMANDS[command].short)
        if command
        else (command_table.GLOBAL, command_table.GLOBAL_SHORT)
    )
    for name in kinds:
        assert "--" + name in text, name
    for name in short:
        assert ("-" if len(name) == 1 else "--") + name in text, name
    for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"):
        assert heading in text
    if not command:
        assert [name for name in command_table.COMMANDS if "pyrunc-%s(8)" % name not in text] == []


def test_the_caller_sets_the_date(pages, tmp_path):
    env = {**os.environ, "SOURCE_DATE_EPOCH": "86400"}
    subprocess.run([sys.executable, harness.ROOT / "tools/man.py", tmp_path], env=env, check=True, capture_output=True)
    assert ".Dd January 2, 1970\n" in (tmp_path / "pyrunc.8").read_text()


def test_files_of_make_install(tmp_path):
    """install-shell is the part of `make install` that needs no package registry."""
    if not os.access(harness.ROOT, os.W_OK):
        pytest.skip("the user of the test run may not build in this tree")
    argv = ["make", "-s", "-C", str(harness.ROOT), "install-shell", "DESTDIR=%s" % tmp_path, "PREFIX=/usr", "PYRUNC_PLAIN=1"]
    argv += ["--assume-old=build", "VENV=.venv"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done
    share = tmp_path / "usr/share"
    assert (share / "man/man8/pyrunc-create.8").stat().st_mode & 0o777 == 0o644
    for name in ("bash-completion/completions/pyrunc", "zsh/site-functions/_pyrunc", "fish/vendor_completions.d/pyrunc.fish"):
        assert "checkpoint" in (share / name).read_text()
