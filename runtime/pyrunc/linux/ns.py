"""Making a process in new namespaces. Rule: what flags and which cgroup is the caller's business; the kernel's order is kept here."""

from pyrunc.linux import _syscalls

SIGCHLD = 17


def clone_init(run):
    """clone3 with the flags that `prepare` has gathered, into the cgroup if there is a descriptor of one. → (pid, pidfd); the
    child gets (0, -1) and all that was in memory. OSError with .call "clone3"."""
    return _syscalls.clone3(run.clone_flags, SIGCHLD, run.cgroup_fd)
