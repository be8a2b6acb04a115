"""Makes gRPC calls for the tests in a separate process: the library has threads and hooks every fork of its process, so that the fork bomb of
a test would end with an abort instead of the kill that is tested.

    python3 grpc_hand.py ADDRESS

Each line of standard input is {"method": "/package.Service/Method", "seconds": n, "size": n}, followed by that many bytes; the answer is
{"size": n} and the bytes, or {"code": name, "details": text}.
"""

from __future__ import annotations

import json
import sys

import grpc


def main(address: str) -> None:
    channel = grpc.insecure_channel(address, options=[("grpc.default_authority", "localhost")])
    while line := sys.stdin.buffer.readline():
        asked = json.loads(line)
        request = sys.stdin.buffer.read(asked["size"])
        try:
            data = channel.unary_unary(asked["method"])(request, timeout=asked["seconds"])
            head: dict[str, object] = {"size": len(data)}
        except grpc.RpcError as error:
            data = b""
            head = {"code": str(error.code()), "details": error.details()}
        sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1])
