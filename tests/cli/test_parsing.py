"""Parsing of argv: both dash styles, `=`, booleans with values, trailing options, help, and usage errors."""

import shutil

import pytest

COMMANDS = (
    "checkpoint create delete events exec features kill list pause ps restore resume run spec start state update"  # the spelling of runc
).split()
OWN = "doctor plan seccomp trace validate".split()


def test_global_option_forms(runtime):
    """`--root DIR`, `--root=DIR` and the same with one dash: callers use all of them, and cri-o passes `--root=DIR` as one argument."""
    for words in (["--root", runtime.root], ["--root=" + runtime.root], ["-root", runtime.root], ["-root=" + runtime.root]):
        result = runtime.call(*words, "list", "-q", raw=True)
        assert (result.code, result.out, result.err) == (0, "", ""), result


@pytest.mark.kernel
def test_command_option_forms(runtime, bundle):
    for words in (["--bundle", bundle], ["--bundle=" + str(bundle)], ["-b", bundle], ["-b=" + str(bundle)], ["-bundle", bundle]):
        id = runtime.new_id()
        runtime.ok("create", *words, id)
        runtime.ok("delete", "--force", id)


@pytest.mark.kernel
@pytest.mark.parametrize("value, wanted", [("true", 0), ("1", 0), ("t", 0), ("false", 1), ("0", 1), ("f", 1)])
def test_boolean_with_value(runtime, waiting, value, wanted):
    """Go's flags accept a value after `=` for a boolean. `--force=false` means no force: a running container is not deleted."""
    id = runtime.started(waiting)
    assert runtime.call("delete", "--force=" + value, id).code == wanted


@pytest.mark.kernel
def test_boolean_with_bad_value(runtime, waiting):
    id = runtime.create(waiting)
    assert runtime.call("delete", "--force=perhaps", id).code == 1
    assert runtime.status(id) == "created"


def test_global_booleans_with_value(runtime):
    for word in ("--systemd-cgroup=false", "--rootless=false", "--rootless=true", "--rootless=auto", "--rootless", "--debug=false"):
        arguments = [word, "auto"] if word == "--rootless" else [word]
        runtime.ok("list", "-q", globals=arguments)


@pytest.mark.kernel
def test_options_after_the_id(runtime, waiting):
    """runc reorders them for most commands, so `runc delete ID --force` works."""
    id = runtime.started(waiting)
    runtime.ok("delete", id, "--force")
    id = runtime.new_id()
    runtime.ok("create", id, "--bundle", waiting)
    runtime.ok("delete", id, "-f")


@pytest.mark.kernel
def test_exec_keeps_options_of_the_program(runtime, waiting):
    """For exec, the first argument that is not an option ends the options: `exec ID ls -l` passes -l to ls."""
    id = runtime.started(waiting)
    assert runtime.ok("exec", id, "/bin/echo", "-n", "--tty", "--", "x").out == "--tty -- x"


def test_two_dashes_end_options(runtime):
    result = runtime.call("state", "--", "--format")
    assert result.code == 1
    assert "flag provided but not defined" not in result.err + result.out


@pytest.mark.parametrize("command", ["create", "start", "state", "kill", "delete", "run", "list", "ps", "spec", "features"])
def test_unknown_option(runtime, command):
    result = runtime.call(command, "--bogus", "some-id")
    assert result.code == 1, result
    assert "flag provided but not defined: -bogus" in result.out + result.err


def test_unknown_global_option(runtime):
    result = runtime.call("--bogus", "list", raw=True)
    assert result.code == 1, result
    assert "flag provided but not defined: -bogus" in result.out + result.err


def test_no_abbreviations(runtime, bundle):
    """`--bund` is not `--bundle`: a prefix of one option today may be a prefix of two tomorrow."""
    result = runtime.call("create", "--bund", bundle, runtime.new_id())
    assert result.code == 1
    assert "flag provided but not defined: -bund" in result.out + result.err


def test_missing_option_argument(runtime):
    result = runtime.call("create", "--bundle")
    assert result.code == 1
    assert "flag needs an argument" in result.out + result.err


def test_probe_of_lsm_mount_context(runtime):
    """podman omits the argument of the option to find out whether restore supports it."""
    result = runtime.call("restore", "--lsm-mount-context")
    assert result.code != 0
    assert "flag needs an argument" in result.out + result.err


