"""`spec`: the file that it writes is valid, can be planned, is accepted by runc, and never replaces another."""

import json
import os
import shutil
import subprocess

import pytest

import harness
from pyrunc import errors
from pyrunc.commands import spec
from pyrunc.oci import example, explain, load, normalise, validate


def test_writes_a_valid_config(tmp_path):
    assert spec.main({"bundle": str(tmp_path)}, []) == 0
    document, raw = load.config(str(tmp_path))
    assert explain.problems(document) == []
    assert normalise.config(json.loads(raw)) == document  # normalisation changes nothing in it
    assert raw.startswith(b'{\n\t"ociVersion": "1.3.0",\n\t"process": {\n\t\t"terminal": true,')
    assert document["root"] == {"path": "rootfs", "readonly": True}
    assert os.stat(tmp_path / "config.json").st_mode & 0o777 == 0o666 & ~umask()


def umask():
    old = os.umask(0o22)
    os.umask(old)
    return old


def test_rootless(tmp_path):
    spec.main({"bundle": str(tmp_path), "rootless": True}, [])
    document, _ = load.config(str(tmp_path))
    assert validate.check(document) == []
    kinds = [n["type"] for n in document["linux"]["namespaces"]]
    assert "user" in kinds and "network" not in kinds
    assert document["linux"]["uidMappings"] == [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    assert document["linux"]["gidMappings"] == [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    assert "resources" not in document["linux"]
    mounts = {m["destination"]: m for m in document["mounts"]}
    assert mounts["/sys"]["source"] == "/sys" and "rbind" in mounts["/sys"]["options"]
    assert not any(o.startswith("gid=") for m in document["mounts"] for o in m.get("options", ()))


def test_existing_file_is_kept(tmp_path):
    path = tmp_path / "config.json"
    for make in (lambda: path.write_text("mine"), lambda: os.symlink("/nowhere/else", path), lambda: os.mkfifo(path), path.mkdir):
        make()
        with pytest.raises(errors.UsageError, match=r"^File config.json exists. Remove it first$") as caught:
            spec.main({"bundle": str(tmp_path)}, [])
        assert caught.value.exit_status == 1
        assert os.listdir(tmp_path) == ["config.json"]
        if path.is_file() and not path.is_symlink():
            assert path.read_text() == "mine"
        path.rmdir() if path.is_dir() else path.unlink()
    assert not os.path.exists("/nowhere")


def test_no_such_bundle(tmp_path):
    with pytest.raises(errors.UsageError, match="no such file or directory"):
        spec.main({"bundle": str(tmp_path / "no")}, [])
    with pytest.raises(errors.UsageError, match="NUL"):
        spec.main({"bundle": "a\0b"}, [])


def test_the_example_grants_only_what_a_shell_needs():
    """The example grants nothing that a shell does not need, and no capability set exceeds another."""
    process = example.config()["process"]
    sets = process["capabilities"]
    assert sets["effective"] == sets["permitted"] == sets["bounding"] == list(example.CAPABILITIES)
    assert process["noNewPrivileges"] is True


@pytest.mark.kernel
def test_runc_runs_it(tmp_path):
    """The same file, with another program, under runc."""
    runc = shutil.which("runc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    busybox = shutil.which("busybox")
    if not runc or not busybox:
        pytest.skip("this machine has no %s" % ("runc" if not runc else "busybox"))
    spec.main({"bundle": str(tmp_path)}, [])
    document = json.loads((tmp_path / "config.json").read_text())
    document["process"].update(terminal=False, args=["/bin/busybox", "true"])
    id = "spec%d" % os.getpid()
    document["linux"]["cgroupsPath"] = "/" + id  # not the state of another run at the same time
    (tmp_path / "config.json").write_text(json.dumps(harness.within_limits(document)))
    for name in ("bin", "proc", "dev", "sys"):
        (tmp_path / "rootfs" / name).mkdir(parents=True)
    shutil.copy(busybox, tmp_path / "rootfs/bin/busybox")
    command = [runc, "--root", str(tmp_path / "state"), "run", "-b", str(tmp_path), id]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, ""), done
