"""/ociVersion, /annotations (runtime-spec, config.md#specification-version, #annotations).

Invariant: annotations are untrusted, because engines copy labels of images and pods into them. Without --allow-annotation-paths, none may
name a path or a program on the host, set a systemd property that affects other units, or keep root's groups; other parts see only the
annotations that remain.
"""

from __future__ import annotations

from pyrunc.errors import Refusal, Unsupported, escape_pointer, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import Context

    Node = TypedDict(
        "Node",
        {"/ociVersion": str, "/annotations": dict[str, str]},
        total=False,
    )

    class Entry(TypedDict):
        ociVersion: str
        annotations: dict[str, str]
        keep_groups: bool
        pidfd_receiver: str | None


VERSION = (1, 3)
# Annotations whose values are paths on the host, or a filter that replaces the profile: ignored unless they are allowed. `features`
# lists them as potentially unsafe.
PATHS = (
    "org.criu.config", "run.oci.hooks.stderr", "run.oci.hooks.stdout", "run.oci.pidfd_receiver", "run.oci.seccomp.plugins",
    "run.oci.seccomp.receiver", "run.oci.seccomp_bpf_data",
)  # fmt: skip
HANDLERS = ("run.oci.handler",)
RECEIVER = "run.oci.pidfd_receiver"
KEEP_GROUPS = "run.oci.keep_original_groups"
# Other annotations below run.oci. with an effect; docs/annotations.md explains all of them.
KNOWN = (
    "run.oci.delegate-cgroup", KEEP_GROUPS, "run.oci.mount_context_type", "run.oci.seccomp_fail_unknown_syscall",
    "run.oci.systemd.subgroup",
)  # fmt: skip
SYSTEMD = "org.systemd.property."
# Properties of the scope that are always allowed: those that CRI-O and podman set, and those that concern only the scope. Others start
# programs, or stop units or the machine (ExecStartPre, Conflicts, OnFailure, SuccessAction: CVE-2024-3154).
SYSTEMD_SAFE = (
    "After", "CollectMode", "DefaultDependencies", "KillSignal", "RuntimeMaxSec", "RuntimeMaxUSec", "SendSIGHUP", "TimeoutStopSec",
    "TimeoutStopUSec",
)  # fmt: skip


def plan(node: Node, ctx: Context) -> Entry:
    """node: {"/ociVersion": text, "/annotations": {key: text}}.
    entry: {"ociVersion", "annotations": those that have an effect, "keep_groups": bool, "pidfd_receiver": path of a socket or None}.
    Refused: a version that is missing or not 1.x; an annotation whose key is empty or contains control characters; a receiver that is not
    an absolute path; run.oci.handler, which requests an executor other than the kernel."""
    entry: Entry = {
        "ociVersion": _version(node.get("/ociVersion"), ctx),
        "annotations": {},
        "keep_groups": False,
        "pidfd_receiver": None,
    }
    allowed = bool(ctx.options.get("allow_annotation_paths"))
    for key, value in (node.get("/annotations") or {}).items():
        pointer = "/annotations/" + escape_pointer(quote(key, 100))
        if not key:
            raise Refusal("empty-key", "an annotation with an empty key", "/annotations/")
        if not key.isprintable():
            raise Refusal("control-characters", "control characters in the key of an annotation", pointer)
        if key in HANDLERS:
            raise Unsupported(
                "no-handler",
                "the handler %s is not available" % quote(value, 60),
                pointer,
                "another runtime",
                "containers run as processes of this kernel only",
            )
        if key in PATHS and not allowed:
            ctx.warn(pointer, "%s, so it has no effect without --allow-annotation-paths" % _why(key))
            continue
        if key.startswith(SYSTEMD) and key[len(SYSTEMD) :] not in SYSTEMD_SAFE and not allowed:
            ctx.warn(pointer, "it may affect other units, so it has no effect without --allow-annotation-paths")
            continue
        if key == KEEP_GROUPS and value != "0" and not allowed and ctx.euid == 0 and not ctx.in_userns:
            ctx.warn(pointer, "it gives the container root's groups, so it has no effect without --allow-annotation-paths")
            continue
        if key.startswith("run.oci.") and key not in KNOWN + PATHS:
            ctx.warn(pointer, "unknown, so it has no effect")
        entry["annotations"][key] = value
    entry["pidfd_receiver"] = receiver = entry["annotations"].get(RECEIVER)
    if receiver is not None and (receiver[:1] != "/" or "\0" in receiver):
        raise Refusal("relative-path", "%s is not an absolute path" % quote(receiver), "/annotations/" + RECEIVER)
    entry["keep_groups"] = entry["annotations"].get(KEEP_GROUPS, "0") != "0"
    return entry


def _why(key: str) -> str:
    return "replaces the seccomp profile" if key == "run.oci.seccomp_bpf_data" else "names a path of the host"


def _version(text: str | None, ctx: Context) -> str:
    """Any 1.x is accepted: short forms and suffixes are in use, and newer versions are compatible (semver)."""
    if not text:
        raise Refusal("no-version", "no ociVersion", "/ociVersion", "the specification's version, for instance 1.3.0")
    core = text.partition("+")[0].partition("-")[0].split(".")
    if not 2 <= len(core) <= 3 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in core):
        raise Refusal("bad-version", "%s is not a version" % quote(text, 60), "/ociVersion", "use MAJOR.MINOR.PATCH, for instance 1.3.0")
    if core[0] != "1":
        raise Refusal("unknown-version", "version %s of the specification is not known" % quote(text, 60), "/ociVersion", "1.x is")
    if int(core[1]) > VERSION[1]:
        ctx.warn("/ociVersion", "%s is newer than %d.%d: properties that came since are ignored" % (quote(text, 60), *VERSION))
    elif len(core) < 3:
        ctx.warn("/ociVersion", "%s is short for %s.0" % (quote(text, 60), ".".join(core)))
    return text


def pidfd_receiver(entry: Entry) -> str | None:
    """The socket that receives init's pidfd, from an annotation, if annotations may name paths."""
    return entry["pidfd_receiver"]


def annotation(plans: Plans, key: str) -> str | None:
    """The value of an annotation that was accepted, or None."""
    entry = plans.get("meta")
    return entry["annotations"].get(key) if entry else None
