"""Broken and hostile configs from the table in hostile.py: status 1, one line with the pointer, nothing left behind, no traceback.

The error must be immediate; no clock is read here, only the watchdog of the harness enforces that. Unusual input that callers really send
must work: ACCEPTED.
"""

import os
import socket

import pytest

import harness
import hostile
import hoststate


def refused(runtime, bundle, pointer, *words, command="create", limit=4096):
    """Checks what every refusal has to fulfil. Returns the error message."""
    log = bundle.path / "log"
    traces = hoststate.Traces(runtime.token, runtime.root)
    here = hoststate.Traces(os.path.basename(bundle.path) + "-", runtime.root)
    id = runtime.new_id()
    result = runtime.call(command, "--bundle", bundle, *words, id, globals=("--log", log, "--log-format", "json"))
    assert result.code == 1, result
    assert len(result.err.splitlines()) == 1, result
    assert pointer in result.err, result
    assert "Traceback" not in result.err and "internal error" not in result.err, result
    assert result.err.isprintable() or result.err.rstrip("\n").isprintable(), result
    assert len(result.err) < limit, result
    (record,) = harness.first_error(log)
    assert record["msg"] == result.err.rstrip("\n")
    left = traces.left() or here.left()
    assert not left, (result, left)
    return result.err


@pytest.mark.kernel
@pytest.mark.parametrize("name, changes, pointer", hostile.REFUSED, ids=[row[0] for row in hostile.REFUSED])
def test_refused(pyrunc, make_bundle, name, changes, pointer):
    changes = {k: v for k, v in changes.items()}
    bundle = make_bundle(drop_absent(changes))
    sentence = refused(pyrunc, bundle, pointer)
    assert sentence.startswith("create failed: ")


def drop_absent(changes):
    """ABSENT inside a value: the key is removed."""

    def clean(value):
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items() if v is not harness.ABSENT}
        return [clean(v) for v in value] if isinstance(value, list) else value

    return {k: v if v is harness.ABSENT else clean(v) for k, v in changes.items()}


@pytest.mark.kernel
@pytest.mark.parametrize("name, changes", hostile.ACCEPTED, ids=[row[0] for row in hostile.ACCEPTED])
def test_accepted(pyrunc, make_bundle, name, changes, no_leaks):
    result = pyrunc.run(make_bundle(changes))
    assert (result.code, result.err) == (0, ""), result


@pytest.mark.parametrize("name, data, pointer", hostile.BYTES, ids=[row[0] for row in hostile.BYTES])
def test_documents(pyrunc, make_bundle, name, data, pointer):
    bundle = make_bundle()
    (bundle.path / "config.json").write_bytes(data)
    refused(pyrunc, bundle, pointer)


