"""The preflight check of a runtime: whether it can run a plain container, its name, and the specification that it declares.

Rule: it is the only place that asks for --version and for the features document; both may be missing.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from oci_conformance.case import Stop
from oci_conformance.requirements import numbers

if TYPE_CHECKING:
    from oci_conformance.shapes import Identity
    from oci_conformance.trial import Trial


SHORT = 10  # seconds for each call, unless fewer were requested: a runtime that hangs here hangs everywhere


def preflight(t: Trial) -> Identity:
    """A plain container can be created, started, queried and deleted."""
    short = t.runtime.seconds = min(SHORT, t.runtime.seconds)  # only here: this is a separate process
    found = identity(t)
    made = t.container(None, "say here", "self")
    done = made.try_create()
    t.need(not done.hung, "create does not return within %g seconds, or produces too much output" % short)
    t.need(done.code == 0, "create fails (%s)" % done.how, None, done.err[-300:] or None)
    state = made.try_state()
    t.need(
        state, "no container after create: state prints no JSON object", None, made.last.out[-100:] or made.last.err[-200:] or made.last.how
    )
    t.need(made.watch(), "no process after create: state has no pid of a living process", None, state.get("pid"))
    done = made.try_start()
    t.need(done.code == 0, "start fails (%s)" % done.how, None, done.err[-300:] or None)
    t.need(made.ended(short), "the program does not end")
    lines = made.lines()
    t.need([line["op"] for line in lines] == ["say", "self"], "the program's output is missing", None, lines or made.create_call.err[-300:])
    t.check(made.try_delete().code == 0, "delete of a stopped container (%s)" % made.last.how)
    if found.get("declares") is None:
        found["declares"] = numbers(state.get("ociVersion"))
    return found


def identity(t: Trial) -> Identity:
    """{"name", "version", "features", "declares"}, as far as they could be determined."""
    found: Identity = {}
    done = t.call("--version", root=None)
    if done.hung:
        raise Stop("--version does not return within %g seconds" % t.runtime.seconds)
    match = re.match(r"(\S+) version (\S+)", done.out) if done.code == 0 else None
    if match:
        found["name"], found["version"] = match[1], match[2]
    done = t.call("features", root=None)
    try:
        document = json.loads(done.out) if done.code == 0 else None
    except ValueError:
        document = None
    if isinstance(document, dict) and "ociVersionMax" in document:
        found["features"] = document
        found["declares"] = numbers(document["ociVersionMax"])
    return found
