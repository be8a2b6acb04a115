"""Helper `schema`: a document against the JSON schemas by jsonschema. Payload {"document": …, "what": "config"}, answer: a list of
{"pointer", "words", "expected", "value"}, empty if it holds."""

from pyrunc.oci import explain


def run(payload):
    return explain.problems(payload["document"], payload["what"])
