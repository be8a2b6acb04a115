"""What `install` changes in the configuration of each engine: text in, text out, nothing is read or written here.

Each engine has a function `edit(path, text, want)`. text: the file's content, "" if there is no file; want: {"runtime", "name", "default",
"uninstall", "podman_appends"}. It returns the new content, or None if the file is to be removed, and raises Refusal. JSON is rewritten in the
same order and with the same indentation. TOML is never rewritten: our lines are between two marks, and the result is parsed to verify that
only our entry differs.
"""

from __future__ import annotations

import json
import re
import tomllib

from pyrunc.errors import Refusal, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pyrunc.helper.shapes import Document, Json, Want

MARK = "# pyrunc install: begin; `pyrunc install --containerd --uninstall` removes these lines"
END = "# pyrunc install: end"
WAS = "  # pyrunc install; was: "
PODMAN_MARK = "# Written by `pyrunc install --podman`; `pyrunc install --podman --uninstall` removes this file."
PODMAN_OWN = {  # podman 4's
    "runtime_supports_json": ["crun", "runc", "kata", "runsc", "youki", "krun"],
    "runtime_supports_nocgroups": ["crun", "krun"],
    "runtime_supports_nocgroup": ["crun", "krun"],  # the name that podman 4 and 5.4 read
}
CRI = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}


def refuse(path: str, why: str, hint: str | None = None) -> NoReturn:
    raise Refusal("engine-config", "%s: %s; nothing was changed" % (quote(path), why), None, hint)


# -- dockerd: /etc/docker/daemon.json -----------------------------------------------------------------------------------------


def docker(path: str, text: str, want: Want) -> str | None:
    document = _json(path, text)
    runtimes = document.get("runtimes", {})
    if not isinstance(runtimes, dict):
        refuse(path, "/runtimes is not an object")
    entry = runtimes.get(want["name"])
    if entry is not None and (not isinstance(entry, dict) or "path" not in entry):
        refuse(path, "/runtimes/%s is not an entry of this runtime: it has no path" % want["name"], "use another --name")
    if want["uninstall"]:
        return _docker_without(text, document, want["name"])
    new = {**document, "runtimes": {**runtimes, want["name"]: {**(entry or {}), "path": want["runtime"]}}}
    if want["default"]:
        new["default-runtime"] = want["name"]
    return text if new == document else _dumped(new, text)


def _docker_without(text: str, document: Document, name: str) -> str | None:
    new = dict(document)
    runtimes = {key: value for key, value in document.get("runtimes", {}).items() if key != name}
    if "runtimes" in document:
        new["runtimes"] = runtimes
        if not runtimes:
            del new["runtimes"]
    if document.get("default-runtime") == name:
        del new["default-runtime"]  # dockerd's own is runc
    if new == document or name not in document.get("runtimes", {}) and "default-runtime" in new:
        return text
    return _dumped(new, text) if new else None


def _json(path: str, text: str) -> Document:
    def pairs(items: list[tuple[str, Json]]) -> Document:
        document = dict(items)
        if len(document) != len(items):
            names = [key for key, _ in items]
            refuse(path, "duplicate key %s" % quote(next(n for n in names if names.count(n) > 1)), "dockerd would take the last one")
        return document

    if not text.strip():
        return {}
    try:
        document = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as e:
        refuse(path, "not JSON: %s" % e, "correct it first; dockerd can't read it either")
    if not isinstance(document, dict):
        refuse(path, "not a JSON object")
    return document


def _dumped(document: Document, old: str) -> str:
    found = re.search(r"\n([ \t]+)\S", old)
    return json.dumps(document, indent=found.group(1) if found else 2, ensure_ascii=False) + "\n"


# -- podman: a separate file in containers.conf.d ------------------------------------------------------------------------------


