"""Compares two configs: the saved one, and the bundle's current one or another one."""

from __future__ import annotations

from pyrunc.errors import PyruncError, escape_pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyrunc.engine.shapes import Row
    from pyrunc.parts.sides import Json


def bundle(saved: Json, path: str) -> tuple[list[Row], str | None]:
    """Compares the saved config with the bundle's current one: (rows, reason why that can't be read or None)."""
    from pyrunc.oci import load, normalise

    try:
        now, _raw = load.config(path, path + "/config.json")
        now = normalise.config(now)
    except PyruncError as e:
        return [], e.words
    except OSError as e:
        return [], str(e)
    return rows(saved, now), None


def rows(planned: Json, seen: Json) -> list[Row]:
    """The rows for two configs. Values of environment variables are not shown."""
    found: list[Row] = []
    for pointer, before, after in changed(planned, seen):
        one, other = (None if value is None else concealed(value, pointer) for value in (before, after))
        found.append({"area": "config", "what": pointer, "planned": one, "seen": other, "pointer": pointer})
    return found


def concealed(value: Json, pointer: str) -> Json:
    """The value without values of environment variables, of the program and of hooks."""
    if type(value) is dict:
        return {key: concealed(one, pointer + "/" + escape_pointer(key)) for key, one in value.items()}
    if type(value) is list:
        return [concealed(one, "%s/%d" % (pointer, index)) for index, one in enumerate(value)]
    keys = pointer.split("/")[1:]
    return "…" if keys[:2] == ["process", "env"] or keys[:1] == ["hooks"] and keys[3:4] == ["env"] else value


def changed(before: Json, after: Json, pointer: str = "") -> Iterator[tuple[str, Json, Json]]:
    """Yields (pointer, value before, value after) for each difference of two documents; None for a missing value."""
    if type(before) is dict and type(after) is dict:
        for key in dict.fromkeys([*before, *after]):
            yield from changed(before.get(key), after.get(key), pointer + "/" + escape_pointer(key))
    elif type(before) is list and type(after) is list:
        for index in range(max(len(before), len(after))):
            one, other = (values[index] if index < len(values) else None for values in (before, after))
            yield from changed(one, other, "%s/%d" % (pointer, index))
    elif before != after:
        yield pointer, before, after
