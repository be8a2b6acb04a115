"""parts/landlock: the document in the annotation, rejected values, and the position of its operation in the tail."""

import json
from types import SimpleNamespace

import pytest

from fakes.hand import Ctx, Run
from pyrunc.errors import Refusal, Unsupported
from pyrunc.parts import landlock

KEY = landlock.POINTER
GOOD = {
    "ruleset": {"handledAccessFs": 13, "handledAccessNet": 3, "scoped": 3},
    "rules": {
        "pathBeneath": [{"allowedAccess": 5, "paths": ["/bin", "/lib"]}],
        "netPort": [{"allowedAccess": 2, "ports": [443, 0, 65535]}],
    },
}


def ctx(version=7):
    return Ctx(probe=SimpleNamespace(landlock=lambda: version))


def plan(document, version=7):
    text = document if isinstance(document, str) else json.dumps(document)
    return landlock.plan({KEY: text}, ctx(version))


def test_a_document():
    at = KEY + "/rules/"
    assert plan(GOOD) == {
        "attr": [13, 3, 3],
        "paths": [["/bin", 5, at + "pathBeneath/0/paths/0"], ["/lib", 5, at + "pathBeneath/0/paths/1"]],
        "ports": [[443, 2, at + "netPort/0/ports/0"], [0, 2, at + "netPort/0/ports/1"], [65535, 2, at + "netPort/0/ports/2"]],
    }


def test_rules_may_be_missing():
    assert plan({"ruleset": {"handledAccessFs": 1}}) == {"attr": [1, 0, 0], "paths": [], "ports": []}


BAD = [
    ("", ""), ("[]", ""), ("{", ""), ('{"ruleset": {}, "ruleset": {}}', ""), ("null", ""), ({"rules": {}}, "/ruleset"),
    ({"ruleset": {}}, "/ruleset"), ({"ruleset": {"handledAccessFs": 0}}, "/ruleset"), ({"ruleset": {"handledAccessFS": 1}}, "/ruleset"),
    ({"ruleset": {"handledAccessFs": True}}, "/ruleset/handledAccessFs"), ({"ruleset": {"handledAccessFs": "1"}}, "/ruleset/handledAccessFs"),
    ({"ruleset": {"handledAccessFs": -1}}, "/ruleset/handledAccessFs"), ({"ruleset": {"handledAccessFs": 2**64}}, "/ruleset/handledAccessFs"),
    ({**GOOD, "more": 1}, ""), ({**GOOD, "rules": []}, "/rules"), ({**GOOD, "rules": {"path": []}}, "/rules"),
    ({**GOOD, "rules": {"pathBeneath": {}}}, "/rules/pathBeneath"), ({**GOOD, "rules": {"pathBeneath": [1]}}, "/rules/pathBeneath/0"),
]  # fmt: skip
RULES = [
    ({"allowedAccess": 5, "paths": "/bin"}, "paths"), ({"allowedAccess": 5, "paths": ["bin"]}, "paths/0"),
    ({"allowedAccess": 5, "paths": ["/bin", "/../x"]}, "paths/1"), ({"allowedAccess": 5, "paths": ["/a\0b"]}, "paths/0"),
    ({"allowedAccess": 5, "paths": [7]}, "paths/0"), ({"allowedAccess": 0, "paths": ["/"]}, "allowedAccess"),
    ({"allowedAccess": 2, "paths": ["/"]}, "allowedAccess"), ({"paths": ["/"]}, "allowedAccess"), ({"allowedAccess": 5}, "paths"),
    ({"allowedAccess": 5, "path": "/"}, ""),
]  # fmt: skip


@pytest.mark.parametrize("document, pointer", BAD)
def test_refused(document, pointer):
    with pytest.raises(Refusal) as caught:
        plan(document)
    assert caught.value.pointer == KEY + pointer


@pytest.mark.parametrize("rule, pointer", RULES)
def test_refused_rules(rule, pointer):
    with pytest.raises(Refusal) as caught:
        plan({**GOOD, "rules": {"pathBeneath": [rule]}})
    assert caught.value.pointer == (KEY + "/rules/pathBeneath/0/" + pointer).rstrip("/")


@pytest.mark.parametrize("port", [-1, 65536, "443", True, 1.5])
def test_refused_ports(port):
    with pytest.raises(Refusal):
        plan({**GOOD, "rules": {"netPort": [{"allowedAccess": 2, "ports": [port]}]}})


@pytest.mark.parametrize(
    "ruleset, version, words",
    [
        ({"handledAccessFs": 1}, 0, "Landlock is not available"),
        ({"handledAccessFs": 1 << 13}, 1, "bit 13 is not in version 1"),
        ({"handledAccessFs": 1 << 14}, 2, "bit 14 is not in version 2"),
        ({"handledAccessFs": 1 << 15}, 4, "bit 15 is not in version 4"),
        ({"handledAccessFs": 1 << 16}, 7, "bit 16 is not in version 7"),
        ({"handledAccessNet": 1}, 3, "bit 0 is not in version 3"),
        ({"handledAccessNet": 4}, 7, "bit 2 is not in version 7"),
        ({"scoped": 1}, 5, "bit 0 is not in version 5"),
    ],
)
def test_the_kernel_is_asked(ruleset, version, words):
    with pytest.raises(Unsupported) as caught:
        plan({"ruleset": ruleset}, version)
    assert words in caught.value.words and caught.value.pointer.startswith(KEY)


def test_rights_of_newer_kernels_are_passed_on():
    assert plan({"ruleset": {"handledAccessFs": 1 << 20}}, 12)["attr"] == [1 << 20, 0, 0]


@pytest.mark.parametrize("nnp", [False, True])
def test_one_operation_in_its_place(nnp):
    run = Run(plans={"capabilities": {"nnp": nnp}})
    run.fds["landlock"] = 9
    ops = (landlock.op_early({}, run), landlock.op_late({}, run))
    assert ops == ((None, ("LANDLOCK", 9, 0)) if nnp else (("LANDLOCK", 9, 0), None))
