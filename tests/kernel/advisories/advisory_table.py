"""The advisories that concern a runtime, one row per mechanism: (numbers, where it was found, mechanism). Data only.

The name of a test contains a number from its row: `test_cve_2019_5736_…`, `test_ghsa_g54h_m393_cpwq_…`. The numbers in one row are the same
mistake, found again in another program or after a fix was lost.
"""

from __future__ import annotations

import re

ADVISORIES = [
    # ---- ids, groups, capabilities
    (["CVE-2016-3697", "GHSA-q3j5-32m5-58c2"], "runc", "a numeric user is looked up as a name in the image's passwd"),
    (["CVE-2016-8867"], "docker", "ambient capabilities are filled from the bounding set"),
    (["CVE-2022-29162", "CVE-2022-27650", "CVE-2025-27612", "CVE-2022-24769", "CVE-2022-27649", "CVE-2022-27652"], "runc, crun, youki, moby, podman, cri-o", "exec --cap makes a capability inheritable"),
    (["CVE-2026-30892", "GHSA-4vg2-xjqj-7chj"], "crun", "exec --user with an odd number runs as root"),
    (["CVE-2026-46680", "GHSA-fqw6-gf59-qr4w"], "containerd", "a number that is too large is looked up as a name"),
    (["CVE-2024-40635"], "containerd", "a large uid wraps to 0"),
    (["CVE-2022-36109", "CVE-2023-25173", "CVE-2022-2989", "CVE-2022-2990", "CVE-2022-2995"], "moby, containerd, podman, buildah, cri-o", "supplementary groups of somebody else come along"),
    (["CVE-2014-8989"], "kernel", "setgroups stays allowed where an ordinary user maps groups"),
    # ---- the executable of the host, descriptors
    (["CVE-2019-5736", "CVE-2020-14298", "GHSA-gxmr-w5mj-v8hh"], "runc, crun, youki", "the runtime's executable is reopened for writing"),
    (["CVE-2016-9962", "CVE-2020-14300", "GHSA-gp4j-w3vj-7299"], "runc", "descriptors of the joining process are reached through /proc"),
    (["CVE-2024-21626", "GHSA-xr7r-f8xq-vfvv"], "runc, youki", "a directory of the host stays open; cwd and program lead through it"),
    # ---- paths
    (["CVE-2019-18837"], "crun", "mount destinations follow links of the image to the host"),
    (["CVE-2019-19921", "CVE-2023-27561", "CVE-2023-28642", "CVE-2025-54867"], "runc, youki", "procfs is mounted behind a link, masks cover a decoy"),
    (["GHSA-3q8j-pf29-vwv8"], "youki", "masked and read-only paths are looked up by name more than once"),
    (["CVE-2021-30465", "GHSA-c3xm-pvg7-gh7r"], "runc", "a link is exchanged between looking and mounting"),
    (["CVE-2024-45310", "GHSA-jfvp-7x6p-h2pv"], "runc", "a race makes directories on the host"),
    (["CVE-2025-24965", "GHSA-f42g-r5jj-qh4j"], "crun", "a file that the runtime writes into the root is a link"),
    (["CVE-2026-87766", "GHSA-pxhw-h44j-8pfx"], "bubblewrap", "a parent of a destination is a link"),
    (["CVE-2021-43784", "GHSA-v95c-p5hm-xq8f"], "runc", "lengths overflow 16 bits, and namespaces get lost"),
    # ---- /dev
    (["CVE-2025-31133", "CVE-2025-62161", "GHSA-9493-h29p-rfm2"], "runc, youki", "the image's /dev/null is the cover of masked files"),
    (["CVE-2025-52565", "GHSA-qw9x-cqr3-wc7r"], "runc", "the image's /dev/pts/N or ptmx becomes the console"),
    (["CVE-2026-41579", "CVE-2026-47766", "GHSA-xjvp-4fhw-gc47"], "runc, crun", "devices are made in a /dev that is a link to the host"),
    (["CVE-2026-88264", "GHSA-j87h-qqch-77vc"], "crun", "a file is made on the host through /dev/console"),
    (["CVE-2026-88265", "GHSA-5j66-q287-fhqw"], "crun", "standard streams go to a file that poses as /dev/null"),
    # ---- /proc, settings
    (["CVE-2019-16884", "GHSA-fgv8-vj5c-2ppq"], "runc, crun", "labels go into a tree that poses as /proc"),
    (["CVE-2025-52881", "CVE-2025-62596", "GHSA-cgrx-mc8f-2prm"], "runc, youki", "a write below /proc is led to another file"),
    (["CVE-2022-0811"], "cri-o", "a sysctl's value sets another one"),
    (["CVE-2022-4318", "CVE-2026-15809"], "cri-o", "a line break in HOME becomes a line of passwd"),
    # ---- cgroups
    (["GHSA-g54h-m393-cpwq"], "runc", "devices are allowed unless denied"),
    (["CVE-2023-25809", "GHSA-m8cg-xc2p-r3fc"], "runc", "cgroups are writable in rootless containers"),
    (["CVE-2022-0492", "CVE-2022-0185"], "kernel", "release_agent, and mounts by a container's root, in what `spec` writes"),
    (["CVE-2025-47291", "GHSA-cxfp-7pvr-95ff"], "containerd", "a container is not in its cgroup, no limit holds"),
    # ---- filter
    (["CVE-2017-18367"], "libseccomp-golang", "arguments of one rule are joined by `or`"),
    # ---- code and data of the image in programs of the host
    (["CVE-2018-15664", "CVE-2019-14271"], "docker", "libraries and settings of the image are loaded"),
    (["CVE-2025-23266"], "NVIDIA toolkit, runc", "hooks on the host get the image's environment"),
    (["CVE-2026-84042"], "crun", "programs on the host are looked for where the image or the caller's directory has some"),
    (["CVE-2024-9676", "CVE-2024-9341"], "podman, buildah, cri-o", "a fifo or an endless file in place of passwd"),
    (["CVE-2026-47262", "GHSA-jpcc-p29g-p8mq"], "containerd", "a passwd or group of any size is read as a whole"),
    (["CVE-2024-3154", "GHSA-2cgq-h8xw-2v5j"], "cri-o", "annotations set properties of the container's systemd unit"),
    (["CVE-2026-53488", "CVE-2026-53492", "CVE-2026-53489"], "containerd", "annotations name files and commands of the host"),
    (["CVE-2026-94603", "CVE-2026-57231"], "podman", "values of the host where the config leaves them open"),
    # ---- other users and processes of the host
    (["CVE-2020-15257", "CVE-2021-41103", "CVE-2021-41091", "CVE-2024-25621"], "containerd, moby", "abstract sockets, directories that others can enter"),
    (["CVE-2026-97029", "GHSA-f3p8-vr7v-gxf2"], "flatpak", "a signal reaches a group with processes outside"),
]  # fmt: skip


def numbers_in(name: str) -> list[str]:
    """The advisories in the name of a test, spelled as in the table."""
    found = ["CVE-%s-%s" % pair for pair in re.findall(r"cve_(\d{4})_(\d+)", name)]
    return found + ["GHSA-%s-%s-%s" % words for words in re.findall(r"ghsa_(\w{4})_(\w{4})_(\w{4})", name)]
