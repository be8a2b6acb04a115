"""The two probes have the same output on the host, where both can run without a container."""

import os
import subprocess

import pytest
from suite_tools import PACKAGE

from oci_conformance import probe


@pytest.fixture(scope="module", params=["compiled", "shell"])
def look(request, tmp_path_factory):
    """look(operation, …) → the output of the probe."""
    directory = tmp_path_factory.mktemp("probe")
    if request.param == "compiled":
        why = probe.build(str(directory / "probe"))
        if why:
            pytest.skip("this machine cannot compile it statically: %s" % why)
        command = [str(directory / "probe")]
    else:
        path = probe.find_busybox()
        if not path:
            pytest.skip("this machine has no static busybox")
        command = [path, "sh", str(PACKAGE / "probe" / "probe.sh")]

    def run(*operations, **kw):
        done = subprocess.run([*command, *probe.argv(operations)[1:]], capture_output=True, text=True, timeout=60, **kw)
        return probe.parse(done.stdout)

    run.kind = request.param  # type: ignore[attr-defined]
    return run


def test_files(look, tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text('text "with" \\ ä\n')
    (tmp_path / "link").symlink_to("file")
    os.chmod(tmp_path / "file", 0o640)
    names = ["stat %s/%s" % (tmp_path, name) for name in ("dir", "file", "link", "none")]
    seen = look(*names, "follow %s/link" % tmp_path, "read %s/file" % tmp_path, "list %s" % tmp_path)
    assert [line.get("type") for line in seen[:5]] == ["dir", "file", "link", None, "file"]
    assert seen[1]["mode"] == 0o640 and seen[2]["target"] == "file" and seen[3]["errno"] == 2
    assert seen[5]["text"].strip() == 'text "with" \\ ä' and seen[5]["errno"] == 0
    assert sorted(seen[6]["names"]) == ["dir", "file", "link"]


def test_changes(look, tmp_path):
    seen = look(
        ["write", tmp_path / "new", "a b"],
        "open %s/new rw" % tmp_path,
        "open %s/no r" % tmp_path,
        "mkdir %s/d" % tmp_path,
        "mkdir %s/d" % tmp_path,
    )
    assert [line["errno"] for line in seen] == [0, 0, 2, 0, 17]
    assert (tmp_path / "new").read_text() == "a b"


def test_self(look):
    seen = look("self", cwd="/tmp", env={"ONE": "a b", "TWO": ""})[0]
    assert seen["uid"] == os.getuid() and seen["cwd"] == "/tmp"
    assert {"ONE=a b", "TWO="} <= set(seen["env"])
    assert seen["ns"]["uts"] == os.readlink("/proc/self/ns/uts")
    assert seen["rlimits"]["NOFILE"]["soft"] > 0 and seen["hostname"] == os.uname().nodename


def test_programs(look):
    seen = look("run /bin/true", "run /no/such", ["say", "a 'b' \"c\""], "exit 7")
    assert [line["op"] for line in seen] == ["run", "run", "say", "exit"]
    assert seen[0]["exit"] == 0 and seen[1]["errno"] == 2 and seen[2]["text"] == "a 'b' \"c\""


def test_hook(look, tmp_path):
    notes = tmp_path / "notes"
    look(["to", notes, "label"], "peek comm", "exit 0", input='{"id": "x", "pid": %d}' % os.getpid())
    seen = probe.parse(notes.read_text())
    assert seen[0]["label"] == "label" and '"id": "x"' in seen[0]["stdin"]
    assert seen[1]["text"].strip() == open("/proc/self/comm").read().strip()


def test_lines_of_something_else():
    assert probe.parse('{"op": "say", "text": "a"}\nnoise\n[1]\n')[1:] == [{"op": "?", "text": "noise"}, {"op": "?", "text": "[1]"}]


def test_without_a_probe(tmp_path):
    (tmp_path / "dynamic").write_bytes(b"\x7fELF" + b"\0" * 100 + b"/lib64/ld-linux-x86-64.so.2")
    with pytest.raises(probe.Missing):
        probe.prepare(str(tmp_path), str(tmp_path / "dynamic"), shell=True)
