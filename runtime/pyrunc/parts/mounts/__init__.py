"""The owner of /mounts (runtime-spec, config.md#mounts): options.py (words -> flags), plan.py, mountpoint.py, bind.py,
filesystems.py, cgroupfs.py and copyup.py (the kinds), init.py (the verbs), host.py (the host side), check.py (for validate), live.py (running containers)."""

from pyrunc.parts.mounts.check import check
from pyrunc.parts.mounts.host import host_answer
from pyrunc.parts.mounts.init import init_finish, init_mount
from pyrunc.parts.mounts.plan import plan

__all__ = ["check", "host_answer", "init_finish", "init_mount", "plan"]
