"""A policy for a guest with SELinux: small enough to be read, and made by the test itself (CIL, compiled by secilc on the host).

What there is: `kernel_t`, the domain of everything that runs before the policy is loaded, which may do anything but enter `forbidden_t`;
`container_t`, which may use `container_file_t` and what it inherits; and `base_file_t`, which is every file without a label. Categories separate
containers as everywhere (MCS): the domain's must include the file's. Classes that are not named here are not
controlled (handleunknown).
"""

from __future__ import annotations

import pathlib
import subprocess

VERSION = "33"  # of the binary form; Linux 5.5 and later read it
FILES = (
    "ioctl read write create getattr setattr lock relabelfrom relabelto append map unlink link rename execute quotaon mounton audit_access "
    "open execmod watch watch_mount watch_sb watch_with_perm watch_reads"
)
SOCKETS = (
    "ioctl read write create getattr setattr lock relabelfrom relabelto append map bind connect listen accept getopt setopt shutdown "
    "recvfrom sendto name_bind"
)
CLASSES = {
    "process": "fork transition sigchld sigkill sigstop signull signal ptrace getsched setsched getsession getpgid setpgid getcap setcap "
    "share getattr setexec setfscreate noatsecure siginh setrlimit rlimitinh dyntransition setcurrent execmem execstack execheap "
    "setkeycreate setsockcreate getrlimit",
    "process2": "nnp_transition nosuid_transition",
    "file": FILES + " execute_no_trans entrypoint",
    "dir": FILES + " add_name remove_name reparent search rmdir",
    **dict.fromkeys(("lnk_file", "chr_file", "blk_file", "sock_file", "fifo_file"), FILES),
    "filesystem": "mount remount unmount getattr relabelfrom relabelto associate quotamod quotaget watch",
    "fd": "use",
    "key": "view read write search link setattr create",
    "unix_stream_socket": SOCKETS + " connectto",
    "unix_dgram_socket": SOCKETS,
    "tcp_socket": SOCKETS + " node_bind name_connect",
}
SIDS = (
    "kernel security unlabeled fs file file_labels init any_socket port netif netmsg node igmp_packet icmp_socket tcp_socket sysctl_modprobe "
    "sysctl sysctl_fs sysctl_kernel sysctl_net sysctl_net_unix sysctl_vm sysctl_dev kmod policy scmp_packet devnull"
).split()
TYPES = ("kernel_t", "base_file_t", "container_t", "container_file_t", "forbidden_t")
OF_FILES = "(system_u object_r base_file_t lowest)"
OF_KERNEL = "(system_u system_r kernel_t all_levels)"
WITH_LABELS = ("ext4", "overlay")  # each file has one of its own, or that of `file`
WITHOUT = ("proc", "sysfs", "cgroup2", "selinuxfs", "rootfs", "bpf", "tracefs", "debugfs", "securityfs", "fuse", "nsfs")
OF_THE_MAKER = ("pipefs", "sockfs")
GIVEN = ("tmpfs", "devtmpfs", "devpts", "mqueue", "hugetlbfs")


def text() -> str:
    """The policy in CIL."""
    categories = " ".join("c%d" % number for number in range(1024))
    lines = ["(handleunknown allow)", "(policycap nnp_nosuid_transition)", "(mls true)", "(sensitivity s0)", "(sensitivityorder (s0))"]
    lines += ["(category %s)" % name for name in categories.split()]
    lines += ["(categoryorder (%s))" % categories, "(categoryset every (range c0 c1023))", "(sensitivitycategory s0 (every))"]
    lines += ["(level low (s0))", "(level high (s0 (every)))", "(levelrange lowest (low low))", "(levelrange all_levels (low high))"]
    lines += ["(class %s (%s))" % row for row in CLASSES.items()] + ["(classorder (%s))" % " ".join(CLASSES)]
    lines += ["(user system_u)", "(role system_r)", "(role object_r)", "(userrole system_u system_r)", "(userrole system_u object_r)"]
    lines += ["(userlevel system_u low)", "(userrange system_u all_levels)"]
    for name in TYPES:
        lines += ["(type %s)" % name, "(roletype system_r %s)" % name, "(roletype object_r %s)" % name]
    lines += ["(typeattribute everything)", "(typeattributeset everything (all))"]
    lines += ["(typeattribute entered)", "(typeattributeset entered (not (forbidden_t)))"]
    lines += ["(sid %s)" % name for name in SIDS] + ["(sidorder (%s))" % " ".join(SIDS)]
    lines += ["(sidcontext %s %s)" % (name, OF_KERNEL if name in ("kernel", "init") else OF_FILES) for name in SIDS]
    lines += ["(fsuse xattr %s %s)" % (name, OF_FILES) for name in WITH_LABELS]
    lines += ["(fsuse trans %s %s)" % (name, OF_FILES) for name in GIVEN]
    lines += ["(fsuse task %s %s)" % (name, OF_FILES) for name in OF_THE_MAKER]
    lines += ["(genfscon %s / %s)" % (name, OF_FILES) for name in WITHOUT]
    lines += ["(allow kernel_t everything (%s (all)))" % name for name in CLASSES if name != "process"]
    lines += ["(allow kernel_t entered (process (all)))", "(allow everything everything (filesystem (associate getattr)))"]
    # keys are what nothing else shows: each that is made for a container is reported
    lines += ["(auditallow kernel_t container_t (key (create)))"]
    lines += ["(allow container_t self (%s (all)))" % name for name in CLASSES if name not in ("filesystem", "blk_file")]
    lines += [
        "(allow container_t container_file_t (%s (all)))" % n for n in ("file", "dir", "lnk_file", "chr_file", "sock_file", "fifo_file")
    ]
    lines += ["(allow container_t kernel_t (fd (use)))", "(allow container_t kernel_t (fifo_file (all)))"]
    lines += ["(allow container_t kernel_t (process (sigchld)))", "(allow container_t kernel_t (unix_stream_socket (read write getattr)))"]
    lines += ["(allow container_t base_file_t (dir (search getattr read open)))", "(allow container_t base_file_t (chr_file (all)))"]
    lines += [
        "(allow container_t base_file_t (lnk_file (read getattr)))",
        "(allow container_t base_file_t (tcp_socket (name_bind node_bind)))",
    ]
    lines += ["(mlsconstrain (%s (read write open execute)) (or (dom h1 h2) (neq t1 container_t)))" % name for name in ("file", "dir")]
    return "\n".join(lines) + "\n"


def compiled(folder: pathlib.Path) -> bytes:
    """What goes into /sys/fs/selinux/load. FileNotFoundError: this machine has no secilc."""
    (folder / "policy.cil").write_text(text())
    argv = ["secilc", "-c", VERSION, "-o", folder / "policy", "-f", "/dev/null", folder / "policy.cil"]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return (folder / "policy").read_bytes()
