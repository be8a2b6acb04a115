"""parts/mounts/options: from options to flags, following the tables in config.md and mount_setattr(2)."""

import pytest

from pyrunc.linux import constants as c
from pyrunc.parts.mounts import options
from pyrunc.parts.mounts.options import parse

# config-linux.md and mount(8): name, flag, set or cleared
TABLE = """
async SYNCHRONOUS clear; sync SYNCHRONOUS set; atime NOATIME clear; noatime NOATIME set; dev NODEV clear; nodev NODEV set;
diratime NODIRATIME clear; nodiratime NODIRATIME set; dirsync DIRSYNC set; exec NOEXEC clear; noexec NOEXEC set; iversion I_VERSION set;
noiversion I_VERSION clear; lazytime LAZYTIME set; nolazytime LAZYTIME clear; loud SILENT clear; silent SILENT set; mand MANDLOCK set;
nomand MANDLOCK clear; norelatime RELATIME clear; relatime RELATIME set; nostrictatime STRICTATIME clear; strictatime STRICTATIME set;
nosuid NOSUID set; suid NOSUID clear; nosymfollow NOSYMFOLLOW set; symfollow NOSYMFOLLOW clear; remount REMOUNT set; ro RDONLY set;
rw RDONLY clear; bind BIND set; acl POSIXACL set; noacl POSIXACL clear
"""
ROWS = [row.split() for row in TABLE.replace("\n", " ").split(";")]


@pytest.mark.parametrize(("name", "flag", "how"), ROWS, ids=[row[0] for row in ROWS])
def test_each_flag(name, flag, how):
    bit = getattr(c, "MS_" + flag)
    out = parse([name])
    assert (out["flags"], out["clear"]) == ((bit, 0) if how == "set" else (0, bit))
    assert not out["data"] and not out["propagation"] and not out["rec_set"] and not out["rec_clr"]


def test_the_table_is_complete():
    assert set(options.FLAGS) == {row[0] for row in ROWS} | {"defaults", "rbind"}


def test_rbind_and_defaults():
    assert parse(["rbind"])["flags"] == c.MS_BIND | c.MS_REC
    assert parse(["defaults"])["flags"] == 0 and parse(["defaults"])["data"] == []


@pytest.mark.parametrize(
    ("words", "flags", "clear"),
    [
        (["ro", "rw"], 0, c.MS_RDONLY),
        (["rw", "ro"], c.MS_RDONLY, 0),
        (["nosuid", "suid", "nosuid"], c.MS_NOSUID, 0),
        (["", "ro", ""], c.MS_RDONLY, 0),
        ([], 0, 0),
    ],
)
def test_the_last_word_wins(words, flags, clear):
    out = parse(words)
    assert (out["flags"], out["clear"]) == (flags, clear)


@pytest.mark.parametrize("kind", ["private", "shared", "slave", "unbindable"])
def test_propagation(kind):
    bit = getattr(c, "MS_" + kind.upper())
    assert parse([kind, "r" + kind])["propagation"] == [bit, bit | c.MS_REC]


def test_words_that_nobody_knows_are_data_in_order():
    out = parse(["size=1m", "ro", "mode=700", "Ro", "rasync", "rsync", "rmand", "X-mount.mkdir"])
    assert out["data"] == [["size=1m", 0], ["mode=700", 2], ["Ro", 3], ["rasync", 4], ["rsync", 5], ["rmand", 6], ["X-mount.mkdir", 7]]


