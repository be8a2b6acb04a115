"""The fast validator and jsonschema agree on every document, pointer by pointer; and the table is up to date with the schemas.

jsonschema is the authority. Both check the normalised document. Inputs: the vectors of the specification, every leaf of the schema with
every kind of value, and thousands of documents with several errors at once, from fixed seeds.
"""

import copy
import importlib.util
import json
import random

import pytest

import harness
from pyrunc import errors, jsonio
from pyrunc.linux import _syscalls
from pyrunc.oci import example, explain, normalise, schema_table, validate

ROOT = harness.ROOT
VECTORS = sorted((ROOT / "tests/vectors").glob("*/*/*.json"))
VALUES = (
    None, True, False, 0, 1, -1, 5, 511, 512, 4095, 65535, 65536, (1 << 31) - 1, 1 << 31, -(1 << 31) - 1, (1 << 32) - 1, 1 << 32,
    (1 << 63) - 1, 1 << 63, -(1 << 63), -(1 << 63) - 1, (1 << 64) - 1, 1 << 64, 10**20 - 1, -(10**20) + 1,
    "", "x", "0", "1000", "true", "RLIMIT_NOFILE", "RLIMIT_", "RLIMIT_nofile", "RLIMIT_NOFILE\n", "c", "cb", "q", "c\n", "0-3,8", "0-3\n",
    "2MB", "0MB", "12GB", "2MB ", "12", "MB:0=10", "MB:\n", "MB:", "mb:", "CAP_CHOWN", "CAP_", "cap_chown", "SCMP_ACT_ERRNO",
    "SCMP_ARCH_X86", "mount", "private", "LINUX", "é\U0001f600", "\udc80",
    [], {}, [1], ["x"], [None], [[]], [{}], {"x": 1}, {"": 1}, {"x": "y"}, {"path": 1},
)  # fmt: skip


def derive():
    spec = importlib.util.spec_from_file_location("derive", ROOT / "specs/derive.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def places(document, what):
    """The pointers that each of the two validators reports."""
    fast = {pointer for pointer, *_ in validate.check(document, what, all=True)}
    slow = {problem["pointer"] for problem in explain.problems(document, what)}
    return fast, slow


def is_normal(document, what):
    """Whether the Python code would change and refuse nothing."""
    copied = copy.deepcopy(document)
    try:
        normalise._object(copied, schema_table.ROOTS[what], None)
    except errors.Refusal:
        return False
    return copied == document


def is_odd(value, rule):
    """Whether something in it may count as absent, or has a name that the table does not list, which may be one in the wrong case."""
    if value is None or value == []:
        return True
    if isinstance(value, list):
        return rule[0] == "a" and any(is_odd(item, rule[1]) for item in value)
    if not isinstance(value, dict) or rule[0] != "o":
        return False
    _, _, properties, rest = rule
    if rest is None and properties and not properties.keys() >= value.keys():
        return True
    return any(is_odd(item, properties.get(key) or rest) for key, item in value.items() if properties.get(key) or rest)


def first_look(document, what):
    """What csrc/schema.c says; if that is "yes", the Python code must find nothing."""
    if not _syscalls.conforms(document, schema_table.ROOTS[what]):
        return False
    found = []
    validate._object(document, schema_table.ROOTS[what], None, found, validate.MOST)
    assert found == [] and is_normal(document, what), json.dumps(document)[:2000]
    return True


def agree(document, what="config"):
    """Normalises and compares; returns whether the document is valid, or None if the normalisation refused it."""
    try:
        document = normalise.config(document) if what == "config" else normalise.part(document, what)
    except errors.Refusal:
        return None
    fast, slow = places(document, what)
    assert fast == slow, json.dumps(document)[:2000]
    if not first_look(document, what):  # then there must be a reason to look closer
        assert slow or not is_normal(document, what) or is_odd(document, schema_table.ROOTS[what]), json.dumps(document)[:2000]
    assert bool(validate.check(document, what)) == bool(slow)  # stopping at the first problem gives the same answer
    return not slow


def test_table_is_up_to_date():
    module = derive()
    assert module.table() == module.TARGET.read_text(), "run specs/derive.py"


def test_schemas_are_verbatim_and_whole():
    """Each schema file in use is one of specs/, and each of specs/ is in use."""
    names = {p.name for p in (ROOT / "specs").glob("*.json")}
    assert names == explain._NAMES
    for name in names:
        json.loads((ROOT / "specs" / name).read_text())


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: "/".join(p.parts[-3:]))
def test_vectors_of_the_specification(path):
    """All good ones are valid and no bad one is, according to jsonschema on the unchanged file; and the fast validator agrees."""
    what, verdict = path.parts[-3], path.parts[-2]
    try:
        document = jsonio.loads(path.read_bytes(), path.name)
    except errors.Refusal as e:
        assert verdict == "bad" and e.pointer
        return
    problems = explain.problems(document, what)
    assert bool(problems) == (verdict == "bad")
    assert all(p["pointer"].startswith("/") and p["words"] for p in problems)
    foreign = what == "config" and any(p["pointer"].split("/")[1] in schema_table.FOREIGN for p in problems)
    if not foreign:
        assert bool(validate.check(document, what)) == (verdict == "bad")
    if what == "config":
        agree(copy.deepcopy(document))


