"""config.md#configPOSIXUser, #configHostname, #configDomainname."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oci_conformance.bundle import ABSENT
from oci_conformance.case import case

if TYPE_CHECKING:
    from oci_conformance.trial import Trial


@case("user.uid", "user.gid", level="core")
def ids(t: Trial) -> None:
    """uid and gid are all the user and group ids of the program."""
    seen = t.observe({"/process/user": {"uid": 1234, "gid": 4321}})
    t.equal([seen.get(key) for key in ("uid", "euid", "suid")], [1234] * 3, "real, effective and saved user", "user.uid")
    t.equal([seen.get(key) for key in ("gid", "egid", "sgid")], [4321] * 3, "real, effective and saved group", "user.gid")


@case("user.additional-gids", level="core")
def groups(t: Trial) -> None:
    """additionalGids are the supplementary groups; the caller's are not kept."""
    seen = t.observe({"/process/user/additionalGids": [7, 1000, 65533]})
    t.equal(sorted(set(seen.get("groups", ())) - {0}), [7, 1000, 65533], "groups")
    seen = t.observe({"/process/user": {"uid": 1000, "gid": 1000}})
    t.equal(sorted(set(seen.get("groups", ())) - {1000}), [], "groups without additionalGids")


@case("user.umask", level="core")
def umask(t: Trial) -> None:
    """umask is the umask of the program."""
    for value in (0o77, 0o2, 0):
        seen = t.observe({"/process/user/umask": value}, "self", "mkdir /tmp/made", "stat /tmp/made")
        t.equal(seen[0].get("umask"), value, "umask %03o" % value)
        t.equal(seen[2].get("mode"), 0o777 & ~value, "mode of a directory that it makes under %03o" % value)


@case("user.umask.unset", level="core")
def umask_unset(t: Trial) -> None:
    """Without umask, that of the calling process is kept."""
    made = t.container(None, "self")
    made.expect(made.try_create(umask=0o27), "create")
    made.watch()
    made.start()
    t.equal(made.finish()[0].get("umask"), 0o27, "umask")


@case("hostname", level="core")
def hostname(t: Trial) -> None:
    """The program sees hostname, and the caller's host name is not changed."""
    import os

    before = os.uname().nodename
    t.equal(t.observe({"/hostname": "a-conforming-host"}).get("hostname"), "a-conforming-host", "host name")
    t.equal(os.uname().nodename, before, "host name of the caller")


@case("hostname", level="core")
def no_hostname(t: Trial) -> None:
    """Without hostname, a new UTS namespace has the caller's."""
    import os

    t.equal(t.observe({"/hostname": ABSENT}).get("hostname"), os.uname().nodename, "host name")


@case("domainname", level="core")
def domainname(t: Trial) -> None:
    """The program sees domainname."""
    t.equal(t.observe({"/domainname": "conforming.test"}).get("domainname"), "conforming.test", "domain name")
