"""Normalises documents: converts what callers are known to send to what the spec requires.

Both validators and all parts use the result. It does only this:
- null for an optional property, and an empty list for an optional list, is absent (containerd, Go's nil slices). An empty list in place of
anything else is a wrong type and must not count as a default. Not changed: required properties (which will be refused), values of free maps
(annotations, sysctl, …), `uid` and `gid` of a user (null must not become root), `env` of a hook (an empty list means an empty environment)
and the elements of lists.
- fileMode of a device: bits above 0777, including the file type, are removed (podman sends st_mode).
- rootfsPropagation: rprivate, rshared, rslave, runbindable lose their r; propagation is always applied to the whole tree.
- `pids` without a limit is absent (the limit is a pointer with omitempty in the Go types of runtime-spec 1.3).
- sections for other platforms are dropped, after checking that they are objects.
- a known key in a different case is refused: Go would treat it as the key, and others ignore it. An empty key in a free map is also
refused.

It takes one pass over the document, in place, and only looks at what the schema table knows.
"""

from __future__ import annotations

from pyrunc import errors
from pyrunc.linux._syscalls import conforms
from pyrunc.linux.constants import S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT
from pyrunc.oci import schema_table
from pyrunc.oci.pointers import join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.jsonio import Json
    from pyrunc.oci.problem_words import Path
    from pyrunc.oci.schema_table import Object

TYPE_BITS = (0, S_IFIFO, S_IFCHR, S_IFBLK)
PROPAGATION = {"rprivate": "private", "rshared": "shared", "rslave": "slave", "runbindable": "unbindable"}


def config(document: dict[str, Json]) -> dict[str, Json]:
    """Normalises a config in place and returns it. Raises Refusal."""
    if type(document) is not dict:
        return document  # the validator reports it
    for name in schema_table.FOREIGN:
        if name in document:
            if type(document[name]) not in (dict, type(None)):
                raise errors.Refusal("not-an-object", "%s must be an object" % name, "/" + name)
            del document[name]
    _whole(document, "config")
    linux = document.get("linux")
    if type(linux) is dict:
        _linux(linux)
    return document


def process(document: dict[str, Json]) -> dict[str, Json]:
    """The same for the process.json of exec."""
    return part(document, "process")


def resources(document: dict[str, Json]) -> dict[str, Json]:
    """The same for the resources of update."""
    return _no_limit(part(document, "resources"))


def part(document: dict[str, Json], what: str) -> dict[str, Json]:
    """The same for a document that is part of a config; pointers are relative to it."""
    if type(document) is dict:
        _whole(document, what)
    return document


def _whole(document: dict[str, Json], what: str) -> None:
    rule = schema_table.ROOTS[what]
    if not conforms(document, rule):  # most documents do, and then there is nothing to change
        _object(document, rule, None)


def _object(node: dict[str, Json], rule: Object, path: Path | None) -> None:
    _, required, props, rest = rule
    gone: tuple[str, ...] = ()
    folded = None
    for key, value in node.items():
        below = props.get(key)
        if below is None:
            if rest is not None:
                _free_key(key, path)
                if type(value) is dict and rest[0] == "o":
                    _object(value, rest, (path, key))
                continue
            if props:
                if folded is None:
                    folded = {name.casefold(): name for name in props}
                _unknown_key(key, folded, path)
            continue
        if value is None:
            if key not in required and not (key in ("uid", "gid") and "additionalGids" in props):
                gone += (key,)
        elif type(value) is dict:
            if below[0] == "o":
                _object(value, below, (path, key))
        elif type(value) is list:
            if not value:
                if below[0] == "a" and key not in required and not (key == "env" and "timeout" in props):
                    gone += (key,)
            elif below[0] == "a" and below[1][0] == "o":
                _list(value, below[1], (path, key))
    for key in gone:
        del node[key]


def _list(node: list[Json], rule: Object, path: Path) -> None:
    for index, value in enumerate(node):
        if type(value) is dict:
            _object(value, rule, (path, index))


def _unknown_key(key: str, folded: dict[str, str], path: Path | None) -> None:
    name = folded.get(key.casefold())
    if name is not None:
        pointer = errors.quote(_pointer(path, key))
        raise errors.Refusal("wrong-case", "unknown property %s" % errors.quote(key), pointer, 'did you mean "%s"? Case matters' % name)


def _free_key(key: str, path: Path | None) -> None:
    if not key.strip("\n"):
        raise errors.Refusal("empty-key", "an empty key", errors.quote(_pointer(path, key)))


def _pointer(path: Path | None, key: str) -> str:
    steps: list[str | int] = [key]
    while path is not None:
        path, step = path
        steps.append(step)
    return join(*steps[::-1])


def _no_limit(resources: dict[str, Json]) -> dict[str, Json]:
    if type(resources) is dict and resources.get("pids") == {}:
        del resources["pids"]
    return resources


def _linux(linux: dict[str, Json]) -> None:
    _no_limit(linux.get("resources", {}))
    propagation = linux.get("rootfsPropagation")
    if type(propagation) is str:
        linux["rootfsPropagation"] = PROPAGATION.get(propagation, propagation)
    devices = linux.get("devices")
    for device in devices if type(devices) is list else ():
        mode = device.get("fileMode") if type(device) is dict else None
        if type(mode) is int and 0o777 < mode <= S_IFMT | 0o7777 and mode & S_IFMT in TYPE_BITS:
            device["fileMode"] = mode & 0o777