def test_extensions():
    words = ["tmpcopyup", "idmap", "ridmap", "idmap=uids=0-1-1;gids=0-1-1", "copy-symlink", "src-nofollow", "dest-nofollow"]
    assert parse(words)["extensions"] == words and parse(words)["data"] == []


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("rro", "RDONLY"),
        ("rnosuid", "NOSUID"),
        ("rnodev", "NODEV"),
        ("rnoexec", "NOEXEC"),
        ("rnodiratime", "NODIRATIME"),
        ("rnosymfollow", "NOSYMFOLLOW"),
    ],
)
def test_recursive_attributes(name, attribute):
    bit = getattr(c, "MOUNT_ATTR_" + attribute)
    opposite = {"rro": "rrw", "rnosymfollow": "rsymfollow"}.get(name, "r" + name[3:])
    assert (parse([name])["rec_set"], parse([name])["rec_clr"]) == (bit, 0)
    assert (parse([opposite])["rec_set"], parse([opposite])["rec_clr"]) == (0, bit)
    out = parse([name, opposite])
    assert (out["rec_set"], out["rec_clr"]) == (0, bit)
    out = parse([opposite, name])
    assert (out["rec_set"], out["rec_clr"]) == (bit, 0)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["rnoatime"], c.MOUNT_ATTR_NOATIME),
        (["rstrictatime"], c.MOUNT_ATTR_STRICTATIME),
        (["rrelatime"], 0),
        (["ratime"], 0),
        (["rnostrictatime"], 0),
        (["rnoatime", "rstrictatime"], c.MOUNT_ATTR_STRICTATIME),
        (["rstrictatime", "ratime"], 0),
        (["rnoatime", "rnorelatime"], c.MOUNT_ATTR_NOATIME),
    ],
)
def test_access_times_are_one_field(words, value):
    """mount_setattr(2): setting a value requires clearing the whole field, and two values in it are EINVAL."""
    out = parse(words)
    assert (out["rec_set"], out["rec_clr"]) == (value, c.MOUNT_ATTR__ATIME)


def test_rnorelatime_alone_changes_nothing():
    out = parse(["rnorelatime"])
    assert (out["rec_set"], out["rec_clr"]) == (0, 0)


def test_every_recursive_option_is_listed():
    assert len(options.RECURSIVE) == 18 and set(options.ATIMES) < set(options.RECURSIVE)


# ---- flags to attributes


@pytest.mark.parametrize(
    ("flags", "attributes"),
    [
        (0, 0),
        (c.MS_RDONLY | c.MS_NOSUID | c.MS_NODEV | c.MS_NOEXEC, 0xF),
        (c.MS_NOATIME, c.MOUNT_ATTR_NOATIME),
        (c.MS_RELATIME, 0),
        (c.MS_STRICTATIME | c.MS_NOATIME, c.MOUNT_ATTR_STRICTATIME),
        (c.MS_NODIRATIME | c.MS_NOSYMFOLLOW, c.MOUNT_ATTR_NODIRATIME | c.MOUNT_ATTR_NOSYMFOLLOW),
        (c.MS_SYNCHRONOUS | c.MS_LAZYTIME | c.MS_BIND, 0),
    ],
)
def test_attributes(flags, attributes):
    assert options.attributes(flags) == attributes


def test_changes_set_all_but_the_access_times():
    attr_set, attr_clr = options.changes(c.MS_RDONLY)
    assert attr_set == c.MOUNT_ATTR_RDONLY
    assert attr_clr == c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_NOEXEC | c.MOUNT_ATTR_NOSYMFOLLOW
    attr_set, attr_clr = options.changes(c.MS_NODIRATIME)
    assert attr_set == c.MOUNT_ATTR_NODIRATIME and attr_clr & c.MOUNT_ATTR__ATIME == c.MOUNT_ATTR__ATIME
    attr_set, attr_clr = options.changes(c.MS_RELATIME)
    assert attr_clr & c.MOUNT_ATTR_NODIRATIME and not attr_set


def test_statfs_has_no_bit_for_strictatime():
    assert options.from_statfs(c.ST_NOSUID) == c.MS_NOSUID | c.MS_STRICTATIME
    assert options.from_statfs(c.ST_RELATIME | c.ST_RDONLY) == c.MS_RELATIME | c.MS_RDONLY
    assert options.from_statfs(c.ST_NOSYMFOLLOW | c.ST_NOATIME) == c.MS_NOSYMFOLLOW | c.MS_NOATIME


def test_names():
    assert options.names(c.MS_NOSUID | c.MS_RDONLY) == "nosuid,ro" and options.names(0) == "none"
