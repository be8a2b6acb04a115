"""Runtimes that are missing, broken, mute, mad or lying; reports that cannot be written: one line each, and the rest goes on."""

import os
import shutil

import pytest
from suite_tools import report_of, suite

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

BAD = {
    "ignores": "#!/bin/sh\nexit 0\n",
    "refuses": "#!/bin/sh\necho no >&2\nexit 1\n",
    "crashes": "#!/bin/sh\nkill -SEGV $$\n",
    "garbage": "#!/bin/sh\nhead -c 100000 /dev/urandom\n",
    "floods": "#!/bin/sh\nexec yes\n",
    "binary": "\x7fELF and nothing else",
}
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
        pytest.skip("this machine has no runc to go on with")
    return path


def test_bad_ones_are_named_and_the_good_one_is_tested(tmp_path):
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


def test_one_that_hangs_for_ever(tmp_path):
    path = written(tmp_path / "hangs", "#!/bin/sh\ntrap '' TERM INT HUP\nsleep 1000 & sleep 1000\nsleep 1000\n")
    ended = suite("--runtime", path, "--filter", "state.", "--timeout", "1")
    assert ended.code == 2 and "does not return" in ended.err, ended
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % name) as file:
                assert str(path) not in file.read()
        except OSError:
            pass


def test_one_that_hangs_later_is_given_up(tmp_path):
    text = '#!/bin/sh\nfor word; do case $word in kill) sleep 1000 ;; esac; done\nexec %s "$@"\n'
    path = written(tmp_path / "hangs-at-kill", text % good())
    options = ("--filter", "operations.kill_", "--timeout", "1", "--jobs", "1")
    ended, found = report_of("--runtime", path, *options, path=tmp_path / "report")
    assert ended.code == 1, ended
    assert {entry["verdict"] for entry in found["results"]} == {"fail"}
    assert sum("hung" in entry["reason"] for entry in found["results"]) == 2, found["results"]


def test_a_liar_harms_nobody(tmp_path):
    """A runtime that names a foreign process as the container's: it is not ended."""
    import subprocess

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
