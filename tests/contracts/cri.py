"""The Kubernetes side of containerd: its Container Runtime Interface, called over gRPC on the private socket.

grpcio-tools compiles the messages when the tests run, from the definition of the interface in Debian's golang-github-kubernetes-cri-api-dev.
A message is written as a dict with the names in that file; enumerations are given by name.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import types
    from collections.abc import Mapping, Sequence

    import streams
    from callers import Containerd
    from harness import Json, Option
    from streams import Stream


PROTO = "/usr/share/gocode/src/k8s.io/cri-api/pkg/apis/runtime/v1/api.proto"
RUNNING, EXITED = 1, 2  # ContainerState


class Failed(Exception):
    """The call returned a status other than OK."""


def missing() -> list[str]:
    """The requirements of these tests that are not installed."""
    found = [] if os.path.exists(PROTO) else ["golang-github-kubernetes-cri-api-dev"]
    return found + [name for name in ("grpc", "grpc_tools", "websocket") if importlib.util.find_spec(name) is None]


def compiled() -> types.ModuleType:
    """The messages of the interface. The extensions of gogoproto affect the generated Go code, not the wire format."""
    if "cri_api_pb2" not in sys.modules:
        with tempfile.TemporaryDirectory(prefix="cri-") as place:
            with open(PROTO) as file:
                text = re.sub(r'^(import ".*gogo\.proto"|option \(gogoproto\..*);$', "", file.read(), flags=re.MULTILINE)
            with open(f"{place}/cri_api.proto", "w") as file:
                file.write(text)
            words = [
                "-m",
                "grpc_tools.protoc",
                f"-I{place}",
                f"--python_out={place}",
                f"{place}/cri_api.proto",
            ]
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            sys.path.insert(0, place)
            try:
                importlib.invalidate_caches()
                importlib.import_module("cri_api_pb2")
            finally:
                sys.path.remove(place)
    return sys.modules["cri_api_pb2"]


class Cri:
    """The RuntimeService of containerd (callers.Containerd)."""

    def __init__(self, containerd: Containerd) -> None:
        self.messages = compiled()
        self.world, self.image = containerd.world, "localhost/contracts:latest"
        address = f"unix:{self.world.outer(containerd.address)}"
        hand = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "grpc_hand.py"), address]
        self.hand = subprocess.Popen(hand, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # exits when its standard input is closed
        self.sandboxes: dict[str, Json] = {}

    def call(self, method: str, seconds: float = 60, **message: Json) -> Json:
        """Makes one unary call; returns a message of the interface."""
        from google.protobuf.json_format import ParseDict

        request = ParseDict(message, getattr(self.messages, method + "Request")()).SerializeToString()
        head = {"method": f"/runtime.v1.RuntimeService/{method}", "seconds": seconds, "size": len(request)}
        assert self.hand.stdin and self.hand.stdout
        self.hand.stdin.write(json.dumps(head).encode() + b"\n" + request)
        self.hand.stdin.flush()
        answer = json.loads(self.hand.stdout.readline())
        if "code" in answer:
            raise Failed(f"{method}: {answer['code']}: {answer['details']}")
        return getattr(self.messages, method + "Response").FromString(self.hand.stdout.read(answer["size"]))

    def run_pod(
        self, name: str, network: str = "POD", handler: str | None = None, sysctls: Mapping[str, str] | None = None, **security: Json
    ) -> str:
        """Starts a pod sandbox in a cgroup like that of a kubelet, and returns its id. `handler` is the handler of a RuntimeClass; `security` is
        added to the security context of the sandbox."""
        spaces = {"network": network, "pid": "CONTAINER", **security.pop("namespace_options", {})}
        config = {
            "metadata": {"name": name, "uid": f"uid-{name}", "namespace": "contracts", "attempt": 0},
            "log_directory": f"/run/contracts/logs/{name}",
            "annotations": {"contracts/pod": name},
            "linux": {
                "cgroup_parent": f"/{self.world.cgroup}/pod{name}",
                "security_context": {"namespace_options": spaces, **security},
                "sysctls": sysctls or {},
            },
        }
        if network == "POD":
            config["hostname"] = name
        sandbox = self.call("RunPodSandbox", config=config, runtime_handler=handler or "").pod_sandbox_id
        self.sandboxes[sandbox] = config
        return sandbox

    def create(
        self,
        sandbox: str,
        name: str,
        command: Sequence[str],
        resources: Json = None,
        security: Json = None,
        image: str | None = None,
        **more: Option,
    ) -> str:
        """Creates a container in a pod and returns its id. `more` is added to its ContainerConfig (mounts, tty, devices, …)."""
        config = {
            "metadata": {"name": name, "attempt": 0},
            "image": {"image": image or self.image},
            "command": list(command),
            "working_dir": "/",
            "envs": [{"key": "FROM_POD", "value": "yes"}],
            "log_path": f"{name}.log",
            "linux": {"resources": resources or {}, "security_context": security or {}},
            **more,
        }
        answer = self.call("CreateContainer", pod_sandbox_id=sandbox, config=config, sandbox_config=self.sandboxes[sandbox])
        return answer.container_id

    def start(self, container: str) -> None:
        self.call("StartContainer", container_id=container)

    def stop(self, container: str, timeout: int = 1) -> None:
        self.call("StopContainer", container_id=container, timeout=timeout)

    def remove(self, container: str) -> None:
        self.call("RemoveContainer", container_id=container)

    def update(self, container: str, **resources: Json) -> None:
        self.call("UpdateContainerResources", container_id=container, linux=resources)

    def exec(self, container: str, *command: str, timeout: int = 20) -> Json:
        """(exit code, stdout, stderr) of a command run in a container."""
        answer = self.call("ExecSync", container_id=container, cmd=list(command), timeout=timeout)
        return answer.exit_code, answer.stdout.decode(), answer.stderr.decode()

    def exec_stream(self, container: str, *command: str, stdin: bool = False, tty: bool = False) -> streams.Stream:
        """A command run in a container, with a connection to it: `kubectl exec [-i] [-t]`."""
        return self._stream("Exec", container_id=container, cmd=list(command), stdin=stdin, tty=tty)

    def attach(self, container: str, stdin: bool = False, tty: bool = False) -> streams.Stream:
        """A connection to the main process of the container: `kubectl attach [-i] [-t]`. `tty` must be the same as for the container."""
        return self._stream("Attach", container_id=container, stdin=stdin, tty=tty)

    def _stream(self, method: str, tty: bool, **message: Json) -> Stream:
        from streams import Stream

        return Stream(self.world, self.call(method, stdout=True, stderr=not tty, tty=tty, **message).url)

    def stats(self, container: str) -> Json:
        """The ContainerStats of one container."""
        return self.call("ContainerStats", container_id=container).stats

    def inspect(self, container: str) -> Json:
        """The ContainerStatus message."""
        return self.call("ContainerStatus", container_id=container).status

    def status(self, container: str) -> Json:
        """(state, exit code): CREATED, RUNNING, EXITED or UNKNOWN."""
        status = self.inspect(container)
        return status.state, status.exit_code

    def log(self, sandbox: str, name: str) -> str:
        """The log of a container, without time stamps."""
        lines = self.world.read(f"{self.sandboxes[sandbox]['log_directory']}/{name}.log").splitlines()
        return "".join(line.split(" ", 3)[3] + "\n" for line in lines)

    def remove_pod(self, sandbox: str) -> None:
        """Stops and removes a pod and, like a kubelet, its cgroup (which fails if a container has left something in it)."""
        self.call("StopPodSandbox", pod_sandbox_id=sandbox)
        self.call("RemovePodSandbox", pod_sandbox_id=sandbox)
        parent = self.sandboxes.pop(sandbox)["linux"]["cgroup_parent"]
        for hierarchy in self.world.hierarchies():
            if os.path.isdir(hierarchy + parent):
                os.rmdir(hierarchy + parent)

    def close(self) -> None:
        """Removes all pods; the channel stays open for the next test."""
        for sandbox in list(self.sandboxes):
            self.remove_pod(sandbox)