def podman_text(want: Want) -> str:
    """The whole drop-in. `podman_appends`: podman knows `append`; older versions refuse their whole configuration because of it. An array
    without it replaces that of other files, so it also contains podman's own names."""
    name = want["name"]
    lines = [PODMAN_MARK, "[engine]"]
    if want["default"]:
        lines.append('runtime = "%s"' % name)
    if want["podman_appends"]:
        append = '["%s", {append = true}]' % name
        lines += [
            "runtime_supports_json = " + append,
            "runtime_supports_nocgroups = " + append,
            "runtime_supports_nocgroup = %s  # the name that podman 5.4 reads" % append,
        ]
    else:
        lines += ["%s = %s" % (key, json.dumps([*own, name])) for key, own in PODMAN_OWN.items()]
    lines += ["", "[engine.runtimes]", "%s = [%s]" % (name, json.dumps(want["runtime"]))]
    return "\n".join(lines) + "\n"


def podman(path: str, text: str, want: Want) -> str | None:
    if text and not text.startswith(PODMAN_MARK):
        refuse(path, "the file was not written by pyrunc install", "give another file of that directory with --config")
    return None if want["uninstall"] else podman_text(want)


def podman_made(text: str) -> bool:
    """Whether a drop-in is exactly what install writes, so that it can be removed without a copy."""
    try:
        engine = tomllib.loads(text)["engine"]
        ((name, paths),) = engine["runtimes"].items()
        want = {"name": name, "runtime": paths[0], "default": "runtime" in engine}
        return text in [podman_text({**want, "podman_appends": appends}) for appends in (True, False)]
    except (ValueError, KeyError, TypeError, IndexError):
        return False


