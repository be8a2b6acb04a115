"""Helper `schema`: checks a document against the JSON schemas with jsonschema. Payload: {"document": …, "what": "config"}; answer: a list of
{"pointer", "words", "expected", "value"}, empty if the document is valid."""

from __future__ import annotations

from pyrunc.oci import explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.helper.shapes import Json, Payload


def run(payload: Payload) -> list[dict[str, Json]]:
    found: list[dict[str, Json]] = explain.problems(payload["document"], payload["what"])
    return found
