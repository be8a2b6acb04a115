"""Constants of the Linux kernel that only tests need, under the kernel's names; the others are in pyrunc.linux.constants.

unit/test_constants.py compares both with the kernel headers.
"""

# clone(2), unshare(2), setns(2)
CLONE_FS = 0x200

# open(2) and the *at calls
RENAME_EXCHANGE = 2

# fcntl(2), flock(2), memfd_create(2), close_range(2)
F_ADD_SEALS = 1033
F_SEAL_SEAL = 0x1
F_SEAL_SHRINK = 0x2
F_SEAL_GROW = 0x4
F_SEAL_WRITE = 0x8

# statx(2)
STATX_BASIC_STATS = 0x7FF
STATX_MNT_ID = 0x1000

# statfs(2): f_type
TMPFS_MAGIC = 0x1021994

# prctl(2)
PR_GET_DUMPABLE = 3
PR_GET_KEEPCAPS = 7
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_NO_NEW_PRIVS = 38
PR_GET_SECCOMP = 21
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_IS_SET = 1
PR_CAP_AMBIENT_RAISE = 2

# keyctl(2)
KEYCTL_GET_KEYRING_ID = 0
KEY_SPEC_SESSION_KEYRING = -3

# seccomp(2)
SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_IOCTL_NOTIF_RECV = 0xC0502100
SECCOMP_IOCTL_NOTIF_SEND = 0xC0182101
BPF_K = 0
BPF_RET = 6

# sched_setattr(2), ioprio_set(2), set_mempolicy(2)
SCHED_BATCH = 3
IOPRIO_CLASS_BE = 2
IOPRIO_CLASS_SHIFT = 13
IOPRIO_WHO_PROCESS = 1
MPOL_DEFAULT = 0
MPOL_BIND = 2

# personality(2)
ADDR_NO_RANDOMIZE = 0x40000

# getrlimit(2)
RLIMIT_CORE = 4
RLIMIT_AS = 9

# ioctl(2): terminals, namespaces, network devices

# capabilities(7); the number of each is its position
CAP_CHOWN = 0
CAP_KILL = 5
CAP_SETGID = 6
CAP_SETUID = 7
CAP_LAST_CAP = 40