def test_truncated_documents(pyrunc, make_bundle):
    """A truncated config is never used in part. This tests forty lengths; the unit tests cover all of them."""
    bundle = make_bundle()
    for end in range(0, len(hostile.GOOD) - 1, len(hostile.GOOD) // 40):
        (bundle.path / "config.json").write_bytes(hostile.GOOD[:end])
        result = pyrunc.call("create", "--bundle", bundle, pyrunc.new_id())
        assert result.code == 1 and len(result.err.splitlines()) == 1 and "Traceback" not in result.err, result
    assert hoststate.state_dirs(pyrunc.root) == set()


@pytest.mark.parametrize("kind", ["fifo", "directory", "socket", "loop", "device", "missing", "unreadable sparse"])
def test_config_that_is_not_a_file(pyrunc, make_bundle, kind):
    bundle = make_bundle()
    path = bundle.path / "config.json"
    path.unlink()
    sock = None
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
    elif kind == "loop":
        path.symlink_to("config.json")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "unreadable sparse":
        with open(path, "wb") as file:
            file.truncate(4 << 30)
    refused(pyrunc, bundle, "config.json")
    if sock:
        sock.close()


@pytest.mark.kernel
def test_large_config_that_is_allowed(pyrunc, make_bundle):
    """Just below the limit of 16 MiB."""
    result = pyrunc.run(make_bundle({"/annotations": {"a": "x" * 15_000_000}}))
    assert (result.code, result.err) == (0, "")


@pytest.mark.kernel
@pytest.mark.parametrize("target", ["/tmp", "file", "dangling", "host"])
@pytest.mark.parametrize("place", ["proc", "sys"])
def test_proc_and_sys_must_be_directories(pyrunc, make_bundle, place, target, tmp_path):
    """CVE-2019-19921 and its variants: a link in place of /proc would redirect masks and labels to a decoy."""
    bundle = make_bundle()
    path = bundle.rootfs / place
    path.rmdir()
    (tmp_path / "victim").mkdir()
    if target == "file":
        path.write_text("")
    else:
        path.symlink_to({"/tmp": "/tmp", "dangling": "/no/such", "host": str(tmp_path / "victim")}[target])
    before = hoststate.snapshot(tmp_path)
    refused(pyrunc, bundle, "/mounts/%d" % {"proc": 0, "sys": 4}[place])
    assert hoststate.snapshot(tmp_path) == before


def test_rootfs_of_links(pyrunc, make_bundle, tmp_path):
    """Every path of a mount point or a node is a link to the host: it is refused or created inside, and the host is unchanged."""
    victim = tmp_path / "victim"
    (victim / "dev").mkdir(parents=True)
    (victim / "dev/ptmx").write_text("mine")
    before = hoststate.snapshot(tmp_path)
    for links in (["dev"], ["mnt"], ["etc/resolv.conf"], ["tmp"], ["home"]):
        bundle = make_bundle(
            {
                "/mounts": [m for m in harness.BASE["mounts"] if not (links == ["dev"] and m["destination"].startswith("/dev"))]
                + [
                    {"destination": "/etc/resolv.conf", "type": "bind", "source": "/etc/hostname", "options": ["bind", "ro"]},
                    {"destination": "/mnt/x/y", "type": "tmpfs", "source": "tmpfs"},
                    {"destination": "/tmp/deep", "type": "bind", "source": "/etc", "options": ["bind", "ro"]},
                ],
                "/process/cwd": "/home/made",
            }
        )
        for link in links:
            path = bundle.rootfs / link
            if path.is_dir():
                import shutil

                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
            path.symlink_to(victim / link if link != "dev" else victim / "dev")
        result = pyrunc.run(bundle)
        assert result.code in (0, 1) and "Traceback" not in result.err, result
        assert hoststate.snapshot(tmp_path) == before, links


@pytest.mark.kernel
@pytest.mark.parametrize("shape", ["link", "file", "fifo", "zero", "missing"])
def test_dev_null_of_the_image_is_not_trusted(pyrunc, make_bundle, shape):
    """CVE-2025-31133: without a mount on /dev, /dev/null comes from the image. A masked file never shows its contents."""
    import stat

    bundle = make_bundle(
        {
            "/mounts": [m for m in harness.BASE["mounts"] if not m["destination"].startswith("/dev")],
            "/linux/maskedPaths": ["/secret"],
        },
        args=["/bin/sh", "-c", "cat /secret; echo stolen > /secret; true"],
    )
    (bundle.rootfs / "secret").write_text("secret")
    (bundle.rootfs / "marker").write_text("marker")
    null = bundle.rootfs / "dev/null"
    if shape == "link":
        null.symlink_to("/marker")
    elif shape == "file":
        null.write_text("")
    elif shape == "fifo":
        os.mkfifo(null)
    elif shape == "zero":
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    result = pyrunc.run(bundle)
    assert "secret" not in result.out and "marker" not in result.out
    assert (bundle.rootfs / "secret").read_text() == "secret"
    assert (bundle.rootfs / "marker").read_text() == "marker"
    assert shape == "missing" or result.code == 1, result


def test_output_is_not_redirected_by_dev_null(pyrunc, make_bundle):
    """CVE-2026-88265: the output of the container goes to the caller, whatever /dev/null in the image is."""
    bundle = make_bundle(
        {"/mounts": [m for m in harness.BASE["mounts"] if not m["destination"].startswith("/dev")]}, args=["/bin/echo", "mine"]
    )
    (bundle.rootfs / "marker").write_text("")
    (bundle.rootfs / "dev/null").symlink_to("/marker")
    result = pyrunc.run(bundle)
    assert (bundle.rootfs / "marker").read_text() == ""
    assert result.code == 1 or result.out == "mine\n"


@pytest.mark.parametrize("program", ["/proc/self/exe", "/link", "/script"])
def test_program_that_is_the_runtime(pyrunc, make_bundle, program):
    """CVE-2019-5736: the container makes the runtime execute its own interpreter. It gets nothing that it can write to."""
    import hashlib

    bundle = make_bundle(args=[program])
    (bundle.rootfs / "link").symlink_to("/proc/self/exe")
    (bundle.rootfs / "script").write_text("#!/proc/self/exe\n")
    (bundle.rootfs / "script").chmod(0o755)
    real = os.path.realpath("/usr/bin/python3")
    before = hashlib.sha256(open(real, "rb").read()).digest()
    result = pyrunc.call("run", "--bundle", bundle, pyrunc.new_id())
    assert "Traceback" not in result.err
    assert hashlib.sha256(open(real, "rb").read()).digest() == before


@pytest.mark.kernel
def test_long_values_are_cut(pyrunc, make_bundle):
    sentence = refused(pyrunc, make_bundle({"/hostname": "h" * 100_000}), "/hostname")
    assert len(sentence) < 1000


@pytest.mark.kernel
def test_output_of_a_hook_is_cut(pyrunc, make_bundle):
    """A hook that fails after writing fifty megabytes does not cause a line of that length."""
    script = "yes error | head -c 50000000 >&2; exit 3"
    bundle = make_bundle({"/hooks": {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]}})
    refused(pyrunc, bundle, "/hooks/createRuntime/0", limit=8192)


