"""ps ID [PS-ARGUMENTS]: lists the processes of a container, as the rows that ps(1) prints for them, or with --format json as their pids."""

from __future__ import annotations

import posix

from pyrunc import fileio, jsonio
from pyrunc.cgroup import kill
from pyrunc.commands import choice
from pyrunc.commands.lookup import open_state
from pyrunc.engine import status
from pyrunc.errors import StepFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.state_document import State


PS = ("/usr/bin/ps", "/bin/ps")


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "ps", "table", "json")
    state_dir = open_state(options, args[0], quiet=True)
    paths = state_dir.state.get("cgroup_paths")
    pids = kill.procs(paths) if paths else _by_namespace(state_dir.state)
    if style == "json":
        fileio.write_all(1, (jsonio.dumps(pids or None) + "\n").encode())
        return 0
    fileio.write_all(1, "\n".join(rows(_output(args[1:] or ["-ef"]), set(pids))).encode("utf-8", "surrogateescape") + b"\n")
    return 0


def _by_namespace(state: State) -> list[int]:
    """For a rootless container without a cgroup: the processes in init's pid namespace, or only init if the container has no private
    one."""
    if not status.is_alive(state):
        return []
    wanted = _pid_namespace(state["pid"])
    if not state["own_pid_ns"] or wanted is None:
        return [state["pid"]]
    return sorted(int(name) for name in posix.listdir("/proc") if name.isdigit() and _pid_namespace(name) == wanted)


def _pid_namespace(pid: int | str) -> str | None:
    try:
        return posix.readlink("/proc/%s/ns/pid" % pid)
    except OSError:
        return None  # it has ended, or access is denied


def rows(text: str, pids: set[int]) -> list[str]:
    """The header, and the lines whose PID is one of `pids`. StepFailure if there is no PID column."""
    lines = text.rstrip("\n").split("\n")
    titles = lines[0].split()
    if "PID" not in titles:
        raise StepFailure("no-pid-column", "couldn't find PID field in ps output", "ps", "host", hint="let ps print the pid, too")
    column = titles.index("PID")
    kept = [lines[0]]
    for line in lines[1:]:
        fields = line.split()
        if len(fields) > column and fields[column].isdigit() and int(fields[column]) in pids:
            kept.append("".join(c if c.isprintable() else "?" for c in line))
    return kept


def _output(arguments: list[str]) -> str:
    for path in PS:
        try:
            posix.stat(path)
        except OSError:
            continue
        return _run([path, *arguments])
    raise StepFailure("no-ps", "no ps(1) on this host", "ps", "host", path=PS[0], hint="install procps, or use --format json")


def _run(argv: list[str]) -> str:
    """The output of a program that runs with the caller's environment."""
    environment = dict(x.partition(b"=")[::2] for x in fileio.own_environ() if b"=" in x)
    ours, theirs = posix.pipe2(posix.O_CLOEXEC)
    try:
        pid = posix.posix_spawn(argv[0], argv, environment, file_actions=[(posix.POSIX_SPAWN_DUP2, theirs, 1)], setsigdef=[13])
        posix.close(theirs)
        theirs = -1
        parts = []
        while piece := posix.read(ours, 1 << 16):
            parts.append(piece)
        _pid, status = posix.waitpid(pid, 0)
    finally:
        posix.close(ours)
        if theirs >= 0:
            posix.close(theirs)
    if status:
        raise StepFailure(
            "ps-failed",
            "%s failed with status %d" % (argv[0], posix.waitstatus_to_exitcode(status)),
            "ps",
            "host",
            path=argv[0],
            hint="its message is above",
        )
    return fileio.fsdecode(b"".join(parts))
