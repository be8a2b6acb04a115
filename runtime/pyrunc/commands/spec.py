"""spec: writes an example config.json, indented by tabs as runc does. It never overwrites a file. --file gives another name, or - for standard
output. --profile selects the defaults of an engine or a purpose (oci/profiles.py). --explain writes no file and explains each property of the
config."""

from __future__ import annotations

import posix

from pyrunc import fileio, jsonio
from pyrunc.commands import choice
from pyrunc.errors import UsageError, errno_text, quote
from pyrunc.oci import example

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Document, Output
    from pyrunc.render import Paint


NAME = "config.json"
EEXIST = 17


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "spec", *(("text", "json") if options.get("explain") else ("json",)))
    bundle = options.get("bundle") or "."
    name = options.get("file") or NAME
    document, reasons = _document(options)
    if options.get("explain"):
        return _explain(options, document, reasons, style)
    data = (jsonio.dumps(document, indent="\t") + "\n").encode()
    if name == "-":
        fileio.write_all(1, data)
        return 0
    try:
        dir_fd = posix.open(bundle, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except (OSError, ValueError) as e:
        raise UsageError("bundle", "chdir %s: %s" % (quote(bundle), _text(e)), "spec", "bundle") from None
    try:
        _write(dir_fd, name, data)
    finally:
        posix.close(dir_fd)
    return 0


def _document(options: Options) -> tuple[Document, dict[str, str]]:
    """(config, {pointer: reason}) for the options."""
    ids = posix.geteuid(), posix.getegid()
    name = options.get("profile")
    if name is None:
        return example.config(options.get("rootless", False), *ids, cgroup_namespace=_unified()), {}
    from pyrunc.oci import profiles

    choice.chosen(name, tuple(profiles.NAMES), "spec", "profile", "bad-profile", "invalid profile: %s")
    if options.get("rootless") and name != "rootless":
        raise UsageError(
            "rootless-and-profile",
            "--rootless and --profile %s can't be combined" % name,
            "spec",
            "rootless",
            "use --profile rootless",
        )
    return profiles.config(name, *ids, cgroup_namespace=_unified())


def _explain(options: Options, document: Document, reasons: dict[str, str], style: str) -> int:
    from pyrunc.oci import profiles

    rows = profiles.explain(document, reasons)
    name = options.get("profile")
    if style == "json":
        found = {"profile": name, "about": profiles.ABOUT.get(name or ""), "properties": rows}
        text = jsonio.dumps(found, indent=2) + "\n"
    else:
        from pyrunc import render

        text = _explained(rows, profiles.ABOUT.get(name or ""), render.Paint())
    fileio.write_all(1, text.encode())
    return 0


def _explained(rows: list[Output], about: str | None, paint: Paint) -> str:
    from pyrunc import render

    columns = render.width(1)
    lines = [*(paint(text, "bold") for text in render.wrapped(about, columns)), ""] if about else []
    for row in rows:
        first = render.cut("%s = %s" % (row["pointer"], quote(jsonio.dumps(row["value"]), 160)), columns)
        lines.append(paint(row["pointer"], "cyan") + first[len(row["pointer"]) :])
        lines += render.wrapped(row["what"], columns, "    ", "    ")
        if row["why"]:
            why = render.wrapped(row["why"], columns, "    here: ", "    ")
            lines += ["    " + paint("here:", "bold") + why[0][9:], *why[1:]]
    return "\n".join(lines) + "\n"


def _write(dir_fd: int, name: str, data: bytes) -> None:
    shown = quote(name)
    try:
        fd = posix.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o666, dir_fd=dir_fd)
    except (OSError, ValueError) as e:
        if getattr(e, "errno", None) == EEXIST:
            raise UsageError("file-exists", "File %s exists. Remove it first" % shown, "spec") from None
        raise UsageError("not-writable", "open %s: %s" % (shown, _text(e)), "spec") from None
    try:
        fileio.write_all(fd, data)
    except OSError as e:
        posix.unlink(name, dir_fd=dir_fd)
        raise UsageError("not-writable", "write %s: %s" % (shown, errno_text(e.errno)), "spec") from None
    finally:
        posix.close(fd)


def _text(e: OSError | ValueError) -> str:
    return errno_text(e.errno) if isinstance(e, OSError) else "the path has a NUL byte"


def _unified() -> bool:
    """Whether the host has only cgroup v2; then containers get a cgroup namespace."""
    try:
        posix.stat("/sys/fs/cgroup/cgroup.controllers")
    except OSError:
        return False
    return True
