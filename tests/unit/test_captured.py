"""Input of real callers is accepted: every recorded config, process, resources and command line (tests/fixtures/captured).

tests/contracts/capture.py makes the recordings. Their paths are placeholders; those that a plan accesses (root, hooks, namespaces) are
replaced with existing ones. Hard limits come from the recording machine and are lowered to this process's limits, because without
CAP_SYS_RESOURCE a plan rejects higher ones. Everything else is what the callers wrote.
"""

import copy
import json
import pathlib
import shlex

import pytest

import harness
from pyrunc import cli, errors
from pyrunc import commands as command_table
from pyrunc.engine import planner
from pyrunc.oci import load, normalise, validate

CAPTURED = pathlib.Path(__file__).parent.parent / "fixtures" / "captured"
CONFIGS = sorted(CAPTURED.glob("*.json"))
ARGV = [line for line in (CAPTURED / "argv.txt").read_text().splitlines() if line]
NAMESPACES = {"network": "net", "mount": "mnt"}


def names(paths):
    return [path.stem for path in paths]


def prepared(path, tmp_path):
    """The recorded config in a bundle, with a root file system at the path that it names."""
    (tmp_path / "bundle").mkdir()
    document = json.loads(path.read_text())
    for folder in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (tmp_path / "root" / folder).mkdir(parents=True, exist_ok=True)
    document["root"]["path"] = str(tmp_path / "root")
    for hooks in document.get("hooks", {}).values():
        for hook in hooks:
            hook["path"] = "/proc/self/exe"
    for namespace in document["linux"]["namespaces"]:
        if namespace["type"] == "user":
            namespace.pop("path", None)  # a new one: our own can't be joined
        elif "path" in namespace:
            namespace["path"] = "/proc/self/ns/" + NAMESPACES.get(namespace["type"], namespace["type"])
    (tmp_path / "bundle" / "config.json").write_text(json.dumps(harness.within_limits(document)))
    return str(tmp_path / "bundle")


def context(path, bundle, config):
    """The context of a create by root (the callers ran as root), with the command line that belongs to the caller's config."""
    options = {"command": "create", "systemd_cgroup": config["linux"].get("cgroupsPath", "").count(":") == 2}
    if config["process"].get("terminal"):
        options["console_socket"] = bundle + "/console.sock"
    made = planner.Context("captured", bundle, config, options)
    made.euid = 0
    return made


def test_there_are_recordings():
    callers = {path.stem.split("-")[0] for path in CONFIGS}
    assert callers >= {"podman", "docker", "containerd", "kubernetes", "buildah", "buildkit"}
    assert len(CONFIGS) > 60 and len(ARGV) > 40


@pytest.mark.parametrize("path", CONFIGS, ids=names(CONFIGS))
def test_config_is_valid(path, tmp_path):
    document, _ = load.config(prepared(path, tmp_path))
    assert validate.check(normalise.config(document), all=True) == []


@pytest.mark.parametrize("path", CONFIGS, ids=names(CONFIGS))
def test_config_has_a_plan(path, tmp_path):
    bundle = prepared(path, tmp_path)
    document, _ = load.config(bundle)
    config = normalise.config(document)
    before = copy.deepcopy(config)
    plans, problems, _ = planner.plan_all(config, context(path, bundle, config))
    assert [str(problem) for problem in problems] == []
    assert plans["root"]["path"] == str(tmp_path / "root")
    assert config == before, "a plan changed the config"
    assert json.loads(json.dumps(plans)) == plans


@pytest.mark.parametrize("path", sorted((CAPTURED / "processes").glob("*.json")), ids=lambda path: path.stem)
def test_process_is_valid(path):
    assert validate.check(normalise.part(json.loads(path.read_text()), "process"), "process", all=True) == []


@pytest.mark.parametrize("path", sorted((CAPTURED / "resources").glob("*.json")), ids=lambda path: path.stem)
def test_resources_are_valid(path):
    assert validate.check(normalise.part(json.loads(path.read_text()), "resources"), "resources", all=True) == []


@pytest.mark.parametrize("line", ARGV, ids=lambda line: line.replace("/", "_")[-60:])
def test_command_line_is_understood(line):
    words = shlex.split(line)
    optional = {"checkpoint", "restore"}.intersection(words) - set(command_table.COMMANDS)
    if optional:  # a runtime may lack these; callers find out because `checkpoint --help` fails
        with pytest.raises(errors.UsageError):
            cli.parse(words)
        return
    top, command, options, args = cli.parse(words)
    if words[0] == "--version":
        assert top["version"] is True
        return
    assert command in words
    last = words[-1]
    if options.get("help") or command == "features":
        return
    assert (args[-1] if args else None) == last
    for name in ("root", "log"):
        if f"--{name}" in words:
            assert top[name] == words[words.index(f"--{name}") + 1]
    for word in words[words.index(command) + 1 : -1]:
        if word.startswith("--"):
            assert word[2:].partition("=")[0].replace("-", "_") in options