@pytest.mark.parametrize(
    "words", [["create"], ["create", "a", "b"], ["state"], ["state", "a", "b"], ["start"], ["kill"], ["delete"], ["exec"]]
)
def test_number_of_arguments(runtime, words):
    result = runtime.call(*words)
    assert result.code == 1, result
    assert "requires" in result.err and "argument" in result.err or "container id cannot be empty" in result.err


def test_number_of_arguments_words(pyrunc):
    result = pyrunc.call("create")
    assert '"create" requires exactly 1 argument' in result.err
    assert "Traceback" not in result.err + result.out


def test_no_command_is_help(runtime):
    result = runtime.call(raw=True)
    assert result.code == 0
    assert "create" in result.out


@pytest.mark.parametrize("words", [["help"], ["-h"], ["--help"]])
def test_help(runtime, words):
    result = runtime.call(*words, raw=True)
    assert result.code == 0 and result.err == ""
    for command in COMMANDS:
        assert command in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(runtime, command):
    """podman and cri-o know from status 0 of `checkpoint --help` that checkpoints are supported."""
    if command == "checkpoint" and not shutil.which("criu", path="/usr/sbin:/usr/bin"):
        pytest.skip("no criu on this machine")
    for words in ([command, "--help"], [command, "-h"]):
        result = runtime.call(*words, raw=True)
        assert result.code == 0 and result.err == "", result
        assert command in result.out


@pytest.mark.parametrize("command", OWN)
def test_help_of_own_commands(pyrunc, command):
    result = pyrunc.ok(command, "--help")
    assert command in result.out and result.err == ""


def test_unknown_command(runtime):
    result = runtime.call("bogus")
    assert result.code != 0
    assert "bogus" in result.out + result.err


def test_help_touches_nothing(runtime, tmp_path):
    for words in (["--help"], ["create", "--help"], ["--version"], ["features"]):
        assert runtime.call("--root", tmp_path / "none", *words, raw=True).code == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "argv, meant",
    [
        (["strat", "x"], "No help topic for 'strat'; did you mean start, state or stats? "),
        (["create", "--bundel", "x", "id"], "flag provided but not defined: -bundel; did you mean --bundle? see 'pyrunc create --help'"),
        (["--rooot", "x", "list"], "flag provided but not defined: -rooot; did you mean --root? see 'pyrunc --help'"),
        (["zzzzzz"], "No help topic for 'zzzzzz'; 'pyrunc --help' lists the commands"),
    ],
)
def test_suggestions_for_misspelled_words(pyrunc, argv, meant):
    result = pyrunc.call(*argv, raw=True)
    assert result.code == 1 and meant in result.said, result


@pytest.mark.parametrize(
    "word, hint", [("stop", "pyrunc kill"), ("rm", "pyrunc delete"), ("inspect", "pyrunc state"), ("pull", "no images")]
)
def test_commands_of_docker(pyrunc, word, hint):
    result = pyrunc.call(word, "x", raw=True)
    assert result.code == 1 and hint in result.said, result


@pytest.mark.parametrize(
    "argv, meant",
    [
        (["spec", "--profile", "dokcer"], "did you mean docker? use minimal, docker, "),
        (["kill", "x", "SIGTREM"], "did you mean TERM"),
        (["list", "--format", "jsno"], "did you mean json? use table or json"),
    ],
)
def test_suggestions_for_values(pyrunc, argv, meant):
    result = pyrunc.call(*argv)
    assert result.code == 1 and meant in result.said, result


@pytest.mark.kernel
def test_global_options_may_follow_the_command(pyrunc, waiting, tmp_path):
    """If the command has no option of that name: `--debug`, `--root`. But `--help` and `--version` are about the command."""
    id = pyrunc.create(waiting)
    found = pyrunc.call("state", "--root", pyrunc.root, id, raw=True)
    assert found.code == 0 and '"id": "%s"' % id in found.out
    log = tmp_path / "log"
    assert pyrunc.call("state", "nobody", "--log", log, "--log-format=json").code == 1
    assert '"level":"error"' in log.read_text()
    assert pyrunc.call("state", "--log", log, "--bogus", "x", raw=True).code == 1
    assert "-bogus" in log.read_text()
    assert pyrunc.call("list", "--version").code == 1
