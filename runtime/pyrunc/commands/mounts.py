"""mounts add|remove|list ID: adds, removes or lists mounts of a running container. Mounts that are added are recorded, and are removed with the
container or by `remove`.

`add` takes a FILE (- for standard input) with JSON as in config.json, {"mounts": [...]} or only the list, or one mount given by --source,
--destination, --type and --options. `remove` takes destinations, or such a file. In a file, relative sources are relative to the bundle; on the
command line, to the working directory.
"""

from __future__ import annotations

import posix

from pyrunc import fileio, jsonio
from pyrunc.commands import choice
from pyrunc.engine import live_mounts
from pyrunc.engine.prepare import refusal
from pyrunc.errors import UsageError, quote
from pyrunc.oci import load, normalise, validate
from pyrunc.store import absolute, open_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Document
    from pyrunc.state_dir import StateDir


HEAD = ("DESTINATION", "TYPE", "SOURCE", "ORIGIN", "OPTIONS")
ONE = ("source", "destination", "type", "options")


def main(options: Options, args: list[str]) -> int:
    act, id, rest = args[0], args[1], args[2:]
    acts = {"add": _add, "remove": _remove, "list": _list}
    if act not in acts:
        raise UsageError("unknown-action", '"mounts %s" is not a command' % quote(act), "mounts", None, "use add, remove or list")
    if act != "remove" and rest and not (act == "add" and len(rest) == 1 and "file" not in options):
        raise UsageError("wrong-arguments", '"mounts %s" takes no further arguments: %s' % (act, quote(rest[0])), "mounts")
    if act == "add" and rest:
        options["file"] = rest[0]  # as crun has it
    return acts[act](options, id, rest)


def _add(options: Options, id: str, _rest: list[str]) -> int:
    one = any(name in options for name in ONE)
    if one and "file" in options:
        raise UsageError("mounts-twice", "mounts are given twice", "mounts", "file", "give a file, or one mount by options")
    wanted = _from_options(options) if one else _from_file(options)
    if not wanted:
        raise UsageError("nothing-to-mount", "nothing to mount", "mounts", None, "give --file, or --destination and --source")
    state_dir = open_state(options, id)
    state_dir.lock().load()
    try:
        live_mounts.add(state_dir, options, wanted)
    finally:
        state_dir.unlock()
    return 0


def _remove(options: Options, id: str, rest: list[str]) -> int:
    if not rest and not {"file", "destination"}.intersection(options):
        raise UsageError("nothing-to-unmount", "nothing to unmount", "mounts", None, "give destinations after the id, or a file")
    state_dir = open_state(options, id)
    if len(rest) == 1 and "file" not in options and _is_file(rest[0], state_dir):
        options["file"] = rest.pop()  # as crun has it
    destinations = rest + [one["destination"] for one in _from_file(options)]
    if "destination" in options:
        destinations.append(options["destination"])
    if not destinations:
        raise UsageError("nothing-to-unmount", "nothing to unmount", "mounts", "file", "the file lists no mounts")
    state_dir.lock().load()
    try:
        live_mounts.remove(state_dir, options, destinations)
    finally:
        state_dir.unlock()
    return 0


def _is_file(word: str, state_dir: StateDir) -> bool:
    """Whether a word is a file with mounts, and not a destination."""
    if live_mounts.is_destination(state_dir, word):
        return False
    try:
        return word == "-" or fileio.is_regular(posix.stat(word).st_mode)
    except (OSError, ValueError):
        return False


def _from_file(options: Options) -> list[Document]:
    """The mounts of --file, normalised and checked against the schema. Refusal."""
    path = options.get("file")
    if path is None:
        return []
    if path == "-":
        doc, _raw = load.stream(0, "standard input", wrap="mounts")
    else:
        doc, _raw = load.file(absolute(path), shown=path, wrap="mounts")
    return _valid({"mounts": doc.get("mounts")})


def _valid(doc: Document) -> list[Document]:
    doc = normalise.config({"ociVersion": "1.0.0", **doc})
    problems = validate.check(doc)
    if problems:
        raise refusal(problems[0])
    return doc.get("mounts") or []


def _from_options(options: Options) -> list[Document]:
    """[the mount given on the command line]. The default type is a bind mount."""
    if "destination" not in options:
        raise UsageError("no-destination", "--destination is missing", "mounts", "destination", "give the path inside the container")
    words = [word for text in options.get("options", ()) for word in text.split(",") if word]
    kind = options.get("type", "bind")
    made = {"destination": options["destination"], "type": kind, "options": words}
    if kind == "bind" and not {"bind", "rbind"}.intersection(words):
        words.append("rbind")
    if "source" in options:
        is_path = {"bind", "rbind"}.intersection(words) or options["source"][:1] in ("/", ".")
        made["source"] = absolute(options["source"]) if is_path else options["source"]
    return _valid({"mounts": [made]})


# -- list ----------------------------------------------------------------------------------------------------------------


def _list(options: Options, id: str, _rest: list[str]) -> int:
    style = choice.format_of(options, "mounts", "table", "json")
    found = live_mounts.listed(open_state(options, id))
    if style == "json":
        text = jsonio.dumps(found) + "\n"
    else:
        from pyrunc.commands.list import table

        text = table([HEAD] + [_row(one) for one in found])
    fileio.write_all(1, text.encode("utf-8", "surrogateescape"))
    return 0


def _row(one: Document) -> tuple[str, ...]:
    origin = one["origin"] if one.get("present", True) else one["origin"] + " (gone)"
    return (
        quote(one["destination"]),
        quote(one["type"]) or "-",
        quote(one["source"]) or "-",
        origin,
        quote(",".join(one["options"])) or "-",
    )
