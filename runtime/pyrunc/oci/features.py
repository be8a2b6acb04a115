"""The document of `features` (features.md, features-linux.md): what this runtime supports, not what this host supports.

Static except for seccomp's supportedFlags, which by definition depends on the kernel. Invariant: everything that is listed is recognised;
tests compare the lists with the parts' tables and with features-schema.json.
"""

from __future__ import annotations

from pyrunc.oci import version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrunc.jsonio import Json

HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts")
ACTIONS = (
    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
)  # fmt: skip
OPERATORS = ("SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE")
ARCHS = (
    "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64",
)  # fmt: skip
FLAGS = {  # name -> the kernel's number (linux/seccomp.h)
    "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4, "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}  # fmt: skip
POLICIES = (
    "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE",
)  # fmt: skip
POLICY_FLAGS = ("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES")
# annotation keys that change what the runtime does; an entry that ends with a dot is a prefix
UNSAFE = ("org.criu.config", "org.pyrunc.", "org.systemd.property.", "run.oci.")


def document(
    program_version: str,
    mount_options: Iterable[str],
    capabilities: Iterable[str],
    supported_flags: Iterable[str],
    checkpoint: bool,
    libseccomp: str | None = None,
) -> dict[str, Json]:
    """-> the document. mount_options and capabilities: names that the parts know; supported_flags: the FLAGS that this kernel accepts;
    libseccomp: its version, if it is installed."""
    annotations = {
        "org.pyrunc.version": program_version,
        "org.pyrunc.landlock": "true",
        "org.opencontainers.runc.checkpoint.enabled": "true" if checkpoint else "false",
    }
    if libseccomp:
        annotations["io.github.seccomp.libseccomp.version"] = libseccomp
    return {
        "ociVersionMin": version.OLDEST,
        "ociVersionMax": version.VERSION,
        "hooks": list(HOOKS),
        "mountOptions": sorted(mount_options),
        "linux": {
            "namespaces": list(NAMESPACES),
            "capabilities": list(capabilities),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": list(ACTIONS),
                "operators": list(OPERATORS),
                "archs": list(ARCHS),
                "knownFlags": sorted(FLAGS),
                "supportedFlags": sorted(supported_flags),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "memoryPolicy": {"modes": list(POLICIES), "flags": list(POLICY_FLAGS)},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": annotations,
        "potentiallyUnsafeConfigAnnotations": list(UNSAFE),
    }
