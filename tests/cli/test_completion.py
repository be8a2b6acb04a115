"""`pyrunc completion`: real shells load the scripts, which complete the commands and options in the table and the ids of existing containers."""

import os
import pty
import select
import shutil
import subprocess
import time

import pytest

import harness
from pyrunc import commands as command_table

SHELLS = ("bash", "zsh", "fish")


def shell(name):
    path = shutil.which(name, path="/usr/bin:/bin")
    if not path:
        pytest.skip("no %s on this machine" % name)
    return path


@pytest.fixture
def script(pyrunc, tmp_path):
    """script("bash") -> file; its directory also contains `pyrunc`, which the shells find through PATH."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pyrunc").symlink_to(os.path.realpath(pyrunc.path))

    def make(name):
        file = tmp_path / ("_pyrunc" if name == "zsh" else "pyrunc." + name)
        file.write_text(pyrunc.ok("completion", name).out)
        return file

    make.env = {"PATH": "%s:/usr/bin:/bin" % (tmp_path / "bin"), "HOME": str(tmp_path), "TERM": "dumb", "LC_ALL": "C.UTF-8"}  # type: ignore[attr-defined]
    return make


BASH = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pyrunc; printf "%s\\n" "${COMPREPLY[@]}"'


def bash_answers(script, words, cwd=None):
    argv = [shell("bash"), "--norc", "-c", BASH, "bash", script("bash"), *words]
    done = subprocess.run(argv, capture_output=True, text=True, env=script.env, cwd=cwd, timeout=harness.WATCHDOG)
    assert done.returncode == 0 and not done.stderr, done
    return set(done.stdout.split())


def fish_answers(script, line, cwd=None):
    argv = [shell("fish"), "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", str(script("fish")), line]
    done = subprocess.run(argv, capture_output=True, text=True, env=script.env, cwd=cwd, timeout=harness.WATCHDOG)
    assert done.returncode == 0 and not done.stderr, done
    return {row.partition("\t")[0] for row in done.stdout.splitlines()}


def zsh_answers(script, lines, cwd=None):
    """{line: the line after pressing TAB}, typed into a real zsh on a terminal. A widget prints the line between marks."""
    setup = script("zsh").parent / ".zshrc"
    setup.write_text(
        "fpath=(%s $fpath); autoload -Uz compinit; compinit -u -D\n"
        "setopt no_beep no_list_ambiguous\n"
        'show() { print -r -- "<<$BUFFER>>"; BUFFER= }; zle -N show; bindkey "^Xs" show; bindkey "^I" complete-word\n'
        "PS1='ready> '\n" % setup.parent
    )
    argv = [shell("zsh"), "-i"]
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(cwd or "/")
        os.execve(argv[0], argv, {**script.env, "ZDOTDIR": str(setup.parent)})
    found = {}
    try:
        _read_until(fd, b"ready> ")
        for line in lines:
            os.write(fd, line.encode() + b"\t")
            os.write(fd, b"\x18s")
            text = _read_until(fd, b">>")
            found[line] = text.rpartition(b"<<")[2].partition(b">>")[0].decode().replace("\r", "")
        os.write(fd, b"exit\n")
    finally:
        os.close(fd)
        with harness.Watched(pid) as watched:
            watched.wait()
    return found


def _read_until(fd, mark, data=b""):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    end = time.monotonic() + harness.WATCHDOG
    while mark not in data:
        assert poll.poll(max(0, end - time.monotonic()) * 1000), data
        data += os.read(fd, 65536)
    return data


@pytest.mark.parametrize("name", SHELLS)
def test_the_shell_reads_it(script, name):
    check = [shell(name), "--no-execute" if name == "fish" else "-n", str(script(name))]
    done = subprocess.run(check, capture_output=True, text=True, env=script.env)
    assert done.returncode == 0 and done.stdout + done.stderr == "", done


@pytest.mark.parametrize("command", ["", *command_table.COMMANDS])
def test_bash_knows_every_option(script, command):
    kinds, short = (
        (command_table.COMMANDS[command].options, command_table.COMMANDS[command].short)
        if command
        else (command_table.GLOBAL, command_table.GLOBAL_SHORT)
    )
    words = {"--" + name for name in kinds} | {("-" if len(name) == 1 else "--") + name for name in short} | {"--help", "-h"}
    assert bash_answers(script, ["pyrunc", *([command] if command else []), "-"]) == words


@pytest.mark.kernel
def test_bash(script, pyrunc, waiting, tmp_path):
    first, second = pyrunc.create(waiting), pyrunc.create(waiting.patch({"/linux/cgroupsPath": harness.ABSENT}))
    ids = {first, second}
    (tmp_path / "bundles one").mkdir()
    (tmp_path / "bundle-file").write_text("")
    top = ["pyrunc", "--root", pyrunc.root]
    assert bash_answers(script, ["pyrunc", ""]) == set(command_table.COMMANDS)
    assert bash_answers(script, ["pyrunc", "--debug", "che"]) == {"checkpoint"}
    assert bash_answers(script, ["pyrunc", "--log-format", "j"]) == {"json"}
    assert bash_answers(script, [*top, "kill", ""]) == ids
    assert bash_answers(script, [*top, "kill", "--all", first[:-1]]) == ids
    assert bash_answers(script, [*top, "kill", first, "TE"]) == {"TERM"}
    assert bash_answers(script, [*top, "stats", first, "--format", "prom"]) == {"prometheus"}
    assert bash_answers(script, [*top, "stats", "--format", "=", "prom"]) == {"prometheus"}
    assert bash_answers(script, [*top, "stats", "--format", "="]) == {"table", "json", "prometheus"}
    assert bash_answers(script, [*top, "stats", first, ""]) == ids
    assert bash_answers(script, [*top, "mounts", "add", ""]) == ids
    assert bash_answers(script, ["pyrunc", "mounts", ""]) == {"add", "remove", "list"}
    assert bash_answers(script, ["pyrunc", "help", "resu"]) == {"resume"}
    assert "PYR-4001" in bash_answers(script, ["pyrunc", "explain", "PYR-40"])
    assert "PYR-4001" in bash_answers(script, ["pyrunc", "errors", "PYR-1001", "PYR-40"])
    assert bash_answers(script, ["pyrunc", "exec", "-c", "CAP_SYS_AD"]) == {"CAP_SYS_ADMIN"}
    assert bash_answers(script, ["pyrunc", "create", "--bundle", "bundle"], cwd=tmp_path) == {
        "bundles",
        "one",
    }  # a single candidate, followed by a blank
    assert bash_answers(script, ["pyrunc", "create", "--config", "bundle-"], cwd=tmp_path) == {"bundle-file"}
    assert bash_answers(script, ["pyrunc", "--root", "/nowhere", "kill", ""]) == set()


def test_bash_itself_calls_it(script, tmp_path):
    """`complete` has bound the function to the command name."""
    argv = [shell("bash"), "--norc", "-c", 'source "$1"; complete -p pyrunc', "bash", script("bash")]
    assert subprocess.run(argv, capture_output=True, text=True, env=script.env).stdout == "complete -F _pyrunc pyrunc\n"


@pytest.mark.kernel
def test_zsh(script, pyrunc, waiting, tmp_path):
    id = pyrunc.create(waiting)
    (tmp_path / "bundle-here").mkdir()
    wanted = {
        "pyrunc che": "pyrunc checkpoint ",
        "pyrunc create --bund": "pyrunc create --bundle=",
        "pyrunc create --bundle bundle": "pyrunc create --bundle bundle-here/",
        "pyrunc --root %s kill %s" % (pyrunc.root, id[:5]): "pyrunc --root %s kill %s " % (pyrunc.root, id),
        "pyrunc kill x TER": "pyrunc kill x TERM ",
        "pyrunc stats --format prom": "pyrunc stats --format prometheus ",
        "pyrunc --log-format j": "pyrunc --log-format json ",
        "pyrunc completion z": "pyrunc completion zsh ",
    }
    assert zsh_answers(script, wanted, cwd=tmp_path) == wanted


@pytest.mark.kernel
def test_fish(script, pyrunc, waiting, tmp_path):
    id = pyrunc.create(waiting)
    (tmp_path / "bundle-here").mkdir()
    assert fish_answers(script, "pyrunc ") == set(command_table.COMMANDS)
    assert fish_answers(script, "pyrunc --log-format j") == {"json"}
    assert fish_answers(script, "pyrunc --root %s kill " % pyrunc.root) == {id}
    assert fish_answers(script, "pyrunc --root %s kill --all %s" % (pyrunc.root, id[:4])) == {id}
    assert fish_answers(script, "pyrunc kill x TE") == {"TERM"}
    assert fish_answers(script, "pyrunc stats --format prom") == {"prometheus"}
    assert fish_answers(script, "pyrunc create --bundle bundle", cwd=tmp_path) == {"bundle-here/"}
    assert {"--bundle", "--pid-file"} <= fish_answers(script, "pyrunc create --")
    assert not fish_answers(script, "pyrunc create x ") & set(command_table.COMMANDS)


def test_an_unknown_shell(pyrunc):
    result = pyrunc.call("completion", "tcsh")
    assert result.code == 1 and result.out == "" and "use bash, zsh or fish" in result.err
