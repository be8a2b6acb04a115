"""The reference validator: jsonschema with the schemas of the runtime-spec (draft-04), and readable messages.

Runs in the helper process (helper/schema.py) and in tests; nothing else imports it, because jsonschema takes 70 ms to load. Invariant: it
agrees with oci/validate.py on every document, pointer by pointer. For that, two things differ from plain jsonschema: patterns match as in
ECMA 262, where `$` means the end and not the position before a final newline; and for a missing property, the pointer is that of the
property.
"""

from __future__ import annotations

import functools
import json
import re

import jsonschema
import referencing
from jsonschema import Draft4Validator
from referencing.jsonschema import DRAFT4

from pyrunc import install_paths
from pyrunc.errors import escape_pointer
from pyrunc.oci import problem_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, TypeAlias

    from pyrunc.jsonio import Json
    from pyrunc.oci.problem_words import Path

    Library: TypeAlias = Any  # an object of jsonschema or referencing, whose types do not describe what is used of it


SCHEMAS = {
    "config": "config-schema.json",
    "state": "state-schema.json",
    "features": "features-schema.json",
    "process": "config-schema.json#/properties/process",
    "resources": "config-linux.json#/linux/properties/resources",
}


def problems(document: Json, what: str = "config") -> list[dict[str, Json]]:
    """-> [{"pointer", "words", "expected", "value"}, …], ordered by pointer, one per pointer."""
    found = {}
    for error in _leaves(validator(what).iter_errors(document)):
        pointer = "".join("/" + escape_pointer(str(step)) for step in error.absolute_path)
        for name in _missing(error):
            place = pointer + "/" + escape_pointer(name)
            found[place] = {"pointer": place, "words": "%s is missing" % name, "expected": "to be present", "value": None}
        if error.validator != "required":
            found.setdefault(pointer or "/", _problem(pointer, error))
    return [found[pointer] for pointer in sorted(found)]


@functools.cache
def validator(what: str) -> Library:
    """The Draft4Validator for one kind of document, with local references only."""
    schema = {"$ref": "https://pyrunc.invalid/" + SCHEMAS[what]}
    registry: Library = referencing.Registry(retrieve=_retrieve)  # type: ignore[call-arg]  # attrs generates the arguments
    return _Draft4(schema, registry=registry)


def _retrieve(uri: str) -> Library:
    name = uri.rpartition("/")[2]
    if name not in _NAMES:
        raise referencing.exceptions.NoSuchResource(ref=uri)  # type: ignore[call-arg]  # attrs
    with open(install_paths.data("specs/" + name), encoding="utf-8") as file:
        schema = json.load(file)
    schema.pop("$schema", None)  # it would select the class that jsonschema registers for draft-04
    return referencing.Resource(schema, DRAFT4)  # type: ignore[call-arg]  # attrs


_NAMES = {s.partition("#")[0] for s in SCHEMAS.values()} | {
    "%s.json" % n
    for n in (
        "defs defs-linux defs-vm defs-windows defs-zos defs-freebsd config-linux config-vm config-windows config-zos config-freebsd "
        "config-solaris features-linux"
    ).split()
}


def _pattern(validator: Library, pattern: str, instance: Json, schema: Json) -> Iterator[Library]:
    """The keyword `pattern`, with a `$` that means the end."""
    if validator.is_type(instance, "string"):
        text = pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern
        if not re.search(text, instance):
            yield jsonschema.ValidationError("%r does not match %r" % (instance, pattern))


_Draft4 = jsonschema.validators.extend(Draft4Validator, {"pattern": _pattern})


def _leaves(errors: Iterable[Library]) -> Iterator[Library]:
    for error in errors:
        if error.context:
            yield from _leaves(error.context)
        else:
            yield error


def _missing(error: Library) -> list[str]:
    """Names of the missing properties: jsonschema reports each one separately, with the name only in the message."""
    if error.validator != "required":
        return []
    return [name for name in error.validator_value if name not in error.instance and error.message.startswith(repr(name))]


def _rule(schema: dict[str, Json]) -> Json:
    """A leaf of the schema as a rule of the table, as needed by problem_words.expected(), so that both validators use the same words."""
    kind = schema["type"]
    if kind == "integer":
        low, high = schema.get("minimum"), schema.get("maximum")
        return ("n", low) if high is None else ("i", low, high)
    if kind == "string" and "enum" in schema:
        return ("e", tuple(schema["enum"]))
    if kind == "string" and "pattern" in schema:
        return ("p", schema["pattern"], ())
    return ({"string": "s", "boolean": "b", "array": "a", "object": "o"}[kind],)


def _problem(pointer: str, error: Library) -> dict[str, Json]:
    path: Path | None = None
    for step in error.absolute_path:
        path = (path, step)
    if error.validator == "minItems":
        expected = "must hold at least %d" % error.validator_value
        words = "%s %s" % (problem_words.subject(path), expected)
    else:
        rule = _rule(error.schema)
        expected = problem_words.expected(rule)
        words = problem_words.sentence(path, rule, error.instance)
    if path is None:
        words = "the document must be an object, found %s" % problem_words.shown(error.instance)
    return {"pointer": pointer or "/", "words": words, "expected": expected, "value": _short(error.instance)}


def _short(value: Json) -> Json:
    """The value that was found, shortened for a report."""
    return value if not isinstance(value, dict | list) and len(str(value)) <= 200 else problem_words.shown(value)