def check_toml(path: str, text: str) -> Document:
    """text -> dict."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        refuse(path, "not TOML: %s" % e, "correct it first; the engine can't read it either")


# -- containerd: /etc/containerd/config.toml --------------------------------------------------------------------------------------


def containerd(path: str, text: str, want: Want) -> str | None:
    _balanced(path, text)
    before = check_toml(path, text)
    bare = _unmarked(text)
    document = check_toml(path, bare)
    if want["uninstall"]:
        if set(document) <= {"version"} and before != document and bare.strip() == "version = %s" % document.get("version"):
            return None  # install made the file
        return bare if before != document else text
    if not document:
        bare = bare + ("" if not bare or bare.endswith("\n") else "\n") + "version = 2\n"
        document = {"version": 2}
    version = document.get("version", 1)
    if version not in CRI:
        hint = "`containerd config migrate` writes a newer one" if version == 1 else None
        refuse(path, "unknown version %s of the format" % quote(version), hint)
    new = _containerd_with(path, bare, document, CRI[version], want)
    return text if check_toml(path, new) == before and MARK in text else new


def _containerd_with(path: str, bare: str, document: Document, plugin: str, want: Want) -> str:
    name = want["name"]
    cri = _table(path, document, ("plugins", plugin, "containerd"))
    runtimes = _table(path, document, ("plugins", plugin, "containerd", "runtimes"))
    if name in runtimes:
        refuse(path, "it has a runtime %s that pyrunc install did not write" % name, "use another --name, or remove it first")
    key = 'plugins."%s".containerd' % plugin
    block, lines = [], bare.splitlines(keepends=True)
    if want["default"] and cri.get("default_runtime_name") != name:
        header = _header_line(lines, ("plugins", plugin, "containerd"))
        if header is None:
            if "default_runtime_name" in cri:
                refuse(path, "default_runtime_name is where it can't be changed safely", "change it by hand, and omit --default")
            block += ["[%s]" % key, '  default_runtime_name = "%s"' % name]
        else:
            _set_default(path, lines, header, name)
    if not runtimes and name != "runc":  # a table of runtimes in the file replaces containerd's built-in one, which contains runc
        block += ["[%s.runtimes.runc]" % key, '  runtime_type = "io.containerd.runc.v2"']
    options = runtimes.get("runc", {}).get("options", {}) if isinstance(runtimes.get("runc"), dict) else {}
    block += [
        "[%s.runtimes.%s]" % (key, name),
        '  runtime_type = "io.containerd.runc.v2"',
        "  [%s.runtimes.%s.options]" % (key, name),
        "    BinaryName = %s" % json.dumps(want["runtime"]),
    ]
    if options.get("SystemdCgroup") is True:
        block.append("    SystemdCgroup = true  # as runc has it here")
    text = "".join(lines)
    text += "" if not text or text.endswith("\n") else "\n"
    new = text + "\n".join([MARK, *block, END]) + "\n"
    _nothing_else(path, document, new, plugin, want)
    return new


def _nothing_else(path: str, document: Document, new: str, plugin: str, want: Want) -> None:
    """Verifies that the new text differs from the old document only by our entry. Refusal."""
    try:
        after = tomllib.loads(new)
        containerd = after["plugins"][plugin]["containerd"]
        del containerd["runtimes"][want["name"]]
    except (ValueError, KeyError, TypeError) as e:
        refuse(
            path,
            "its tables have a form that lines can't be added to (%s)" % quote(str(e)),
            "add the runtime by hand; see the manual",
        )
    old = json.loads(json.dumps(document, default=str))
    after = json.loads(json.dumps(after, default=str))
    place = old.setdefault("plugins", {}).setdefault(plugin, {}).setdefault("containerd", {})
    place.setdefault("runtimes", {})
    if not place["runtimes"] and want["name"] != "runc":
        place["runtimes"]["runc"] = {"runtime_type": "io.containerd.runc.v2"}
    if want["default"]:
        place["default_runtime_name"] = want["name"]
    if old != after:
        refuse(path, "adding lines would change other settings", "add the runtime by hand")


def _table(path: str, document: Document, keys: tuple[str, ...]) -> Document:
    for number, key in enumerate(keys):
        document = document.get(key, {})
        if not isinstance(document, dict):
            refuse(path, "%s is not a table" % quote(".".join(keys[: number + 1])))
    return document


def _header_line(lines: list[str], keys: tuple[str, ...]) -> int | None:
    """The number of the line [a."b".c], or None."""
    for number, line in enumerate(lines):
        if line.lstrip().startswith("["):
            try:
                table: Json = tomllib.loads(line)
            except tomllib.TOMLDecodeError:
                continue
            for key in keys:
                table = table.get(key) if isinstance(table, dict) and len(table) == 1 else None
            if table == {}:
                return number
    return None


def _set_default(path: str, lines: list[str], header: int, name: str) -> None:
    """Changes or adds default_runtime_name below the header; a comment keeps the previous line."""
    for number in range(header + 1, len(lines)):
        line = lines[number]
        if line.lstrip().startswith("["):
            break
        if re.match(r"\s*default_runtime_name\s*=", line):
            indent = line[: len(line) - len(line.lstrip())]
            lines[number] = '%sdefault_runtime_name = "%s"%s%s\n' % (indent, name, WAS, line.strip())
            return
    lines[header] = lines[header].rstrip("\n") + "\n"
    lines.insert(header + 1, '  default_runtime_name = "%s"%s\n' % (name, WAS))


def _balanced(path: str, text: str) -> None:
    begins, ends = text.count(MARK), text.count(END)
    if begins != ends or begins > 1 or (begins and text.index(MARK) > text.index(END)):
        refuse(path, "the marks of pyrunc install do not match", "remove its lines by hand")


def _unmarked(text: str) -> str:
    """The text before install."""
    if MARK in text:
        start, end = text.index(MARK), text.index(END) + len(END)
        text = text[:start] + text[end:].removeprefix("\n")
    lines = []
    for line in text.splitlines(keepends=True):
        now, was, earlier = line.partition(WAS)
        if not was:
            lines.append(line)
        elif earlier.strip():
            lines.append(now[: len(now) - len(now.lstrip())] + earlier)
    return "".join(lines)