@pytest.mark.parametrize("value", ["fifo", "directory", "missing/x"])
def test_bad_pid_files(pyrunc, make_bundle, value, tmp_path):
    path = tmp_path / value
    if value == "fifo":
        os.mkfifo(path)
        result = pyrunc.call("create", "--bundle", make_bundle(), "--pid-file", path, pyrunc.new_id())
        assert result.code in (0, 1)  # replaced atomically with a file, or refused; create never waits for it
        return
    if value == "directory":
        path.mkdir()
    refused(pyrunc, make_bundle(), "", "--pid-file", path)


@pytest.mark.kernel
def test_validate_gives_all_errors_at_once(pyrunc, make_bundle):
    bundle = make_bundle({"/process/cwd": "relative", "/hostname": "h" * 65, "/linux/maskedPaths": ["x"]})
    result = pyrunc.call("validate", "--bundle", bundle)
    assert result.code == 1
    for pointer in ("/process/cwd", "/hostname", "/linux/maskedPaths/0"):
        assert pointer in result.out + result.err


@pytest.mark.parametrize("word", ["good", "bad"])
def test_examples_of_the_specification(pyrunc, word):
    """The files of the schema tests in runtime-spec."""
    folder = harness.ROOT / "tests/vectors/config" / word
    assert folder.is_dir()
    for path in sorted(folder.glob("*.json")):
        result = pyrunc.call("validate", "--schema-only", "--config", path)
        assert (result.code == 0) is (word == "good"), (path, result)


UNSEEN = "\x9b31m \u202egnp\u2066 \u200b\ufeff \x7f \u2028"


@pytest.mark.kernel
def test_no_control_characters_reach_a_terminal(pyrunc, make_bundle, tmp_path):
    """C1 controls, direction overrides and zero-width characters in annotations, values and the path of the bundle. Visible characters stay."""
    bundle = make_bundle({"/annotations": {"org.example.a": "日本" + UNSEEN}, "/hostname": "h"}, args=harness.WAIT_FOR_TERM)
    odd = tmp_path / ("odd " + UNSEEN)
    odd.symlink_to(bundle.path)
    id = pyrunc.new_id()
    assert pyrunc.call("create", "--bundle", odd, id).code == 0
    shown = {
        words: pyrunc.call(*words)
        for words in (
            ("state", id), ("list",), ("list", "--format", "json"), ("plan", "--bundle", odd, id + "x"),
            ("plan", "--format", "json", "--bundle", odd, id + "x"), ("validate", "--bundle", odd), ("state", id + UNSEEN),
            ("create", "--bundle", str(odd) + UNSEEN, id + "y"), ("diff", id),
        )
    }  # fmt: skip
    for words, result in shown.items():
        bad = [char for char in result.out + result.err if not char.isprintable() and char not in "\n\t"]
        assert not bad, (words, bad, result)
    state = pyrunc.state(id)
    assert state["annotations"] == {"org.example.a": "日本" + UNSEEN} and state["bundle"].startswith("/")
    assert "h" in shown[("list",)].out and id in shown[("list",)].out
