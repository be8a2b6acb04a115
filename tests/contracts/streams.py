"""A connection to the streaming server of a CRI, as `kubectl exec` and `kubectl attach` open one.

Owns the protocol: WebSocket with the subprotocol v4.channel.k8s.io, in which the first byte of each message names a channel. The socket is
created in the network namespace of the world and used from here, so no separate thread or process is needed.
"""

from __future__ import annotations

import json
import urllib.parse
from typing import TYPE_CHECKING

import websocket

if TYPE_CHECKING:
    from sandbox import Sandbox


STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
PIECE = 32768  # bytes that kubectl sends at a time


class Refused(Exception):
    """The error channel reported that the command was not run."""


class Stream:
    """A context manager, because this version of the protocol can only signal end of file by closing the connection."""

    def __init__(self, world: Sandbox, url: str) -> None:
        place = urllib.parse.urlsplit(url)
        connected = world.socket()
        connected.settimeout(60)
        connected.connect((place.hostname, place.port))
        self.seen = {STDOUT: b"", STDERR: b"", ERROR: b""}
        self.connection = websocket.create_connection(
            urllib.parse.urlunsplit(place._replace(scheme="ws")), socket=connected, subprotocols=["v4.channel.k8s.io"]
        )

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def _send(self, channel: int, data: bytes) -> None:
        self.connection.send_binary(bytes([channel]) + data)

    def send(self, text: str) -> None:
        """Sends standard input."""
        data = text.encode()
        for start in range(0, len(data), PIECE):
            self._send(STDIN, data[start : start + PIECE])

    def resize(self, columns: int, lines: int) -> None:
        self._send(RESIZE, json.dumps({"Width": columns, "Height": lines}).encode())

    def _read(self) -> bool:
        """Receives one message; False when the server has closed the connection."""
        try:
            operation, data = self.connection.recv_data()
        except websocket.WebSocketConnectionClosedException:
            return False
        except websocket.WebSocketTimeoutException:
            raise AssertionError(f"nothing more came: {self.seen}") from None
        if operation == websocket.ABNF.OPCODE_CLOSE:
            return False
        if data:
            self.seen[data[0]] += data[1:]
        return True

    def text(self, channel: int = STDOUT) -> str:
        return self.seen[channel].decode(errors="replace")

    def until(self, text: str, channel: int = STDOUT) -> None:
        """Reads until `text` has arrived on a channel."""
        while text not in self.text(channel):
            assert self._read(), f"closed before {text!r} came: {self.seen}"

    def ended(self) -> tuple[int, str, str]:
        """(exit status, stdout, stderr), after the server has closed the connection."""
        while self._read():
            pass
        answer = json.loads(self.seen[ERROR])
        if answer["status"] == "Success":
            return 0, self.text(), self.text(STDERR)
        if answer["reason"] != "NonZeroExitCode":
            raise Refused(answer["message"])
        (code,) = (int(cause["message"]) for cause in answer["details"]["causes"] if cause["reason"] == "ExitCode")
        return code, self.text(), self.text(STDERR)
