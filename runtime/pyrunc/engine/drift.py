"""How a live container differs from its saved plan: what the kernel shows now beside what create has decided. Reads only, takes no lock.

A row: {"area", "what", "planned", "seen", "pointer"}; seen None: it is not there. What the program itself may change (its ids, its
capabilities) is told as well: that is the question. What can't be read from here is a row of `unread`, never a silent pass.
"""

import posix

from pyrunc import lean
from pyrunc.engine import written
from pyrunc.errors import PyruncError, errno_text
from pyrunc.linux import caps, ns, paths
from pyrunc.linux import constants as c

PAGE = 4096
FLAGS = (("ro", c.MS_RDONLY), ("nosuid", c.MS_NOSUID), ("nodev", c.MS_NODEV), ("noexec", c.MS_NOEXEC), ("nosymfollow", c.MS_NOSYMFOLLOW))
UNLIMITED = (1 << 64) - 1
TABLE_LIMIT = 64 << 20


class Drift:
    """Collects rows. `run`: plans and pid of a container that lives."""

    def __init__(self, plans, pid, started):
        self.plans = plans
        self.pid = pid
        self.started = started  # whether the program runs: some things happen only then
        self.rows = []
        self.unread = []

    def differs(self, area, what, planned, seen, pointer=None):
        self.rows.append({"area": area, "what": what, "planned": planned, "seen": seen, "pointer": pointer})

    def look(self):
        for name, look in LOOKS:
            try:
                look(self)
            except (KeyError, TypeError, AttributeError):
                self.unread.append({"area": name, "why": "the saved plan is damaged, or of another version"})
            except (OSError, ValueError, IndexError) as e:
                why = errno_text(e.errno) if isinstance(e, OSError) and e.errno else str(e)
                self.unread.append({"area": name, "why": why})
        return self

    def proc(self, name):
        return lean.fsdecode(lean.read_file("/proc/%d/%s" % (self.pid, name), TABLE_LIMIT))


# -- namespaces, mounts, devices -----------------------------------------------------------------------------------------


def namespaces(drift):
    entry = drift.plans.get("namespaces")
    for kind in ns.FLAGS if entry else ():
        try:
            seen, ours = (posix.readlink("/proc/%s/ns/%s" % (pid, ns.FILES[kind])) for pid in (drift.pid, "self"))
        except FileNotFoundError:
            continue  # this kernel has none of that kind
        pointer = entry["pointers"].get(kind, "/linux/namespaces")
        if kind in entry["new"] and seen == ours:
            drift.differs("namespaces", kind, "its own", "the caller's", pointer)
        elif kind in entry["host"] and seen != ours:
            drift.differs("namespaces", kind, "the caller's", seen, pointer)
        elif kind in entry["join"]:
            wanted = _inode(entry["join"][kind])
            if wanted and not seen.endswith("[%d]" % wanted):
                drift.differs("namespaces", kind, "%s:[%d]" % (ns.FILES[kind], wanted), seen, pointer)


def _inode(path):
    """0 when the path is gone: the namespace lives on in its processes."""
    try:
        return posix.stat(path).st_ino
    except OSError:
        return 0


