"""Kubernetes' side of containerd: calls of its Container Runtime Interface, sent by curl over the private socket.

Owns as much of protobuf and gRPC as those calls need (unary calls, a length-prefixed message each way) and the numbers of
the fields of runtime.v1/api.proto. A message is written as {field number: value}; values are int, bool, str, bytes,
a dict (a message inside), a list of these (repeated), or a Map.
"""

import os

from sandbox import BASE, hierarchies

CONTAINER, NODE = 1, 2
UNCONFINED = 1


class Failed(Exception):
    """The call was answered with a status other than OK."""


class Map(dict):
    """A map<string, string> field."""


def varint(number):
    out = b""
    number &= (1 << 64) - 1
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def encode(message):
    """The wire form of a message."""
    out = b""
    for field, value in message.items():
        if isinstance(value, Map):
            value = [{1: key, 2: item} for key, item in value.items()]
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int):
                out += varint(field << 3) + varint(item)
            else:
                data = encode(item) if isinstance(item, dict) else item.encode() if isinstance(item, str) else item
                out += varint(field << 3 | 2) + varint(len(data)) + data
    return out


def decode(data):
    """{field: last value}: int or bytes; nested messages stay bytes."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            found[key >> 3] = number()
        elif key & 7 == 2:
            size = number()
            found[key >> 3] = data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {key & 7}")
    return found


class Cri:
    """The RuntimeService of a containerd (callers.Containerd)."""

    def __init__(self, containerd):
        self.world, self.address, self.image = containerd.world, containerd.address, "localhost/contracts:latest"
        self.sandboxes = {}

    def call(self, method, message, seconds=60):
        """One unary call; the answer as decode() gives it."""
        body = encode(message)
        self.world.write(f"{BASE}/cri.request", b"\0" + len(body).to_bytes(4, "big") + body)
        self.world.write(f"{BASE}/cri.answer", b"")
        result = self.world.run(
            [
                "curl",
                "--silent",
                "--show-error",
                "--http2-prior-knowledge",
                "--unix-socket",
                self.address,
                "--header",
                "content-type: application/grpc",
                "--header",
                "te: trailers",
                "--dump-header",
                "-",
                "--data-binary",
                f"@{BASE}/cri.request",
                "--output",
                f"{BASE}/cri.answer",
                f"http://localhost/runtime.v1.RuntimeService/{method}",
            ],
            seconds=seconds,
        ).ok()
        if "grpc-status: 0" not in result.out:
            raise Failed(f"{method}: {result.out}")
        with open(self.world.outer(f"{BASE}/cri.answer"), "rb") as file:
            return decode(file.read()[5:])

    def run_pod(self, name, network=CONTAINER, pid=0, privileged=False):
        """Starts a pod sandbox, in a cgroup as a kubelet makes it, and returns its id. Namespaces are its own or (NODE) the host's."""
        namespaces = {1: 0 if network == CONTAINER else network, 2: pid}
        config = {
            1: {1: name, 2: f"uid-{name}", 3: "contracts", 4: 0},
            3: f"{BASE}/logs/{name}",
            7: Map({"contracts/pod": name}),
            8: {1: f"/{self.world.cgroup}/pod{name}", 2: {1: namespaces, 6: privileged}},
        }
        if network == CONTAINER:
            config[2] = name
        sandbox = self.call("RunPodSandbox", {1: config})[1].decode()
        self.sandboxes[sandbox] = config
        return sandbox

    def create(self, sandbox, name, command, resources=None, security=None, mounts=(), tty=False):
        """Creates a container in a pod and returns its id."""
        config = {
            1: {1: name, 2: 0},
            2: {1: self.image},
            3: list(command),
            5: "/",
            6: [{1: "FROM_POD", 2: "yes"}],
            7: list(mounts),
            11: f"{name}.log",
            14: tty,
            15: {1: resources or {}, 2: security or {}},
        }
        return self.call("CreateContainer", {1: sandbox, 2: config, 3: self.sandboxes[sandbox]})[1].decode()

    def start(self, container):
        self.call("StartContainer", {1: container})

    def stop(self, container, timeout=1):
        self.call("StopContainer", {1: container, 2: timeout})

    def remove(self, container):
        self.call("RemoveContainer", {1: container})

    def update(self, container, resources):
        self.call("UpdateContainerResources", {1: container, 2: resources})

    def exec(self, container, *command, timeout=20):
        """(exit code, stdout, stderr) of a command run in a container."""
        answer = self.call("ExecSync", {1: container, 2: list(command), 3: timeout})
        return answer.get(3, 0), answer.get(1, b"").decode(), answer.get(2, b"").decode()

    def status(self, container):
        """(state, exit code): 0 created, 1 running, 2 exited, 3 unknown."""
        status = decode(self.call("ContainerStatus", {1: container})[1])
        return status.get(3, 0), status.get(7, 0)

    def log(self, sandbox, name):
        """What a container has written, without the time stamps."""
        lines = self.world.read(f"{self.sandboxes[sandbox][3]}/{name}.log").splitlines()
        return "".join(line.split(" ", 3)[3] + "\n" for line in lines)

    def remove_pod(self, sandbox):
        """Stops and removes a pod, and its cgroup as a kubelet does (which fails if a container left something in it)."""
        self.call("StopPodSandbox", {1: sandbox})
        self.call("RemovePodSandbox", {1: sandbox})
        parent = self.sandboxes.pop(sandbox)[8][1]
        for hierarchy in hierarchies():
            if os.path.isdir(hierarchy + parent):
                os.rmdir(hierarchy + parent)

    def close(self):
        for sandbox in list(self.sandboxes):
            self.remove_pod(sandbox)
