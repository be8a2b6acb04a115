"""The contents of a plan: {part: entry}. A part without an entry has nothing to do. Types only; never imported at run time."""

from typing import TypedDict

from pyrunc.parts import (
    capabilities,
    clocks,
    fds,
    hooks,
    host_mounts,
    idmaps,
    keyring,
    labels,
    landlock,
    mempolicy,
    meta,
    namespaces,
    netdevs,
    notify,
    oom,
    paths,
    personality,
    program,
    rdt,
    resources,
    rlimits,
    root,
    scheduling,
    sysctls,
    terminal,
    user,
    uts,
)
from pyrunc.parts.cgroups.plan import Entry as Cgroups
from pyrunc.parts.devices.plan import Entry as Devices
from pyrunc.parts.mounts.plan import Entry as Mounts
from pyrunc.parts.seccomp.profile import Entry as Seccomp

class Plans(TypedDict, total=False):
    meta: meta.Entry
    namespaces: namespaces.Entry
    notify: notify.Entry
    idmaps: idmaps.Entry
    clocks: clocks.Entry
    netdevs: netdevs.Entry
    root: root.Entry
    host_mounts: host_mounts.Entry
    cgroups: Cgroups
    resources: resources.Entry
    rdt: rdt.Entry
    labels: labels.Entry
    mounts: Mounts
    paths: paths.Entry
    uts: uts.Entry
    sysctls: sysctls.Entry
    user: user.Entry
    fds: fds.Entry
    rlimits: rlimits.Entry
    terminal: terminal.Entry
    devices: Devices
    program: program.Entry
    capabilities: capabilities.Entry
    oom: oom.Entry
    scheduling: scheduling.Entry
    personality: personality.Entry
    mempolicy: mempolicy.Entry
    seccomp: Seccomp
    landlock: landlock.Entry
    hooks: hooks.Entry
    keyring: keyring.Entry
