"""How `plan` shows the entries of the parts: engine/preview.py and parts/shown."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import pyrunc
from pyrunc.engine import preview
from pyrunc.linux import constants as c
from pyrunc.linux import filters, flag_names

FOLDER = Path(pyrunc.__file__).parent / "parts/shown"
MODULES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__init__")
MOUNT = {
    "pointer": "/mounts/0", "destination": "/x", "source": "tmpfs", "type": "tmpfs", "kind": "fs", "flags": c.MS_NOSUID | c.MS_NODEV,
    "clear": c.MS_NOEXEC, "propagation": [c.MS_REC | c.MS_SLAVE, c.MS_REC | c.MS_SHARED], "rec_set": c.MOUNT_ATTR_RDONLY, "rec_clr": 0,
    "data": [["size=1k", 3]], "copyup": True, "late": False, "idmap": None, "label": None, "links": [],
}  # fmt: skip


def test_every_module_is_listed() -> None:
    assert tuple(path.stem for path in MODULES) == preview.SHOWN


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_has_nothing_but_the_forms(path: Path) -> None:
    """A function with another name would never be called."""
    names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
    public = {name for name in names if not name.startswith("_")}
    assert public and public <= set(preview.FORMS)


# (part, entry, form, what is shown)
SHOWN: list[tuple[str, Any, str, Any]] = [
    ("oom", {"value": 5}, "brief", {"value": 5}),
    ("program", None, "public", None),
    ("program", {"args": ["a"], "env": ["A=secret", "B"]}, "brief", {"args": ["a"], "env": ["A=…", "B=…"]}),
    ("hooks", {"poststop": [{"path": "/h", "env": ["A=secret"]}, {"path": "/i", "env": None}]}, "public",
     {"poststop": [{"path": "/h", "env": ["A=…"]}, {"path": "/i", "env": None}]}),
    ("capabilities", {"bounding": 3, "ambient": 0, "last": 40}, "readable", {"bounding": ["CAP_CHOWN", "CAP_DAC_OVERRIDE"], "ambient": [], "last": 40}),
    ("capabilities", {"bounding": 3, "ambient": 0, "last": 40}, "brief", {"bounding": "CAP_CHOWN, CAP_DAC_OVERRIDE", "ambient": "", "last": 40}),
    ("cgroups", {"manager": "cgroupfs", "paths": {}, "mounts": {"unified": "/x"}}, "brief", {"manager": "cgroupfs", "paths": {}}),
    ("mempolicy", {"mode": 2 | 1 << 15, "nodes": []}, "readable", {"mode": ["MPOL_BIND", "MPOL_F_STATIC_NODES"], "nodes": []}),
    ("mempolicy", {"mode": 0, "nodes": []}, "readable", {"mode": ["MPOL_DEFAULT"], "nodes": []}),
    ("mounts", {"list": [MOUNT]}, "brief",
     {"list": ['/x tmpfs from tmpfs (nosuid,nodev,size=1k,clear=["noexec"],propagation=["rec","slave","shared"],rec_set=["rdonly"],copyup=true)']}),
    ("namespaces", {"new": [], "flags": c.CLONE_NEWPID, "pointers": {}}, "readable", {"new": [], "flags": ["pid"], "pointers": {}}),
    ("namespaces", {"new": [], "flags": 0, "pointers": {"pid": "/x"}}, "brief", {"new": [], "flags": []}),
    ("paths", {"masked": [["/a", "/p"], ["/b", "/p"]], "readonly": [], "label": None}, "brief", {"masked": "/a, /b", "readonly": "", "label": None}),
    ("resources", {"devices": [[False, "a", -1, -1, "rwm"], [True, "c", 1, 3, "rw"]]}, "brief", {"devices": ["deny a *:* rwm", "allow c 1:3 rw"]}),
    ("rlimits", {"list": [["RLIMIT_CORE", 4, 0, 1, 0]]}, "brief", {"list": ["RLIMIT_CORE soft 0 hard 1"]}),
    ("personality", {"domain": 8}, "brief", {"domain": "LINUX32"}),
    ("scheduling", {"exec": False, "scheduler": [6, 1, 0, 0, 10, 20, 30, 0, 0], "ioprio": 2 << 13 | 4, "initial": [[0, 0], [2, 3]], "final": None},
     "brief", {"exec": False, "scheduler": "SCHED_DEADLINE SCHED_FLAG_RESET_ON_FORK runtime=10 deadline=20 period=30",
               "ioprio": "IOPRIO_CLASS_BE 4", "initial": "0,2-3", "final": None}),
    ("scheduling", {"scheduler": [0, 0, -5, 0, 0, 0, 0, 0, 0], "ioprio": None, "initial": None, "final": [[1, 1]]}, "readable",
     {"scheduler": "SCHED_OTHER nice=-5", "ioprio": None, "initial": None, "final": "1"}),
    ("scheduling", {"scheduler": None, "ioprio": None, "initial": None, "final": None}, "readable",
     {"scheduler": None, "ioprio": None, "initial": None, "final": None}),
    ("sysctls", {"list": [["a.b", "a/b", "1"]], "foreign": {}}, "brief", {"list": ["a.b = 1"], "foreign": {}}),
    ("user", {"umask": 0o22}, "readable", {"umask": "022"}),
]  # fmt: skip


@pytest.mark.parametrize("part, entry, form, shown", SHOWN, ids=lambda value: value if isinstance(value, str) else "")
def test_form(part: str, entry: Any, form: str, shown: Any) -> None:
    assert preview.shown(part, entry, form) == shown


SECCOMP: dict[str, Any] = {
    "profile": {"default": filters.ERRNO | 1, "arches": ["SCMP_ARCH_X86_64"], "enosys": True, "strict": False, "rules": [
        {"names": ["read", "write"], "action": filters.ALLOW, "args": [], "at": "/linux/seccomp/syscalls/0"},
        {"names": ["clone"], "action": filters.KILL_PROCESS, "args": [[0, filters.MASKED_EQ, 0x7e020000, 0], [1, 6, 4096, 0]], "at": "/linux/seccomp/syscalls/1"}]},
    "flags": filters.FLAG_LOG | filters.FLAG_SPEC_ALLOW, "notify": False, "listener": None, "metadata": None, "raw": None,
}  # fmt: skip


def test_seccomp() -> None:
    brief, readable = (preview.shown("seccomp", SECCOMP, form) for form in ("brief", "readable"))
    assert brief["profile"]["rules"] == ["ALLOW read, write", "KILL_PROCESS clone if arg0 & 0x7e020000 == 0x0 and arg1 > 4096"]
    assert [rule["args"] for rule in readable["profile"]["rules"]] == [[], ["arg0 & 0x7e020000 == 0x0", "arg1 > 4096"]]
    for found in (brief, readable):
        assert found["profile"]["default"] == "ERRNO(1)" and found["flags"] == ["LOG", "SPEC_ALLOW"]


def test_every_comparison_has_a_sign() -> None:
    from pyrunc.parts.shown import seccomp

    assert {*seccomp.SIGNS, filters.MASKED_EQ} == set(filters.OPERATORS.values())


def test_devices() -> None:
    entry = {
        "nodes": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "mode": 0o666, "uid": 0, "gid": 5}],
        "links": [["fd", "/proc"]],
    }
    assert preview.shown("devices", entry, "brief") == {"nodes": ["/dev/x c 1:3 mode 0666 owner 0:5"], "links": "fd -> /proc"}
    assert preview.shown("devices", entry, "readable")["nodes"][0]["mode"] == "0666"


def test_flags_that_share_a_bit_are_named_once() -> None:
    """rslave and rshared of one mount both have MS_REC."""
    assert preview.shown("mounts", {"list": [MOUNT]}, "readable")["list"][0]["propagation"] == ["rec", "slave", "shared"]


def test_a_bit_without_a_name() -> None:
    assert flag_names.named(c.MS_RDONLY | 1 << 40, "MS_") == ["rdonly", "0x10000000000"]
    assert flag_names.named(0, "MS_") == []
