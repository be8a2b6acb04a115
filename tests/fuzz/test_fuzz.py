"""load, validate and plan with generated configs, and all targets with the corpus: each ends with one of our errors or none, within the limits
on time and memory.

Inputs that guided.py (`make fuzz`) finds are kept in corpus/TARGET and replayed here.
"""

import gc
import json
import os
import pathlib
import signal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import configs
import harness
import many
import targets

CORPUS = harness.ROOT / "tests/fuzz/corpus"
SECONDS = 20 if "QEMU TCG" in pathlib.Path("/proc/cpuinfo").read_text() else 1  # an emulated processor is slow
HANG = 30
MIB = 200
SETTINGS: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "derandomize": True}
LONG = {**SETTINGS, "derandomize": False}


class Slow(BaseException):
    """Not an Exception, so that no handler on the way mistakes it for another error."""


@pytest.fixture(autouse=True)
def bounded(record_property):
    """counted(data, run): calls run(data), which may take SECONDS of processor time, HANG of wall clock time, and MIB more memory than before.
    The number of calls is reported. Garbage of earlier examples is collected outside, because it belongs to Hypothesis and takes time."""
    late = []

    def expired(number, _frame):
        late.append("an input took longer than %d s" % (SECONDS if number == signal.SIGPROF else HANG))
        raise Slow(late[-1])

    before = [(number, signal.signal(number, expired)) for number in (signal.SIGPROF, signal.SIGALRM)]
    calls = [0]

    def counted(data, run):
        calls[0] += 1
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # resets the peak
        at = memory("VmRSS")
        gc.disable()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, HANG)
        try:
            run(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            gc.enable()
        assert not late  # an exception raised in a destructor is lost
        assert memory("VmHWM") - at < MIB << 10, "it used too much memory (in KiB)"

    yield counted
    for number, handler in before:
        signal.signal(number, handler)
    if calls[0]:
        record_property("examples", calls[0])


def memory(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


def test_configs_that_fit_the_schema(bounded):
    @settings(max_examples=250, **SETTINGS)
    @given(configs.fitting())
    def check(config):
        bounded(configs.document(config), targets.TARGETS["loader"])

    check()


def test_configs_that_do_not(bounded):
    @settings(max_examples=400, **SETTINGS)
    @given(configs.mutated())
    def check(config):
        bounded(configs.document(config), targets.TARGETS["loader"])

    check()


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["fitting", "mutated"])
def test_many_configs(bounded, strategy):
    @settings(max_examples=20_000, **LONG)
    @given(getattr(configs, strategy)())
    def check(config):
        bounded(configs.document(config), targets.TARGETS["loader"])

    check()


@pytest.mark.parametrize("count", [3_000, pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.bound(4 * 3600)])])
def test_random_configs(record_property, count):
    """From a generator that leaves nearly all of the time to the code under test."""
    tried = many.run(count, seed=1 if count < 10_000 else 20261201)
    assert tried == count
    record_property("examples", tried)


def test_random_configs_are_good_and_bad():
    """Of the generated configs, neither nearly all nor nearly none reach the plans."""
    maker, valid = many.Maker(1), 0
    for _ in range(500):
        try:
            document = many.targets.normalise.config(many.targets.load.parse(configs.document(maker.config()), "config.json"))
        except many.targets.errors.PyruncError:
            continue
        valid += not many.targets.validate.check(document)
    assert 100 < valid < 400


def test_a_hang_of_a_random_config_is_a_failure(monkeypatch):
    def hangs(_data):
        while True:
            pass

    monkeypatch.setitem(targets.TARGETS, "loader", hangs)
    monkeypatch.setattr(many, "SECONDS", 0.1)
    with pytest.raises(many.Hang) as e:
        many.run(1, seed=1)
    assert "config 0 of seed 1: {" in e.value.__notes__[0]


@pytest.mark.parametrize("name", targets.TARGETS)
def test_bytes(bounded, name):
    @settings(max_examples=100, **SETTINGS)
    @given(st.binary(max_size=300))
    def check(data):
        bounded(data, targets.TARGETS[name])

    check()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_corpus(bounded, name):
    """Each saved input, and each one truncated."""
    files = sorted((CORPUS / name).iterdir())
    assert files, "no corpus for %s: `make fuzz` makes one" % name
    for path in files:
        data = path.read_bytes()
        bounded(data, targets.TARGETS[name])
        bounded(data[: len(data) // 2], targets.TARGETS[name])


def test_every_beginning_of_a_state(bounded):
    state = {
        "version": 1, "id": "c1", "bundle": "/b", "rootfs": "/b/r", "created": "2024-01-01T00:00:00Z", "status": "created", "pid": 2,
        "start_time": 1, "annotations": {}, "boot_id": "x", "cgroup_paths": {"": "/x"},
    }  # fmt: skip
    text = json.dumps(state).encode()
    for end in range(len(text) + 1):
        bounded(text[:end], targets.TARGETS["state"])
        bounded(text + b"\n" + text[:end] + b"\n", targets.TARGETS["state"])


def test_every_value_of_a_state(bounded):
    """A state in which one value has another type or is another number."""
    good = {"version": 1, "id": "c1", "bundle": "/b", "rootfs": "/b/r", "created": "x", "status": "created", "pid": 2, "start_time": 1,
            "annotations": {}, "boot_id": "x"}  # fmt: skip
    for key in good:
        for value in [None, True, 0, -1, 1, 2**64, 10**19, "", "x", [], {}, os.getpid()]:
            bounded(json.dumps({**good, key: value}).encode(), targets.TARGETS["state"])
