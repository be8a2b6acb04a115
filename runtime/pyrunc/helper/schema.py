"""Helper `schema`: checks a document against the JSON schemas with jsonschema. Payload: {"document": …, "what": "config"}; answer: a list of
{"pointer", "words", "expected", "value"}, empty if the document is valid."""

from __future__ import annotations

from typing import Any

from pyrunc.oci import explain


def run(payload: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = explain.problems(payload["document"], payload["what"])
    return found
