"""Kubernetes streams: `kubectl exec` and `kubectl attach` through containerd's streaming server, whose URL the CRI returns.

(There is no test for `kubectl port-forward`: containerd connects in the network namespace of the pod without calling a runtime.
test_namespaces_of_the_pod checks that the containers are in that namespace.)
"""

import pytest

import cri as api
import streams
from cri_tools import pod, started
from sandbox import wait_until


@pytest.mark.needs_exec
def test_exec_stream(cri):
    """Separate output streams, all of a long output, and the exit status or the runtime's error in the error channel."""
    with pod(cri, "streams") as sandbox:
        container = started(cri, sandbox, "streams", "sleep", "1000", security={"run_as_user": {"value": 1000}})
        with cri.exec_stream(container, "sh", "-c", "id -u; echo err >&2; exit 9") as stream:
            assert stream.ended() == (9, "1000\n", "err\n")
        with cri.exec_stream(container, "sh", "-c", "seq 1 100000; seq 1 1000 >&2") as stream:
            code, out, err = stream.ended()
            assert (code, out.split(), err.split()) == (0, [str(n) for n in range(1, 100001)], [str(n) for n in range(1, 1001)])
        with cri.exec_stream(container, "sh", "-c", "kill -9 $$") as stream:
            assert stream.ended()[0] == 137
        with cri.exec_stream(container, "/no/such/file") as stream:
            with pytest.raises(streams.Refused, match="exec failed.*no such file or directory"):
                stream.ended()


@pytest.mark.needs_exec
def test_exec_stdin(cri):
    """A dialogue, then a lot of input, then its end: the program gets all of it and the end of file."""
    text = "".join(f"line {number}\n" for number in range(50000))
    with pod(cri, "stdin") as sandbox:
        container = started(cri, sandbox, "stdin", "sleep", "1000")
        script = "read word; echo got $word; cat > /tmp/in; echo end > /tmp/end"
        with cri.exec_stream(container, "sh", "-c", script, stdin=True) as stream:
            stream.send("one\n")
            stream.until("got one\n")
            stream.send(text)
        wait_until("it has seen the end", lambda: cri.exec(container, "cat", "/tmp/end")[1] == "end\n")
        assert cri.exec(container, "cat", "/tmp/in") == (0, text, "")


def sized(columns, lines):
    """Shell code that waits until the terminal has this size, and then reports it."""
    return f"until test \"$(stty size)\" = '{lines} {columns}'; do sleep 0.05; done; echo sized {columns}\n"


@pytest.mark.needs_exec
def test_exec_terminal(cri):
    """kubectl exec -it: the size before and while it runs, lines that the terminal echoes, and a key that sends a signal."""
    script = sized(132, 43) + "tty; read word; echo got $word\n" + sized(101, 27)
    script += "trap 'echo interrupted; exit 3' INT; echo waiting; while :; do sleep 0.05; done"
    with pod(cri, "terminal") as sandbox:
        container = started(cri, sandbox, "terminal", "sleep", "1000")
        with cri.exec_stream(container, "sh", "-c", script, stdin=True, tty=True) as stream:
            stream.resize(132, 43)
            stream.until("sized 132\r\n/dev/pts/")
            stream.send("word\n")
            stream.until("word\r\ngot word\r\n")
            stream.resize(101, 27)
            stream.until("sized 101\r\nwaiting\r\n")
            stream.send("\x03")
            code, out, _ = stream.ended()
            assert code == 3 and out.endswith("^Cinterrupted\r\n"), out


def test_attach(cri):
    """kubectl attach -i to a container whose input ends with the first connection, and whose log contains everything."""
    script = 'while read word; do echo "got $word"; echo "err $word" >&2; done; echo end; exit 5'
    with pod(cri, "attach") as sandbox:
        container = started(cri, sandbox, "attach", "sh", "-c", script, stdin=True, stdin_once=True)
        with cri.attach(container, stdin=True) as stream:
            stream.send("one\n")
            stream.until("got one\n")
            stream.until("err one\n", streams.STDERR)
        wait_until("it has exited", lambda: cri.status(container)[0] == api.EXITED)
        assert cri.status(container) == (api.EXITED, 5)
        assert sorted(cri.log(sandbox, "attach").splitlines()) == ["end", "err one", "got one"]
        cri.remove(container)


def test_attach_terminal(cri):
    """kubectl attach -it, detached and attached again: the process and its terminal are the same."""
    script = sized(132, 43) + "kept=yes; while read word; do echo kept $kept $word; done; stty size; exit 4"
    with pod(cri, "again") as sandbox:
        container = started(cri, sandbox, "again", "sh", "-c", script, stdin=True, tty=True)
        with cri.attach(container, stdin=True, tty=True) as stream:
            stream.resize(132, 43)
            stream.until("sized 132\r\n")
        assert cri.status(container)[0] == api.RUNNING
        with cri.attach(container, stdin=True, tty=True) as stream:
            stream.send("word\n")
            stream.until("kept yes word\r\n")
            stream.send("\x04")
            stream.until("43 132\r\n")
        wait_until("it has exited", lambda: cri.status(container)[0] == api.EXITED)
        assert cri.status(container) == (api.EXITED, 4)
        cri.remove(container)
