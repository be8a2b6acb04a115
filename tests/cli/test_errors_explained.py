"""Errors as shown on a terminal, the fields of a log entry besides msg, and the list of codes."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios

import pytest

import harness


def at_a_terminal(runtime, *words, env=None, cwd=None):
    """(exit status, what standard error wrote to a terminal)."""
    return harness.at_a_terminal(runtime.argv(*words), streams=["stderr"], env={**runtime.env, "TERM": "xterm", **(env or {})}, cwd=cwd)


@pytest.mark.kernel
def test_a_terminal_gets_the_position_and_the_remedy(pyrunc, make_bundle):
    bundle = make_bundle({"/mounts/1/options": ["nosuid", "idmap"]})
    config = json.loads((bundle.path / "config.json").read_text())
    (bundle.path / "config.json").write_text(json.dumps(config, indent=2))
    code, text = at_a_terminal(pyrunc, "create", "--bundle", bundle, pyrunc.new_id(), env={"NO_COLOR": "1"})
    assert code == 1 and "\x1b" not in text
    lines = text.splitlines()
    assert lines[0].startswith("create failed: id-mapped mounts"), text
    where = re.match(r"  where  (/mounts/1\S*) in config.json:(\d+):(\d+)$", lines[1])
    assert where, text
    source = (bundle.path / "config.json").read_text().splitlines()[int(where[2]) - 1]
    assert lines[2].split("|", 1)[1].strip() == source.strip()
    assert set(lines[3].split("|", 1)[1]) == {" ", "^"}
    mark = lines[3].split("|", 1)[1]
    assert lines[2].split("|", 1)[1][mark.index("^") :][:1] in '"[{'
    assert any(line.startswith("  do     ") for line in lines) and any("pyrunc explain PYR-2132" in line for line in lines), text


def test_colours_are_for_terminals_that_have_them(pyrunc):
    assert "\x1b[" in at_a_terminal(pyrunc, "state", "nobody")[1]
    assert "\x1b[" not in at_a_terminal(pyrunc, "state", "nobody", env={"NO_COLOR": "1"})[1]
    assert "\x1b[" not in at_a_terminal(pyrunc, "state", "nobody", env={"TERM": "dumb"})[1]


def test_bad_json_is_shown_where_it_breaks(pyrunc, bundle):
    (bundle.path / "config.json").write_text('{\n  "ociVersion": "1.2.0",\n  "process": {,}\n}\n')
    code, text = at_a_terminal(pyrunc, "create", "--bundle", bundle, pyrunc.new_id(), env={"NO_COLOR": "1"})
    assert code == 1 and '      3 | "process": {,}' in text and "PYR-2401" in text, text
    assert text.splitlines()[4].rstrip() == "         | " + " " * len('"process": {') + "^", text


@pytest.mark.parametrize("kind", ["missing", "a directory", "a fifo", "binary", "huge line"])
def test_a_document_that_cannot_be_shown(pyrunc, bundle, kind):
    """The rest is still explained."""
    path = bundle.path / "config.json"
    path.unlink()
    if kind == "a directory":
        path.mkdir()
    elif kind == "a fifo":
        os.mkfifo(path)
    elif kind == "binary":
        path.write_bytes(bytes(range(256)) * 8)
    elif kind == "huge line":
        path.write_text(json.dumps(harness.patch(bundle.config, {"/process/env": ["A=" + "é" * 5000], "/process/cwd": "relative"})))
    code, text = at_a_terminal(pyrunc, "create", "--bundle", bundle, pyrunc.new_id(), env={"NO_COLOR": "1"})
    lines = text.splitlines()
    assert code == 1 and lines[0].startswith("create failed: ") and lines[-1].startswith("  code   PYR-2"), text
    assert "Traceback" not in text and all(len(line) < 1200 for line in lines)


@pytest.mark.kernel
def test_without_a_terminal_nothing_changes(pyrunc, bundle):
    """Engines show standard error unchanged, so it is still a single line."""
    bundle.patch({"/process/cwd": "relative"})
    result = pyrunc.call("create", "--bundle", bundle, pyrunc.new_id())
    assert result.code == 1 and result.err == 'create failed: Cwd must be an absolute path (/process/cwd); it is "relative"\n', result


def test_with_a_log_the_terminal_gets_one_line(pyrunc, tmp_path):
    log = tmp_path / "log"
    argv = pyrunc.argv("state", "nobody", globals=["--log", log, "--log-format", "json"])
    master, slave = pty.openpty()
    done = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave, env=pyrunc.env)
    assert done.wait(harness.WATCHDOG) == 1
    os.close(slave)
    said = os.read(master, 65536).decode()
    os.close(master)
    record = json.loads(log.read_text())
    assert (
        said == "state failed: container does not exist (nobody)\r\n" and record["msg"] == "state failed: container does not exist (nobody)"
    )
    assert (record["code"], record["kind"], record["exit_status"], record["level"]) == ("PYR-4001", "state", 1, "error")


def test_list_of_codes(pyrunc):
    rows = json.loads(pyrunc.ok("errors", "--format", "json").out)
    assert len(rows) > 150 and {"code", "name", "kind", "meaning", "remedy", "exit_status"} == set(rows[0])
    text = pyrunc.ok("errors").out
    assert all(row["code"] in text and row["meaning"] in text for row in rows) and "\x1b" not in text
    one = json.loads(pyrunc.ok("errors", "--format", "json", "PYR-4001").out)
    assert [row["name"] for row in one] == ["unknown-container"]
    assert json.loads(pyrunc.ok("errors", "-f", "json", "unknown-container").out) == one


@pytest.mark.parametrize("word, near", [("PYR-4999", "PYR-40"), ("unknown-contaner", "unknown-container")])
def test_unknown_code(pyrunc, word, near):
    result = pyrunc.call("errors", word)
    assert result.code == 1 and result.err.count("\n") == 1 and near in result.err, result


@pytest.mark.parametrize("columns", [80, 200])
def test_each_kind_of_error_fits_the_terminal(pyrunc, bundle, columns):
    """No sentence is repeated, there is one remedy, and no line is longer than the terminal is wide."""
    for words in (
        ["rnu"],
        ["create", "--bundl", "x"],
        ["state", "nobody"],
        ["list", "--format", "jsno"],
        ["run", "--bundle", bundle, "a/b"],
        ["create"],
    ):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        argv = pyrunc.argv(*words)
        done = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave, env={**pyrunc.env, "TERM": "dumb"})
        assert done.wait(harness.WATCHDOG) == 1
        os.close(slave)
        lines = os.read(master, 65536).decode().replace("\r\n", "\n").splitlines()
        os.close(master)
        assert max(map(len, lines)) <= columns, lines
        assert [line[:7] for line in lines].count("  do   ") == 1, lines
        first = lines[0].partition(" failed: ")[2] or lines[0]
        assert sum(first.partition(";")[0] in line for line in lines) == 1, lines
