"""The functions that are fuzzed; each takes bytes. They return None or raise one of the project's own errors; any other exception is a crash.

test_fuzz.py calls them with configs generated from the schema and with the corpus, guided.py with inputs that reach new code. A target
creates no container and only changes a directory of its own.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import tempfile
from typing import TYPE_CHECKING

import harness
from pyrunc import errors, fileio, jsonio, store
from pyrunc.engine import criu_external, criu_images, handshake, planner, steps
from pyrunc.engine.order import CREATE
from pyrunc.linux import filters
from pyrunc.oci import accounts, load, normalise, validate
from pyrunc.parts import landlock, program
from pyrunc.parts.mounts import options as mount_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Json


OPTIONS = {"command": "plan", "detach": False}
TARGETS: dict[str, Callable[[bytes], object]] = {}
PLANS = {
    "program": {"args": ["/bin/x"], "cwd": "/", "path": None},
    "user": {"uid": 0, "gid": 0, "groups": []},
}  # context for errors from init


def target(function: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """May raise PyruncError but not Bug, which reports a defect of pyrunc."""

    @functools.wraps(function)
    def run(data: bytes) -> None:
        try:
            function(data)
        except errors.Bug:
            raise
        except errors.PyruncError as e:
            sentence = e.sentence()
            assert sentence and "\n" not in sentence and len(sentence) < 8192, sentence[:300]

    TARGETS[function.__name__] = run
    return run


@functools.cache
def bundle() -> str:
    """A bundle directory with an empty root, for this process; removed when the process exits."""
    kept.append(tempfile.TemporaryDirectory(prefix="fuzz"))
    path = pathlib.Path(kept[-1].name)
    (path / "rootfs").mkdir()
    return str(path)


kept: list[tempfile.TemporaryDirectory[str]] = []


def examined(document: Json, only: Json = None) -> Json:
    """Runs the steps of `validate` and `plan` for a document that could be parsed."""
    config = normalise.config(document)
    problems = validate.check(config)
    for pointer, words, *_rest in problems:
        assert pointer.startswith("/") or pointer == "", pointer
        assert words and "\n" not in words
    if problems or type(config) is not dict:
        return
    here = os.getcwd()
    os.chdir(bundle())
    try:
        context = planner.Context("fuzz", bundle(), config, OPTIONS)
        if only is not None:
            planner.plan(config, context, only)
            return
        plans, refusals, warnings = planner.plan_all(config, context)
        for refusal in refusals:
            assert not isinstance(refusal, errors.Bug)
            assert "\n" not in refusal.sentence() and len(refusal.sentence()) < 8192
        assert json.loads(jsonio.dumps(plans)) is not None and all("\n" not in text for _, text in warnings)
    finally:
        os.chdir(here)


@target
def loader(data: bytes) -> None:
    """config.json, from its bytes to the plans."""
    examined(load.parse(data, "config.json"))


@target
def process(data: bytes) -> None:
    """process.json of exec, in a container of the base config."""
    document = normalise.process(load.parse(data, "process.json"))
    if not validate.check(document, "process"):
        examined({**harness.patch(harness.BASE, {}), "process": document})


@target
def seccomp(data: bytes) -> None:
    """The profile as JSON, and the bytes as a filter found in the cache."""
    filters.plausible(data)
    document = load.parse(data, "seccomp")
    examined(harness.patch(harness.BASE, {"/linux/seccomp": document}), ("meta", "namespaces", "capabilities", "seccomp"))


@target
def options(data: bytes) -> None:
    """Mount options, separated by NUL; the first three pieces are destination, type and source."""
    words = [fileio.fsdecode(word) for word in data.split(b"\0")]
    mount_options.parse(words[3:])
    entry = {"destination": words[0], "options": words[3:]}
    entry.update({key: word for key, word in zip(("type", "source"), words[1:3], strict=False) if word})
    text = json.dumps(harness.patch(harness.BASE, {"/mounts": [entry]})).encode("utf-8", "surrogateescape")
    examined(load.parse(text, "config.json"))


@target
def handshake_messages(data: bytes) -> None:
    """A packet from the peer that contains a failure record."""
    ours, theirs = handshake.pair()
    try:
        theirs.sock.send(data[:60000] or b"\0")
        try:
            kind, body, fds = ours.receive()
        except errors.Bug:
            return  # Bug is raised for a packet that the peer never sends
        assert not fds
        if kind == handshake.C_FAIL:
            raise steps.tail_failure(body, PLANS, CREATE)
    finally:
        ours.close()
        theirs.close()


@target
def state(data: bytes) -> None:
    """state.json, config.json and plan.json in the directory of a container, with arbitrary contents."""
    with tempfile.TemporaryDirectory(prefix="state") as root:
        folder = os.path.join(root, "c1")
        os.mkdir(folder, 0o700)
        for name in ("state.json", "config.json", "plan.json"):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
        state_dir = store.open_state_dir(root, "c1")
        try:
            for read in (state_dir.config, state_dir.plan, functools.partial(state_dir.note, "saved"), state_dir.load):
                try:
                    read()
                except errors.Bug:
                    raise
                except errors.PyruncError as e:
                    assert "\n" not in e.sentence()
        finally:
            state_dir.close()


@target
def passwd(data: bytes) -> None:
    """/etc/passwd of the image, in which the home directory of a user is looked up."""
    with tempfile.TemporaryDirectory(prefix="passwd") as root:
        os.mkdir(os.path.join(root, "etc"))
        with open(os.path.join(root, "etc/passwd"), "wb") as file:
            file.write(data)
        fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
        try:
            home = program.home_of(fd, 1000, lambda node, flags: os.open("/proc/self/fd/%d" % node, flags))
            assert home[:1] == "/" and "\0" not in home and "\n" not in home
        finally:
            os.close(fd)


@target
def user_option(data: bytes) -> None:
    """--user of exec; names are looked up on this machine."""
    found = accounts.chosen(fileio.fsdecode(data), lambda: os.open("/", os.O_PATH))
    for number in (found[key] for key in ("uid", "gid") if key in found):
        assert isinstance(number, int) and 0 <= number < 2**32 - 1
    assert found.get("uid") != 0 or data.partition(b":")[0] in (b"0", b"root")


IMAGES = ("pstree.img", "mm-1.img", "pagemap-1.img", "pagemap-shmem-1.img", "pages-1.img", "descriptors.json")


@target
def images(data: bytes) -> None:
    """The directory of a checkpoint, as far as it is checked before CRIU gets it. A certain word separates the files."""
    with tempfile.TemporaryDirectory(prefix="images") as folder:
        for name, body in zip(IMAGES, data.split(b"|next|"), strict=False):
            pathlib.Path(folder, name).write_bytes(body)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for look in (lambda: criu_images.check(fd, folder), lambda: criu_external.restored_streams(fd)):
                try:
                    look()
                except errors.StepFailure as e:
                    assert "\n" not in e.sentence()
        finally:
            os.close(fd)


@target
def landlock_annotation(data: bytes) -> None:
    text = fileio.fsdecode(data)
    landlock.plan({landlock.POINTER: text}, planner.Context("fuzz", "/", {}, OPTIONS))
