"""seccomp: the cache of compiled filters, raw programs of annotations, and the operation that loads a filter."""

import base64
import hashlib
import os
import socket

import pytest
from test_parts_seccomp import POINTER, allow, annotated, deny, plan

from fakes.hand import Run
from pyrunc.errors import Refusal, StepFailure, Unsupported
from pyrunc.linux import filters as f
from pyrunc.parts import seccomp
from pyrunc.parts.seccomp import cache, profile


class Compiler(Run):
    """A run whose helper counts its calls."""

    def __init__(self, root, nnp=False):
        super().__init__(plans={"capabilities": {"nnp": nnp}}, root=str(root))
        self.calls = 0

    def call_helper(self, name, payload):
        assert name == "seccomp"
        self.calls += 1
        self.payload = payload
        return {"bpf": f.pack([(6, 0, 0, f.ALLOW + self.calls)]).hex()}


@pytest.fixture
def run(tmp_path):
    return Compiler(tmp_path)


def files(run):
    return [os.path.join(run.root, name) for name in os.listdir(run.root)]


def test_a_filter_is_compiled_once(run):
    seccomp.host_compile(plan(deny()), run)
    first = run.seccomp_bpf
    seccomp.host_compile(plan(deny()), run)
    assert run.calls == 1 and run.seccomp_bpf == first
    seccomp.host_compile(plan(deny(defaultErrnoRet=2)), run)
    assert run.calls == 2, "a different profile"
    run.plans["capabilities"]["nnp"] = True
    seccomp.host_compile(plan(deny()), run)
    assert run.calls == 2 and run.payload["needs"] == ["execve"], "it does not matter where the filter is loaded"
    assert [os.stat(path).st_mode & 0o7777 for path in files(run)] == [0o600] * 2
    assert all(os.path.basename(path).startswith(".pyrunc@") for path in files(run)), (
        "other runtimes skip hidden files when they list containers"
    )


def damage(path, how):
    with open(path, "r+b") as file:
        data = file.read()
        if how == "cut":
            file.truncate(len(data) - 1)
        elif how == "empty":
            file.truncate(0)
        elif how == "program":
            file.seek(-1, os.SEEK_END)
            file.write(b"\xff")
        elif how == "rehashed":  # a correct checksum, but not for this name
            program = f.pack([(6, 0, 0, f.ALLOW)])
            file.truncate(0)
            file.seek(0)
            file.write(cache.MAGIC + hashlib.sha256(b"other" + program).digest() + program)
    if how == "mode":
        os.chmod(path, 0o620)
    elif how in ("fifo", "link", "directory"):
        os.unlink(path)
        {"fifo": os.mkfifo, "directory": os.mkdir, "link": lambda p: os.symlink("/etc/passwd", p)}[how](path)


@pytest.mark.parametrize("how", ["cut", "empty", "program", "rehashed", "mode", "fifo", "link", "directory"])
def test_a_damaged_file_is_never_used(run, how):
    seccomp.host_compile(plan(deny()), run)
    (path,) = files(run)
    damage(path, how)
    seccomp.host_compile(plan(deny()), run)
    assert run.calls == 2 and run.seccomp_bpf == f.pack([(6, 0, 0, f.ALLOW + 2)])
    if how != "directory":
        seccomp.host_compile(plan(deny()), run)
        assert run.calls == 2, "the damaged file has been replaced"
    assert len(files(run)) == 1, "no temporary file is left"


def test_a_file_under_another_name_is_not_that_filter(run):
    seccomp.host_compile(plan(deny()), run)
    (path,) = files(run)
    seccomp.host_compile(plan(allow()), run)
    (other,) = set(files(run)) - {path}
    os.rename(path, other)
    seccomp.host_compile(plan(allow()), run)
    assert run.calls == 3


def test_a_directory_that_others_can_write_is_not_used_as_cache(run):
    os.chmod(run.root, 0o777)
    seccomp.host_compile(plan(deny()), run)
    seccomp.host_compile(plan(deny()), run)
    assert run.calls == 2 and files(run) == []


