"""What several of the advisories' tests use: mounts, links, an ordinary user's runtime. Command lines only."""

import os
import subprocess

import pytest

import harness

SECRET = "the host's secret"
UID = 4321  # an ordinary user without an account


def mount(destination, kind="tmpfs", source="tmpfs", *options):
    return {"destination": destination, "type": kind, "source": str(source), "options": list(options)}


def bind(source, destination):
    return mount(destination, "bind", source, "bind")


def replace(path, target):
    """A link in the image in place of what is there."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


def ordinary_user(runtime, make_bundle, scratch):
    """(the runtime as an ordinary user without subordinate ids, make(changes, args) -> a bundle of the user's)"""
    prefix = ["setpriv", "--reuid=%d" % UID, "--regid=%d" % UID, "--clear-groups", "--"]
    if subprocess.run([*prefix, runtime.path, "--version"], capture_output=True).returncode:
        pytest.skip("an ordinary user can't read the directory that the runtime lies in")
    home = scratch / "advisories"
    home.mkdir(exist_ok=True)
    os.chown(home, UID, UID)
    made = harness.Runtime(runtime.path, home / "state", runtime.token + "u", None)
    argv = made.argv
    made.argv = lambda *args, globals=(): [*prefix, *argv(*args, globals=globals)]
    made.env = {**runtime.env, "XDG_RUNTIME_DIR": str(home)}

    def make(changes=None, args=None):
        bundle = make_bundle()
        maps = [{"containerID": 0, "hostID": UID, "size": 1}]
        rootless = {
            "/linux/namespaces/-": {"type": "user"},
            "/linux/uidMappings": maps,
            "/linux/gidMappings": maps,
            "/mounts/2/options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        }
        config = harness.patch(harness.patch(harness.BASE, rootless), changes or {})
        config["process"]["args"] = args or ["/bin/true"]
        (bundle.path / "config.json").unlink()
        bundle.write(config)
        subprocess.run(["chown", "-R", "-h", "--from=0:0", "%d:%d" % (UID, UID), bundle.path], check=True)
        return bundle

    return made, make
