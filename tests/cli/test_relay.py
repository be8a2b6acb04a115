"""run and exec in the foreground: every byte arrives, control keys work, and the caller's terminal is restored."""

import fcntl
import hashlib
import os
import pty
import random
import select
import signal
import struct
import subprocess
import termios
import threading

import pytest

import harness
import hoststate

MIB = 1 << 20
KINDS = ("run", "exec")
pytestmark = pytest.mark.kernel


@pytest.fixture
def argv_of(runtime, make_bundle):
    """argv_of(kind, script, terminal) -> argv that runs the script in the foreground in a container, with or without a terminal."""

    def make(kind, script, terminal=True):
        args = ["/bin/sh", "-c", script]
        if kind == "run":
            return runtime.argv("run", "--bundle", make_bundle({"/process/terminal": terminal}, args=args), runtime.new_id())
        id = runtime.started(make_bundle(args=harness.WAIT_FOR_TERM))
        return runtime.argv("exec", *(["--tty"] if terminal else []), id, *args)

    return make


def noise(size):
    """Bytes of all values, always the same ones."""
    return random.Random(5).randbytes(min(size, MIB)) * max(1, size // MIB)


def through(argv, data):
    """The output of a process that gets `data` on a pipe."""
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def write():
        with process.stdin as file:
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    out = process.stdout.read()
    writer.join()
    process.stdout.close()
    assert process.wait(harness.WATCHDOG) == 0
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_megabytes_through_pipes(argv_of, kind):
    data = noise(100 * MIB)
    assert hashlib.sha256(through(argv_of(kind, "cat", terminal=False), data)).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("mib", [4, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", KINDS)
def test_output_of_a_terminal(argv_of, kind, mib):
    """The program writes to a raw terminal: the runtime's standard output has each byte once, including the last ones before it exits."""
    argv = argv_of(kind, "stty raw -echo; i=0; while [ $i -lt %d ]; do cat /noise; i=$((i+1)); done" % mib)
    rootfs = bundle_of(argv)
    data = noise(MIB)
    (rootfs / "noise").write_bytes(data)
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    with process.stdout as file:
        found = hashlib.sha256()
        while piece := file.read(1 << 16):
            found.update(piece)
    assert process.wait(harness.WATCHDOG) == 0
    assert found.digest() == hashlib.sha256(data * mib).digest()


@pytest.mark.parametrize("mib", [2, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", KINDS)
def test_input_of_a_terminal(argv_of, kind, mib):
    """What the caller writes reaches a program that reads from a raw terminal."""
    data = noise(mib * MIB)
    argv = argv_of(kind, "stty raw -echo; echo ready; head -c %d | sha256sum" % len(data))
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process.stdin as to, process.stdout as out:
        assert b"ready" in out.readline()
        to.write(data)
        to.flush()
        assert out.readline().split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert process.wait(harness.WATCHDOG) == 0


def bundle_of(argv):
    """The rootfs of the container that this argv runs, or that it runs in."""
    import json
    import pathlib

    if "--bundle" in argv:
        return pathlib.Path(argv[argv.index("--bundle") + 1]) / "rootfs"
    root, id = argv[argv.index("--root") + 1], argv[argv.index("--tty") + 1]
    done = subprocess.run([argv[0], "--root", root, "state", id], capture_output=True, check=True, text=True)
    return pathlib.Path(json.loads(done.stdout)["rootfs"])


# -- with a terminal -----------------------------------------------------------------------------------------------------


class Screen:
    """A runtime on a new terminal; the test holds the other end."""

    def __init__(self, argv, change=None):
        self.argv = argv
        self.master, self.slave = pty.openpty()
        if change is not None:
            settings = termios.tcgetattr(self.slave)
            change(settings)
            termios.tcsetattr(self.slave, termios.TCSANOW, settings)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            argv, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.seen = b""

    def type(self, data):
        os.write(self.master, data)

    def until(self, word):
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        while word.encode() not in self.seen:
            assert poll.poll(harness.WATCHDOG * 1000), self.seen
            self.seen += os.read(self.master, 65536)
        before, _, self.seen = self.seen.partition(word.encode())
        return before.decode("utf-8", "replace")

    def size(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self):
        """The exit status; also reads the remaining output, so that the process does not block."""
        while self.process.poll() is None:
            if select.select([self.master], [], [], 0.02)[0]:
                self.seen += os.read(self.master, 65536)
        return self.process.returncode

    @property
    def settings(self):
        return termios.tcgetattr(self.slave)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def screen():
    made = []

    def make(*args):
        made.append(Screen(*args))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("kind", KINDS)
def test_line_ends(argv_of, screen, kind):
    """Line feeds of the program arrive unchanged, as with runc; the caller's terminal adds carriage returns once."""
    argv = argv_of(kind, "echo one; echo two")
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=harness.WATCHDOG)
    assert (done.stdout, done.stderr) == (b"one\ntwo\n", b"")
    one = screen(argv_of(kind, "echo one; echo two"))
    assert one.end() == 0
    os.set_blocking(one.master, False)
    try:
        one.seen += os.read(one.master, 4096)
    except BlockingIOError:
        pass
    assert one.seen == b"one\r\ntwo\r\n"


KEYS = "trap 'echo INT-came' INT; trap 'echo TSTP-came' TSTP; trap 'echo QUIT-came' QUIT; trap 'stty size' WINCH; "


@pytest.mark.parametrize("kind", KINDS)
def test_keys_and_sizes(argv_of, screen, kind):
    """^C, ^Z and ^\\ send signals to the container and not to the runtime; each new size is passed on; ^D ends the input."""
    # The shell waits for a child that the keys neither end nor stop. (`read` of busybox 1.38 never returns after a signal with a trap.)
    loop = "mkfifo /gate; (trap '' INT TSTP QUIT WINCH; echo ready; read word < /gate) & while [ ! -e /over ]; do wait; done; "
    one = screen(argv_of(kind, KEYS + loop + "echo next; cat; echo over; exit 7"))
    one.until("ready")
    for key, word in ((b"\x03", "INT-came"), (b"\x1a", "TSTP-came"), (b"\x1c", "QUIT-came")):
        one.type(key)
        one.until(word)
    for rows, columns in ((11, 22), (300, 500)):
        one.size(rows, columns)
        one.until("%d %d" % (rows, columns))
    assert one.process.poll() is None and not one.settings[3] & termios.ICANON
    rootfs = bundle_of(one.argv)
    (rootfs / "over").touch()
    (rootfs / "gate").write_text("\n")
    one.until("next")
    one.type(b"typed\r")
    one.until("typed")  # the echo
    one.until("typed")
    one.type(b"\x04")
    one.until("over")
    assert one.end() == 7
    assert one.settings == one.before


def unusual(settings):
    settings[3] &= ~termios.ECHO
    settings[6][termios.VINTR] = b"\x05"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["exit", "signal", "failure", "term"])
def test_the_terminal_is_restored(runtime, argv_of, screen, kind, ending):
    """Whatever the settings were, and however the command ends."""
    script = {
        "exit": "exit 3",
        "signal": "[ $$ = 1 ] || kill -KILL $$; echo ready; sleep 1000",
        "failure": "true",
        "term": "trap 'exit 5' TERM; echo ready; while :; do sleep 1; done",
    }
    argv = argv_of(kind, script[ending])
    if ending == "failure":
        argv = [word if word != "/bin/sh" else "/no/such" for word in argv] if kind == "exec" else [*argv[:-1], "bad/id"]
    one = screen(argv, unusual)
    if ending == "term":
        one.until("ready")
        one.process.terminate()
    if ending == "signal" and kind == "run":
        one.until("ready")
        runtime.kill(runtime.ids[-1], "KILL")
    code = one.end()
    assert code == {"exit": 3, "signal": 137, "term": 5, "failure": 255 if kind == "exec" else 1}[ending], one.seen
    assert one.settings == one.before


def test_a_runtime_that_is_killed(runtime, argv_of, screen):
    """Nothing can restore the terminal then. The container keeps running and can be found, and the next command on this terminal restores the
    settings that it found."""
    one = screen(argv_of("run", "echo ready; exec sleep 1000"))
    one.until("ready")
    one.process.kill()
    one.process.wait()
    id = runtime.ids[-1]
    assert runtime.status(id) == "running"
    left = one.settings
    assert not left[3] & termios.ICANON
    runtime.ok("delete", "--force", id)
    done = subprocess.run(argv_of("exec", "true"), stdin=one.slave, stdout=one.slave, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"") and one.settings == left


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_input_does_not_end_it(argv_of, kind):
    """Standard input is /dev/null and there is a terminal: the runtime keeps running, and sleeps while idle."""
    process = subprocess.Popen(argv_of(kind, "echo ready; read x; echo over"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    with process.stdout as out:
        assert out.readline().strip() == "ready"
        while hoststate.state_of(process.pid) != "S":
            select.select([], [], [], 0.002)
        states = []
        for _ in range(200):
            states.append(hoststate.state_of(process.pid))
            select.select([], [], [], 0.002)
        assert states.count("S") > 190, states
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_reads_the_output(argv_of, kind):
    """If the reader closes the pipe, the container does not end and keeps writing."""
    argv = argv_of(kind, "stty raw; echo ready; read x; head -c 300000 /dev/zero; exit 4")
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert b"ready" in process.stdout.readline()
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.wait(harness.WATCHDOG) == 4


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGWINCH, signal.SIGRTMIN + 3])
def test_signals_are_passed_on(argv_of, number):
    name = {signal.SIGWINCH: "WINCH"}.get(number, str(int(number)))
    argv = argv_of("exec", "trap 'echo came; exit 6' %s; echo ready; while :; do sleep 1000 & wait; done" % name, terminal=False)
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    with process.stdout as out:
        assert out.readline() == "ready\n"
        process.send_signal(number)
        assert out.readline() == "came\n"
    assert process.wait(harness.WATCHDOG) == 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["HUP", "own"])
def test_a_terminal_that_is_hung_up(runtime, argv_of, screen, kind, ending):
    """The other end of the terminal is gone: the program gets HUP; if it keeps running, the runtime waits for its end. Nothing is left."""
    on_hup = "exit 9" if ending == "HUP" else "came=1"
    one = screen(argv_of(kind, "trap '%s' HUP; echo ready; while [ -z $came ]; do sleep 0.05; done; exit 8" % on_hup))
    one.until("ready")
    os.close(one.master)
    one.master = os.open("/dev/null", os.O_RDWR)
    assert one.process.wait(harness.WATCHDOG) == (9 if ending == "HUP" else 8)
    if kind == "run":
        assert runtime.ids[-1] not in hoststate.state_dirs(runtime.root)


JOB = """set -m
"$@" &
while ! grep -q '^State:.T' /proc/$!/status; do sleep 0.01; done
echo it has stopped
fg
echo over $?"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_in_the_background(pyrunc, argv_of, screen, kind):
    """It needs the terminal and is stopped like any such job; `fg` continues it, and the program gets the keys."""
    one = screen(["/bin/bash", "-c", JOB, "job", *argv_of(kind, "echo ready; read word; echo $word came; exit 6")])
    one.until("it has stopped")
    one.until("ready")
    one.type(b"typed\r")
    one.until("typed came")
    one.until("over 6")
    one.end()


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_the_only_terminal(runtime, argv_of, screen, kind):
    """Standard input is a file and the output a terminal: the program has its size from the beginning."""
    argv = argv_of(kind, "stty size; exit 3")
    one = screen(["/bin/sh", "-c", 'stty rows 12 cols 34; "$@" < /dev/null', "sh", *argv])
    one.until("12 34")
    assert one.end() == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", ["pipe", "terminal"])
def test_a_stalled_reader_does_not_prevent_kill_and_delete(runtime, make_bundle, kind, stream):
    """Nobody reads the output of the program: kill and delete still work, and the command exits on a signal."""
    reader, writer = os.pipe() if stream == "pipe" else os.openpty()
    script = ["/bin/sh", "-c", "yes"]
    if kind == "run":
        id = runtime.new_id()
        argv = runtime.argv("run", "--bundle", make_bundle({"/process/terminal": True}, args=script), id)
    else:
        id = runtime.started(make_bundle(args=harness.WAIT_FOR_TERM))
        argv = runtime.argv("exec", "--tty", id, *script)
    command = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE)
    select.select([reader], [], [], harness.WATCHDOG)
    while select.select([], [writer], [], 0.2)[1]:  # until it is full and stays full
        continue
    if kind == "run":
        runtime.kill(id)
        harness.until_status(runtime, id, "stopped")
        assert command.poll() is None
        runtime.delete(id)
    else:
        runtime.delete(id, "--force")
    command.send_signal(signal.SIGTERM)
    assert command.wait(harness.WATCHDOG) == 128 + signal.SIGKILL, command.stderr.read()
    for fd in (reader, writer):
        os.close(fd)
