"""Helper `schema`: a document against the JSON schemas by jsonschema. Payload {"document": …, "what": "config"}, answer: a list of
{"pointer", "words", "expected", "value"}, empty if it holds."""

from __future__ import annotations

from typing import Any

from pyrunc.oci import explain


def run(payload: dict[str, Any]) -> list[dict[str, Any]]:
    return explain.problems(payload["document"], payload["what"])
