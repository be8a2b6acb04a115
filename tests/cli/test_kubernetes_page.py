"""docs/kubernetes.md: its manifests are YAML with the fields that the API requires, and the installer script works on a node.

The node is a directory with a containerd configuration. The script runs as in the DaemonSet: in a container whose root only has /pyrunc and a
shell, with the node at /host.
"""

import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

import harness

PAGE = harness.ROOT / "docs/kubernetes.md"
PRIVILEGED = [
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_DAC_OVERRIDE",
    "CAP_CHOWN",
    "CAP_FOWNER",
]  # the commands that the script needs
CONFIG = """\
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = true
"""


def manifests():
    """{kind: manifest}"""
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    return {one["kind"]: one for block in blocks for one in yaml.safe_load_all(block)}


def test_manifests_are_consistent():
    found = manifests()
    assert set(found) == {"RuntimeClass", "Pod", "DaemonSet"}
    name = found["RuntimeClass"]["metadata"]["name"]
    assert found["RuntimeClass"]["handler"] == "pyrunc" and found["Pod"]["spec"]["runtimeClassName"] == name
    spec = found["DaemonSet"]["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert spec["template"]["spec"]["nodeSelector"] == found["RuntimeClass"]["scheduling"]["nodeSelector"]
    volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    for container in spec["template"]["spec"]["initContainers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


@pytest.fixture
def node(tmp_path):
    """A host as the installer sees it."""
    made = tmp_path / "node"
    for name in ("etc/containerd", "usr/local/bin", "proc", "tmp"):
        (made / name).mkdir(parents=True)
    (made / "etc/containerd/config.toml").write_text(CONFIG)
    return made


@pytest.mark.kernel
@pytest.mark.slow
def test_the_installer(pyrunc, static_launcher, make_bundle, node, no_leaks):
    """It runs twice, as after a restart of the pod: the program is installed, containerd's file has the entry once, and containerd is restarted."""
    if harness.needs_a_loader(static_launcher):
        pytest.skip("the compiled launcher is linked against the shared library here; a node has none")
    (script,) = [one["command"][2] for one in manifests()["DaemonSet"]["spec"]["template"]["spec"]["initContainers"]]
    (volume,) = manifests()["DaemonSet"]["spec"]["template"]["spec"]["volumes"]
    assert volume["hostPath"]["path"] == "/"
    bundle = make_bundle(args=["/bin/sh", "-ec", script])
    bundle = bundle.patch({
        "/root/readonly": False,
        "/mounts": [
            *bundle.config["mounts"],
            {"destination": "/host", "type": "bind", "source": str(node), "options": ["rbind", "rw"]},
            {"destination": "/host/proc", "type": "proc", "source": "proc"},
        ],
        "/process/capabilities": {kind: PRIVILEGED for kind in ("bounding", "effective", "permitted")},
    })  # fmt: skip
    shutil.copy(static_launcher, bundle.rootfs / "pyrunc")
    systemctl = bundle.rootfs / "bin/systemctl"  # nsenter finds it in the mount namespace of process 1, which here is that of the script
    systemctl.unlink(missing_ok=True)
    systemctl.write_text('#!/bin/sh\necho "$@" >> /host/restarts\n')
    systemctl.chmod(0o755)
    for count in (1, 2):
        result = pyrunc.run(bundle)
        assert result.code == 0, result
        assert (node / "restarts").read_text() == "restart containerd\n" * count
    entry = tomllib.loads((node / "etc/containerd/config.toml").read_text())["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]
    assert entry["runtimes"]["pyrunc"]["options"] == {"BinaryName": "/usr/local/bin/pyrunc", "SystemdCgroup": True}
    assert entry["default_runtime_name"] == "runc" and "runc" in entry["runtimes"]
    assert sorted(path.name for path in (node / "usr/local/bin").iterdir()) == ["pyrunc"]
    done = subprocess.run([node / "usr/local/bin/pyrunc", "--version"], capture_output=True, text=True, timeout=harness.WATCHDOG)
    assert done.stdout.startswith("pyrunc version")
