"""Runtimes that are missing, broken, silent or erratic or give wrong answers, and reports that cannot be written: each gives one line, and the run
continues."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from suite_tools import ROOT, report_of, suite

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.long]

BAD = {
    "ignores": "#!/bin/sh\nexit 0\n",
    "refuses": "#!/bin/sh\necho no >&2\nexit 1\n",
    "crashes": "#!/bin/sh\nkill -SEGV $$\n",
    "garbage": "#!/bin/sh\nhead -c 100000 /dev/urandom\n",
    "floods": "#!/bin/sh\nexec yes\n",
    "binary": "\x7fELF and nothing else",
}
LEAVES = """#!/bin/sh
for word; do case $word in create) env -i /bin/sleep 43217 </dev/null >/dev/null 2>&1 & ;; esac; done
exec %s "$@"
"""
LIAR = """#!/bin/sh
for word; do case $word in state) echo '{"ociVersion": "1.0.0", "id": "x", "status": "created", "pid": %d, "bundle": "/"}' ;; esac; done
exit 0
"""


def written(path, text, mode=0o755):
    path.write_text(text)
    path.chmod(mode)
    return path


def good():
    path = shutil.which("runc", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        pytest.skip("this machine has no runc to continue with")
    return path


def test_bad_runtimes_are_named_and_the_good_one_is_tested(tmp_path):
    paths = [written(tmp_path / name, text) for name, text in BAD.items()]
    paths += [written(tmp_path / "plain", "text", 0o644), tmp_path / "missing", tmp_path]
    options = [word for path in [*paths, good()] for word in ("--runtime", path)]
    ended, found = report_of(*options, "--filter", "state.stages", "--timeout", "5", path=tmp_path / "report")
    assert ended.code == 2, ended
    assert [entry["label"] for entry in found["runtimes"]] == ["runc"]
    assert [entry["verdict"] for entry in found["results"]] == ["pass"]
    lines = ended.err.splitlines()
    assert len(lines) == len(paths), ended
    for path in paths:
        assert sum(str(path) + ":" in line or str(path) + " " in line for line in lines) >= 1, (path, ended)
    assert "Traceback" not in ended.err


def test_a_runtime_that_always_hangs(tmp_path):
    path = written(tmp_path / "hangs", "#!/bin/sh\ntrap '' TERM INT HUP\nsleep 1000 & sleep 1000\nsleep 1000\n")
    ended = suite("--runtime", path, "--filter", "state.", "--timeout", "1")
    assert ended.code == 2 and "does not return" in ended.err, ended
    assert alive(str(path)) == []


def test_a_runtime_that_hangs_later_is_abandoned(tmp_path):
    text = '#!/bin/sh\nfor word; do case $word in kill) sleep 1000 ;; esac; done\nexec %s "$@"\n'
    path = written(tmp_path / "hangs-at-kill", text % good())
    options = ("--filter", "operations.kill_", "--timeout", "1", "--jobs", "1")
    ended, found = report_of("--runtime", path, *options, path=tmp_path / "report")
    assert ended.code == 1, ended
    assert {entry["verdict"] for entry in found["results"]} == {"fail"}
    assert sum("hung" in entry["reason"] for entry in found["results"]) == 2, found["results"]


def alive(words):
    """The pids of processes whose command line contains these words."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % name, "rb") as file:
                if words in file.read().replace(b"\0", b" ").decode("utf-8", "replace"):
                    found.append(int(name))
        except OSError:
            pass
    return found


def test_a_process_without_a_name_is_ended(tmp_path):
    """A daemon that a runtime leaves behind, with an empty environment and no part of the case in its command line."""
    path = written(tmp_path / "leaves", LEAVES % good())
    ended, found = report_of("--runtime", path, "--filter", "state.stages", path=tmp_path / "report")
    assert ended.code == 0 and [entry["verdict"] for entry in found["results"]] == ["pass"], ended
    assert alive("sleep 43217") == []