def test_without_a_place_for_the_cache_each_create_compiles(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "seccomp", "/proc/nowhere/x", tmp_path / "file"):
        run = Compiler(place)
        seccomp.host_compile(plan(deny()), run)
        seccomp.host_compile(plan(deny()), run)
        assert run.calls == 2, place


def test_filters_of_an_unknown_library_are_not_cached(run, monkeypatch):
    monkeypatch.setattr(cache, "LIBRARY_DIRS", ("/nowhere",))
    seccomp.host_compile(plan(deny()), run)
    assert run.calls == 1 and files(run) == []


def test_the_size_of_the_cache_is_limited(run, monkeypatch):
    monkeypatch.setattr(cache, "FILES", 8)
    for i in range(1, 20):
        seccomp.host_compile(plan(deny(defaultErrnoRet=i)), run)
    assert 4 <= len(files(run)) <= 8


def test_making_room_leaves_everything_else(run, monkeypatch):
    monkeypatch.setattr(cache, "FILES", 1)
    os.mkdir(os.path.join(run.root, "container"))
    open(os.path.join(run.root, "somebody-elses-file"), "w").close()
    for i in range(1, 4):
        seccomp.host_compile(plan(deny(defaultErrnoRet=i)), run)
    assert {"container", "somebody-elses-file"} < set(os.listdir(run.root))


def test_invalid_programs_are_not_loaded(run, monkeypatch):
    for bad in (b"", b"1234567", b"12345678" * 4097):
        monkeypatch.setattr(run, "call_helper", lambda name, payload, bad=bad: {"bpf": bad.hex()})
        with pytest.raises(StepFailure):
            seccomp.host_compile(plan(deny()), run)


@pytest.mark.parametrize(
    ("nnp", "notify", "traced", "verb"),
    [
        (False, False, False, "op_early"), (False, True, False, "op_early"), (True, True, False, "op_notify"), (True, False, False, "op_late"),
        (False, False, True, "op_early"), (False, True, True, "op_early"), (True, True, True, "op_notify"), (True, False, True, "op_early"),
    ],
)  # fmt: skip
def test_each_filter_is_loaded_once_and_in_its_place(nnp, notify, traced, verb):
    run = Run(plans={"capabilities": {"nnp": nnp}}, seccomp_bpf=b"12345678", may_be_traced=traced)
    entry = {"flags": f.FLAG_LOG, "notify": notify}
    ops = {name: getattr(seccomp, name)(entry, run) for name in ("op_early", "op_notify", "op_late")}
    assert ops.pop(verb) == ("FILTER", b"12345678", f.FLAG_LOG | (f.FLAG_NEW_LISTENER if notify else 0))
    assert set(ops.values()) == {None}


def test_without_capabilities_no_new_privs_is_not_set():
    assert seccomp.op_early({"flags": 0, "notify": False}, Run(seccomp_bpf=b"12345678"))


def test_a_raw_program_replaces_the_profile(run):
    program = f.pack([(6, 0, 0, f.ALLOW)])
    entry = plan(deny(), annotated(RAW=base64.b64encode(program).decode()))
    seccomp.host_compile(entry, run)
    assert run.seccomp_bpf == program and run.calls == 0 and not entry["notify"]


@pytest.mark.parametrize("text", ["", "?", "AAAA", base64.b64encode(b"12345678" * 4097).decode()])
def test_invalid_raw_programs(text):
    with pytest.raises(Refusal) as caught:
        plan(deny(), annotated(RAW=text))
    assert caught.value.pointer == "/annotations/" + profile.RAW


def test_a_raw_program_that_notifies_needs_its_listener(tmp_path):
    text = base64.b64encode(f.pack([(6, 0, 0, f.NOTIFY)])).decode()
    with pytest.raises(Refusal) as caught:
        plan(deny(), annotated(RAW=text))
    assert caught.value.pointer == POINTER + "/listenerPath"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "s"))
    entry = plan(deny(), annotated(RAW=text, RECEIVER=str(tmp_path / "s")))
    sock.close()
    assert entry["notify"] and entry["listener"] == str(tmp_path / "s")


def test_plugins_are_not_loaded():
    with pytest.raises(Unsupported) as caught:
        plan(deny(), annotated(PLUGINS="/x.so"))
    assert caught.value.pointer == "/annotations/" + profile.PLUGINS