def mounts(drift):
    """Mounts of the config, masks, read-only paths and the root, each by what its path leads to now."""
    if "mount" in (drift.plans.get("namespaces") or {}).get("host", ()):
        return
    table = {}
    for line in drift.proc("mountinfo").split("\n"):
        fields = line.split(" ")
        if len(fields) > 6:
            table[int(fields[0])] = {"point": fields[4], "flags": set(fields[5].split(",")), "type": fields[fields.index("-") + 1]}
    root_fd = posix.open("/proc/%d/root" % drift.pid, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        _root(drift, table, root_fd)
        last = {item["destination"]: item for item in (drift.plans.get("mounts") or {}).get("list", ()) if item["kind"] != "remount"}
        for item in last.values():
            _mount(drift, table, root_fd, item)
        entry = drift.plans.get("paths") or {}
        for kind in ("masked", "readonly"):
            for path, pointer in entry.get(kind, ()):
                found = _at(table, root_fd, path)
                if found is not None and (not found["root"] or kind == "readonly" and "ro" not in found["flags"]):
                    drift.differs("mounts", path, kind, "open" if kind == "masked" else "writable", pointer)
        _nodes(drift, root_fd)
    finally:
        posix.close(root_fd)


def _root(drift, table, root_fd):
    entry = drift.plans.get("root") or {}
    found = table.get(paths.mount_id(root_fd))
    if found is not None and bool(entry.get("readonly")) != ("ro" in found["flags"]):
        words = ("read-only", "writable")
        drift.differs("mounts", "/", words[not entry.get("readonly")], words["ro" not in found["flags"]], "/root/readonly")


def _at(table, root_fd, path):
    """The mount that a path leads to, with "root": whether the path is its root; None where nothing is."""
    try:
        fd = paths.resolve(root_fd, path)
    except OSError as e:
        if e.errno in (2, 20):  # ENOENT, ENOTDIR
            return None
        raise
    try:
        return {"flags": set(), "type": None, **table.get(paths.mount_id(fd), {}), "root": paths.is_mount_root(fd)}
    finally:
        posix.close(fd)


def _mount(drift, table, root_fd, item):
    where = item["destination"]
    if "copy-symlink" in item["links"]:
        return
    found = _at(table, root_fd, where)
    if found is None or not found["root"]:
        drift.differs("mounts", where, item["type"] or item["kind"], None, item["pointer"])
        return
    if item["kind"] == "fs" and found["type"] and item["type"] != found["type"]:
        drift.differs("mounts", where, item["type"], found["type"], item["pointer"] + "/type")
    if item["kind"] in ("fs", "bind", "own"):
        lost = [word for word, flag in FLAGS if item["flags"] & flag and word not in found["flags"] and not item["copyup"]]
        for word in lost:
            drift.differs("mounts", where, word, "not " + word, item["pointer"] + "/options")


def _nodes(drift, root_fd):
    for node in (drift.plans.get("devices") or {}).get("nodes", ()):
        try:
            fd = paths.resolve(root_fd, node["path"])
        except OSError:
            drift.differs("devices", node["path"], "%s %d:%d" % (node["type"], node["major"], node["minor"]), None, node["pointer"])
            continue
        info = posix.fstat(fd)
        posix.close(fd)
        kinds = {0o020000: "c", 0o060000: "b", 0o010000: "p"}
        seen = (kinds.get(info.st_mode & 0o170000), posix.major(info.st_rdev), posix.minor(info.st_rdev))
        if seen != (node["type"], node["major"], node["minor"]) and node["type"] != "p":
            drift.differs(
                "devices", node["path"], "%s %d:%d" % (node["type"], node["major"], node["minor"]), "%s %d:%d" % seen, node["pointer"]
            )


# -- cgroups -------------------------------------------------------------------------------------------------------------


def cgroup(drift):
    """The control files, and whether init is still in its cgroup."""
    for row in _last(written.files(drift.plans)):
        try:
            seen = lean.fsdecode(lean.read_file(row["file"], 1 << 16)).strip()
        except OSError as e:
            seen = None
            if e.errno not in (2, 19):
                drift.unread.append({"area": "cgroup", "why": "%s: %s" % (row["file"], errno_text(e.errno))})
                continue
        if seen is None or not same_value(row["file"].rpartition("/")[2], row["value"], seen):
            drift.differs("cgroup", row["file"], row["value"], seen, row["pointer"])
    _place(drift)


def _last(rows):
    """Of several writes of one line of one file the last one."""
    found = {}
    for row in rows:
        first = row["value"].partition(" ")[0]
        found[row["file"], first if ":" in first else ""] = row
    return list(found.values())


def _place(drift):
    known = (drift.plans.get("cgroups") or {}).get("paths") or {}
    for line in drift.proc("cgroup").split("\n"):
        _number, _colon, rest = line.partition(":")
        names, _colon, path = rest.partition(":")
        for key in names.split(",") if names else ["unified"]:
            if key in known and path and not known[key].endswith(path) and path not in ("/", ""):
                drift.differs("cgroup", key, known[key], path, "/linux/cgroupsPath")


def same_value(name, wanted, seen):
    """Whether a control file shows what was written: the kernel rounds to pages, says `max`, and keeps a line for each device."""
    first, _blank, rest = wanted.partition(" ")
    if ":" in first or name in ("rdma.max", "net_prio.ifpriomap"):
        lines = {line.partition(" ")[0]: line.partition(" ")[2].split() for line in seen.split("\n")}
        given = rest.split()
        if given in (["0"], ["max"]) or all(word.endswith("=max") for word in given):
            return True  # no limit: the kernel shows no such line, or one with max
        return set(given) <= set(lines.get(first, ()))
    if name.startswith("cpuset."):
        return numbers(wanted) == numbers(seen)
    if name in ("cpu.max",):
        return wanted.split() == seen.split()
    if name == "memory.oom_control":
        return "oom_kill_disable %s" % wanted in seen
    if name in ("blkio.bfq.weight", "io.weight", "io.bfq.weight"):
        return wanted in seen.split()
    if not wanted.lstrip("-").isdigit():
        return wanted.split() == seen.split()
    number = int(wanted)
    if not seen.lstrip("-").isdigit():
        return seen == "max" and number < 0
    if number < 0:
        return int(seen) < 0 or int(seen) >= 1 << 62
    return number == int(seen) or name.startswith(("memory.", "hugetlb.")) and 0 < number - int(seen) < step_of(name)


def step_of(name):
    """What the kernel rounds down to: the page's size."""
    size = name.split(".")[1] if name.startswith("hugetlb.") else ""
    units = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
    return int(size[:-2]) * units[size[-2:]] if size[-2:] in units and size[:-2].isdigit() else PAGE


def numbers(text):
    """'0-2,5' -> {0, 1, 2, 5}"""
    found = set()
    for piece in text.replace("\n", ",").split(","):
        low, _dash, high = piece.strip().partition("-")
        if low.isdigit():
            found.update(range(int(low), min(int(high or low), int(low) + 8192) + 1))
    return found


# -- the process ---------------------------------------------------------------------------------------------------------


def privileges(drift):
    status = {line.partition(":")[0]: line.partition(":")[2].split() for line in drift.proc("status").split("\n")}
    entry = drift.plans.get("capabilities")
    if entry:
        wanted = after_exec(entry, (drift.plans.get("user") or {}).get("uid", 0)) if drift.started else entry
        for key, field in (
            ("bounding", "CapBnd"),
            ("effective", "CapEff"),
            ("permitted", "CapPrm"),
            ("inheritable", "CapInh"),
            ("ambient", "CapAmb"),
        ):
            seen = int(status[field][0], 16)
            if seen != wanted[key]:
                drift.differs("capabilities", key, caps.names(wanted[key]), caps.names(seen), "/process/capabilities/" + key)
        if entry["nnp"] and status.get("NoNewPrivs") == ["0"]:
            drift.differs("capabilities", "noNewPrivileges", True, False, "/process/noNewPrivileges")
    if drift.plans.get("seccomp") and drift.started and status.get("Seccomp") == ["0"]:
        drift.differs("capabilities", "seccomp", "a filter", "none", "/linux/seccomp")
    _ids(drift, status)


def after_exec(entry, uid):
    """What execve makes of the sets (capabilities(7)): root gets all that the bounding set has, unless noNewPrivileges is set; others keep
    the ambient set. The program's file is taken for one without capabilities of its own."""
    gained = entry["ambient"]
    if uid == 0:
        gained = entry["bounding"] | entry["inheritable"]
        gained = gained & entry["permitted"] if entry["nnp"] else gained
    return {**entry, "permitted": gained, "effective": gained}


def _ids(drift, status):
    entry = drift.plans.get("user")
    if not entry:
        return
    for kind, field, key in (("uid", "Uid", "uid"), ("gid", "Gid", "gid")):
        seen = inside(int(status[field][1]), drift.proc(kind + "_map"))
        if seen != entry[key]:
            drift.differs("user", kind, entry[key], seen, "/process/user/" + key)
    if entry["setgroups"]:
        table = drift.proc("gid_map")
        seen = sorted(str(inside(int(group), table)) for group in status["Groups"])
        if seen != sorted(str(group) for group in set(entry["groups"])):
            drift.differs(
                "user", "groups", sorted(set(entry["groups"])), [int(g) if g.isdigit() else g for g in seen], "/process/user/additionalGids"
            )


def inside(number, table):
    """An id of ours -> the container's, by a uid_map as we see it; the text '?' where it has none."""
    for line in table.split("\n"):
        fields = [int(word) for word in line.split()]
        if len(fields) == 3 and fields[1] <= number < fields[1] + fields[2]:
            return number - fields[1] + fields[0]
    return "?"


def limits(drift):
    """/proc/PID/limits has a line for each in the order of their numbers; prlimit(2) on another user's process takes CAP_SYS_RESOURCE."""
    lines = drift.proc("limits").split("\n")[1:]
    for name, number, soft, hard, index in (drift.plans.get("rlimits") or {}).get("list", ()):
        seen = ":".join(word.strip() for word in (lines[number][26:47], lines[number][47:68]))
        if seen != _pair(soft, hard):
            drift.differs("limits", name, _pair(soft, hard), seen, "/process/rlimits/%d" % index)
    entry = drift.plans.get("oom")
    if entry:
        seen = int(drift.proc("oom_score_adj"))
        if seen != entry["value"]:
            drift.differs("limits", "oomScoreAdj", entry["value"], seen, "/process/oomScoreAdj")


def _pair(soft, hard):
    return ":".join("unlimited" if value == UNLIMITED else "%d" % value for value in (soft, hard))


LOOKS = (("namespaces", namespaces), ("mounts", mounts), ("cgroup", cgroup), ("capabilities", privileges), ("limits", limits))


# -- the bundle ----------------------------------------------------------------------------------------------------------


def bundle(saved, path):
    """The saved config beside the bundle's now: (rows, reason why it can't be read or None)."""
    from pyrunc.oci import load, normalise

    try:
        now, _raw = load.config(path, path + "/config.json")
        now = normalise.config(now)
    except (PyruncError, OSError) as e:
        return [], getattr(e, "words", None) or str(e)
    rows = []
    for pointer, before, after in changed(saved, now):
        hidden = pointer.startswith("/process/env/") or "/env/" in pointer and pointer.startswith("/hooks/")
        planned, seen = ("…" if hidden and value is not None else value for value in (before, after))
        rows.append({"area": "config", "what": pointer, "planned": planned, "seen": seen, "pointer": pointer})
    return rows, None


def changed(before, after, pointer=""):
    """Yields (pointer, value before, value after) where two documents differ; None for what is not there."""
    if type(before) is dict and type(after) is dict:
        for key in dict.fromkeys([*before, *after]):
            yield from changed(before.get(key), after.get(key), pointer + "/" + lean.escape(key))
    elif type(before) is list and type(after) is list:
        for index in range(max(len(before), len(after))):
            one, other = (values[index] if index < len(values) else None for values in (before, after))
            yield from changed(one, other, "%s/%d" % (pointer, index))
    elif before != after:
        yield pointer, before, after