@pytest.mark.parametrize("answer", ["[]", "7", '"x"', "{", '{"pid": "1"}', '{"pid": 1}', '{"pid": -1}', '{"pid": 99999999999999999999}'])
def test_a_nonsensical_state(tmp_path, answer):
    """state prints something different each time: the suite reports it in one line, and does not kill the process with that pid."""
    text = "#!/bin/sh\nfor word; do case $word in state) echo '%s'; exit 0 ;; esac; done\nexec %s \"$@\"\n" % (answer, good())
    ended = suite("--runtime", written(tmp_path / "nonsense", text), "--filter", "state.", "--timeout", "5")
    assert ended.code == 2 and len(ended.err.splitlines()) == 1 and "Traceback" not in ended.err, ended


def test_a_wrong_pid_is_harmless(tmp_path):
    """A runtime returns the pid of an unrelated process for the container: that process is not killed."""
    with subprocess.Popen(["sleep", "1000"]) as victim:
        ended = suite("--runtime", written(tmp_path / "liar", LIAR % victim.pid), "--filter", "state.", "--timeout", "2")
        assert ended.code == 2 and "does not end" in ended.err, ended
        assert victim.poll() is None
        victim.kill()


def test_reports_that_cannot_be_written(tmp_path):
    missing = tmp_path / "missing" / "report.html"
    ended = suite("--runtime", good(), "--filter", "state.unknown", "--html", missing, "--junit", tmp_path, "--tap", tmp_path / "tap")
    assert ended.code == 2, ended
    assert len(ended.err.splitlines()) == 2 and str(missing) in ended.err, ended
    assert (tmp_path / "tap").read_text().count("\nok 1 ") == 1


def test_only_one_report_on_standard_output(tmp_path):
    ended = suite("--runtime", good(), "--filter", "state.unknown", "--tap", "-", "--json", "-")
    assert ended.code == 2 and len(ended.err.splitlines()) >= 1 and "another report goes to" in ended.err, ended
    json.loads(ended.out)


def test_a_full_disk_for_reports(tmp_path):
    ended = suite("--runtime", good(), "--filter", "state.unknown", "--html", "/dev/full", "--tap", tmp_path / "tap")
    assert ended.code == 2 and ended.err.splitlines() == [
        "oci-conformance: the HTML report is not written: /dev/full: No space left on device"
    ], ended
    assert (tmp_path / "tap").read_text().count("\nok 1 ") == 1


def test_a_full_disk_for_the_output():
    with open("/dev/full", "w") as full:
        argv = [sys.executable, "-m", "oci_conformance", "--list"]
        done = subprocess.run(argv, cwd=ROOT / "conformance", stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2, done
    assert done.stderr == "oci-conformance: the standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("size", ["16k", "1200k", "2000k"])
def test_a_full_disk_for_the_cases(tmp_path, size):
    """The scratch directory is too small, from the beginning or later: no traceback, no hang, and an exit status that shows it."""
    script = "mount -t tmpfs -o size=%s small %s && exec %s -m oci_conformance --runtime %s --filter mounts. --jobs 1"
    words = ["unshare", "--mount", "sh", "-c", script % (size, tmp_path, sys.executable, good())]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(words, cwd=ROOT / "conformance", env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode in (1, 2), done
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 1, done
    assert "No space left" in done.stderr + done.stdout, done


@pytest.mark.parametrize("words", [("--timeout", "0"), ("--timeout", "-3"), ("--timeout", "nan"), ("--jobs", "many"), ("--level", "none")])
def test_invalid_options(words):
    ended = suite("--runtime", good(), *words)
    assert ended.code == 2 and "Traceback" not in ended.err, ended


def test_an_interrupted_run_reports_and_leaves_nothing(tmp_path):
    report = tmp_path / "report.json"
    argv = [sys.executable, "-m", "oci_conformance", "--runtime", good(), "--json", str(report), "--verbose"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": {**os.environ, "TMPDIR": str(tmp_path)}}
    with subprocess.Popen(argv, cwd=ROOT / "conformance", text=True, **streams) as running:  # type: ignore[call-overload]
        for _ in range(5):
            assert running.stdout.readline()
        running.terminate()
        out, err = running.communicate(timeout=120)
    assert running.returncode == 130 and "interrupted" in err and "Traceback" not in err, (out, err)
    assert json.loads(report.read_text())["results"]
    assert alive("ocs%dx" % running.pid) == [] and os.listdir(tmp_path) == ["report.json"]
