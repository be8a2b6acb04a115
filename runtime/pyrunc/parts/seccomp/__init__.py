"""The owner of /linux/seccomp (config-linux.md#seccomp): profile.py (the profile in numbers), cache.py (compiled filters), verbs.py.

plan() checks everything; host_compile produces the BPF program, from the cache or with libseccomp; one of three verbs then passes it to
finish(). Invariant: the filter is loaded exactly as the profile says, or the container does not start.
"""

from pyrunc.parts.seccomp.check import check
from pyrunc.parts.seccomp.profile import plan
from pyrunc.parts.seccomp.verbs import exec_waits, host_compile, host_deliver, op_early, op_late, op_notify, receiver

__all__ = ["check", "exec_waits", "host_compile", "host_deliver", "op_early", "op_late", "op_notify", "plan", "receiver"]
