"""Device nodes and links in /dev."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.devices.plan import Device, Entry
    from pyrunc.parts.sides import Json


def readable(entry: Entry) -> Json:
    return {**entry, "nodes": [{**node, "mode": "0%o" % node["mode"]} for node in entry["nodes"]]}


def brief(entry: Entry) -> Json:
    links = ", ".join("%s -> %s" % (name, target) for name, target in entry["links"])
    return {**entry, "nodes": [_node(node) for node in entry["nodes"]], "links": links}


def _node(node: Device) -> str:
    return "%(path)s %(type)s %(major)d:%(minor)d mode 0%(mode)o owner %(uid)d:%(gid)d" % node
