"""Commands on one id at the same time: each ends with a known status and one line, and nothing is left after the last one."""

from __future__ import annotations

import os
import random
import threading
from typing import TYPE_CHECKING

import pytest

import harness

if TYPE_CHECKING:
    from harness import Bundle, Result, Runtime
    from hoststate import Traces
    from workshop import MakeBundle

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

BUG = ("Traceback", "internal error", "please report")
KNOWN = {0, 1, 2, 125, 126, 127, 137, 143, 255}  # exec also returns those of its program


def commands(bundle: Bundle, id: str, source: str) -> list[tuple[object, ...]]:
    return [
        ("create", "--bundle", bundle, id),
        ("create", "--bundle", bundle, id),
        ("start", id),
        ("start", id),
        ("run", "--detach", "--bundle", bundle, id),
        ("state", id),
        ("list", "--format", "json"),
        ("kill", id, "TERM"),
        ("kill", "--all", id, "KILL"),
        ("exec", id, "/bin/true"),
        ("exec", "--detach", id, "/bin/sleep", "1000"),
        ("exec", "--tty", id, "/bin/true"),
        ("pause", id),
        ("resume", id),
        ("resume", id),
        ("update", "--pids-limit", "50", id),
        ("update", "--device-add", "c 1:7 rw /dev/full2", id),
        ("mounts", "add", "--source", source, "--destination", "/given", id),
        ("mounts", "remove", id, "/given"),
        ("ps", id),
        ("diff", id),
        ("events", "--stats", id),
        ("delete", id),
        ("delete", "--force", id),
        ("delete", "--force", id),
    ]


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.long) for n in range(2, 12))])
@pytest.mark.bound(900)
def test_commands_at_once(pyrunc: Runtime, make_bundle: MakeBundle, no_leaks: Traces, tmp_path: object, seed: int) -> None:
    """Four callers that do not know about each other."""
    bundle, id, wrong = make_bundle(args=["/bin/sleep", "1000"]), pyrunc.new_id(), []
    (bundle.rootfs / "given").mkdir()
    done = dict.fromkeys(range(4), 0)

    def caller(number: int) -> None:
        draw = random.Random(seed * 100 + number)
        for _ in range(100):
            words = draw.choice(commands(bundle, id, str(tmp_path)))
            result = pyrunc.call(*words)
            done[number] += result.code == 0
            if not_well(result):
                wrong.append(result)

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pyrunc.call("resume", id)
    pyrunc.call("delete", "--force", id)
    assert not wrong, wrong
    assert all(done.values()), "at least one command of each caller has succeeded"
    assert not os.path.exists(os.path.join(pyrunc.root, id))


def not_well(result: Result) -> bool:
    return (
        result.code not in KNOWN
        or any(word in result.err for word in BUG)
        or (result.code not in (0, 255, 137, 143) and len(result.err.splitlines()) > 2)
    )


def test_the_check_of_results() -> None:
    bad = harness.Result(["x"], 1, "", "Traceback (most recent call last):\n")
    assert (
        not_well(bad) and not_well(harness.Result(["x"], -11, "", "")) and not not_well(harness.Result(["x"], 1, "", "create failed: no\n"))
    )