def leaves(rule, path=()):
    """(path, rule) of every place in the table; lists and free maps are represented by one element."""
    yield path, rule
    if rule[0] == "o":
        for key, below in rule[2].items():
            yield from leaves(below, (*path, key))
        if rule[3]:
            yield from leaves(rule[3], (*path, "some/key~"))
    elif rule[0] == "a":
        yield from leaves(rule[1], (*path, 0))


def around(path, value):
    """The smallest document that has `value` at `path`."""
    for step in reversed(path):
        value = [value] if step == 0 else {step: value}
    return value


@pytest.mark.slow
@pytest.mark.bound(1200)  # on an emulated processor
@pytest.mark.parametrize("what", sorted(schema_table.ROOTS))
def test_every_place_with_every_kind_of_value(what):
    """The rest of the document is empty, so that missing properties are compared too."""
    good = 0
    for path, _ in leaves(schema_table.ROOTS[what]):
        if not path or path[0] in schema_table.FOREIGN or what == "config" and _has_its_own_turn(path):
            continue
        for value in VALUES:
            document = around(path, copy.deepcopy(value))
            if what in ("config", "state", "features"):
                document.setdefault("ociVersion", "1.0.0")
            if what in ("state", "features"):
                if value == {"": 1}:  # the normalisation handles empty keys, and these documents are written by pyrunc
                    continue
                fast, slow = places(document, what)
                assert fast == slow, (path, value)
            else:
                good += agree(document, what) is True
    assert good or what in ("state", "features", "process")


def _has_its_own_turn(path):
    """/process and /linux/resources are also documents by themselves."""
    return path[0] == "process" and len(path) > 1 or path[:2] == ("linux", "resources") and len(path) > 2


def test_documents_of_another_type():
    for value in (None, True, 1, "x", [], [{}]):
        for what in schema_table.ROOTS:
            assert places(value, what) == ({"/"}, {"/"})


def full(rule, name=""):
    """A document with every property of the table, all of them valid."""
    kind = rule[0]
    if kind == "o":
        made = {key: full(below, key) for key, below in rule[2].items()}
        if rule[3]:
            made["some/key~"] = full(rule[3])
        return made
    if kind == "a":
        return [full(rule[1], name), full(rule[1], name)]
    if kind == "p":
        return next(v for v in VALUES if isinstance(v, str) and "\n" not in v and validate.matches(v, rule[2]))
    return {"s": "text", "b": True, "n": 1, "i": rule[1] if kind == "i" else 0, "e": rule[1][0] if kind == "e" else ""}[kind]


def shortened(node):
    """Lists cut to three elements: the rest adds nothing, and jsonschema is slow."""
    if isinstance(node, dict):
        return {k: shortened(v) for k, v in node.items()}
    return [shortened(v) for v in node[:3]] if isinstance(node, list) else node


