"""/linux/devices and the nodes and links of /dev that every container has (runtime-spec, config-linux.md#devices, #default-devices,
runtime-linux.md#dev-symbolic-links).

Invariant: all work is done by *at calls on the descriptor of a directory inside the root, and a node is accepted only if its type
and numbers are right (CVE-2026-41579: an image's /dev that leads elsewhere; CVE-2025-31133: a fake /dev/null). The part terminal owns
/dev/console.
"""

from pyrunc.parts.devices.live import changed, live_binds, live_make, live_plan, live_remove, live_source
from pyrunc.parts.devices.make import host_answer, init_make
from pyrunc.parts.devices.plan import plan

__all__ = ["changed", "host_answer", "init_make", "live_binds", "live_make", "live_plan", "live_remove", "live_source", "plan"]
