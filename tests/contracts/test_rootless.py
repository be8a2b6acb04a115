"""podman of an ordinary user: the runtime is root in a user namespace that podman has created, without write access to cgroups."""

import pytest

from callers import IMAGE, packages_missing
from sandbox import BASE, UID


def test_ids(rootless):
    script = "id -u; cat /proc/self/uid_map; touch /made; stat -c %u /made"
    assert rootless.run(IMAGE, "sh", "-c", script).ok().out.split() == ["0", "0", "4321", "1", "1", "200000", "65536", "0"]


def test_user_namespace(rootless):
    out = rootless.run("--userns=keep-id", IMAGE, "sh", "-c", "id -u; cat /proc/self/uid_map | wc -l").ok().out
    assert out == "4321\n3\n"


def test_tmpfs_copies_the_image(rootless):
    assert rootless.run("--tmpfs=/www", IMAGE, "cat", "/www/index.html").ok().out == "served\n"


def test_host_namespaces(rootless, world):
    script = "for name in pid uts; do readlink /proc/self/ns/$name; done"
    inside = rootless.run("--pid=host", "--uts=host", IMAGE, "sh", "-c", script).ok().out
    assert inside == world.run(["sh", "-c", script]).out


def test_systemd_mode(rootless):
    assert rootless.run("--systemd=always", IMAGE, "grep", "-c", "-e", " /run/lock ", "/proc/self/mounts").ok().out == "1\n"


@pytest.mark.caller("buildah rootless")
def test_build_by_buildah(rootless, world):
    """buildah of a user: RUN steps in its user namespace, one of them as another user of the image and with a secret."""
    missing = packages_missing(["buildah"])
    if missing:
        pytest.skip("not installed: buildah")
    world.write(f"{BASE}/rootless-build/secret", "hush")
    text = (
        f"FROM localhost/{IMAGE}\nRUN --mount=type=secret,id=word cat /run/secrets/word > /built; id -u >> /built\n"
        "USER app\nRUN id -u > /tmp/user; cat /proc/self/uid_map > /tmp/map\n"
    )
    world.write(f"{BASE}/rootless-build/Containerfile", text)
    words = [
        "--runtime",
        rootless.runtime,
        "--isolation=rootless",
        "--network=none",
        "--ulimit=nofile=1024:1024",
        "--ulimit=nproc=1024:1024",
    ]
    secret = f"--secret=id=word,src={BASE}/rootless-build/secret"
    rootless.buildah("build", *words, secret, "--tag=built", f"{BASE}/rootless-build").ok()
    try:
        out = rootless.run("built", "cat", "/built", "/tmp/user", "/tmp/map").ok().out.split()
        assert out[:5] == ["hush0", "1000", "0", str(UID), "1"], out
    finally:
        rootless("rmi", "--force", "built").ok()