def bases():
    found = {"full": full(schema_table.ROOTS["config"]), "example": example.config(), "rootless": example.config(True, 1000, 1000)}
    for path in sorted((ROOT / "tests/vectors/config/good").glob("*.json")) + sorted((ROOT / "bundles").glob("*/config.json")):
        found["%s/%s" % (path.parent.name, path.stem)] = jsonio.loads(path.read_bytes(), path.name)
    for path in sorted((ROOT / "tests").glob("fixtures/**/*.json")):  # configs that callers really sent
        document = jsonio.loads(path.read_bytes(), path.name)
        if isinstance(document, dict) and "ociVersion" in document:
            found["fixtures/%s/%s" % (path.parent.name, path.stem)] = document
    return {name: shortened(document) for name, document in found.items()}


BASES = bases()


@pytest.mark.parametrize("name", sorted(BASES))
def test_untouched(name):
    """Examples of the specification, our own bundles, and configs that engines really send are all valid."""
    assert agree(copy.deepcopy(BASES[name])) is True


def spots(node, out):
    """Every container of a document."""
    if isinstance(node, dict | list) and node:
        out.append(node)
        for child in node.values() if isinstance(node, dict) else node:
            spots(child, out)
    return out


def mutate(document, chance):
    """Makes one change: a value is replaced, removed or duplicated, or a key is added."""
    node = chance.choice(spots(document, []))
    key = chance.choice(list(node) if isinstance(node, dict) else range(len(node)))
    act = chance.randrange(8)
    if act < 5:
        node[key] = copy.deepcopy(chance.choice(VALUES))
    elif act == 5:
        del node[key]
    elif isinstance(node, list):
        node.append(copy.deepcopy(chance.choice((node[key], *VALUES))))
    else:
        added = chance.choice(("unknown", "", "path", "type", "x\ny", str(key).upper(), str(key) + " "))
        node[added] = copy.deepcopy(chance.choice(VALUES))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BASES))
def test_mutated(name):
    chance = random.Random("agree " + name)
    held = broken = refused = 0
    for _ in range(10 if name.startswith("fixtures/") else 60):  # there are many captured configs, which are all similar
        document = copy.deepcopy(BASES[name])
        for _ in range(chance.choice((1, 1, 2, 4))):
            if spots(document, []):
                mutate(document, chance)
        verdict = agree(document)
        held += verdict is True
        broken += verdict is False
        refused += verdict is None
    assert broken  # otherwise the mutations no longer have an effect


def test_words_are_the_same():
    """Both report the same problem in the same words, so it does not matter which of them is used."""
    document = {"ociVersion": 1, "process": {"cwd": "/", "args": ["a", 7], "user": {"uid": -1}}, "mounts": [{"destination": True}]}
    fast = {pointer: words for pointer, words, *_ in validate.check(document, all=True)}
    slow = {p["pointer"]: p["words"] for p in explain.problems(document)}
    assert fast == slow
    assert fast["/process/user/uid"] == "uid must be a whole number from 0 to 4294967295, found -1"
    assert fast["/process/args/1"] == "args[1] must be a string, found 7"
    assert fast["/mounts/0/destination"] == "mounts[0].destination must be a string, found true"


def test_refusal_is_one_printable_line():
    for value in ("\x1b[2J\n", "x" * 10000, [["\n"]], {"\n": "\udc80"}):
        ((pointer, words, _value, reason),) = validate.check({"ociVersion": "1.0.0", "process": {"cwd": "/", "terminal": value}})
        sentence = errors.Refusal(reason, words, errors.quote(pointer)).sentence()
        assert sentence.isprintable()
        assert len(sentence) < 400
        assert pointer == "/process/terminal"


def test_first_problem_only():
    document = {"ociVersion": "1.0.0", "mounts": [{"destination": 1}] * 5, "process": 7}
    assert len(validate.check(document)) == 1
    assert len(validate.check(document, all=True)) == 6


def test_a_flood_of_problems_is_cut():
    document = {"ociVersion": "1.0.0", "process": {"cwd": "/", "args": [1] * 200000}}
    assert len(validate.check(document, all=True)) == validate.MOST
