"""dockerd with --userns-remap: every container is in a user namespace that the runtime creates and maps."""

from callers import IMAGE


def test_ids(remapped):
    script = "id -u; cat /proc/self/uid_map; touch /made; stat -c %u /made /proc/1/status"
    assert remapped.run(IMAGE, "sh", "-c", script).ok().out.split() == ["0", "0", "200000", "65536", "0", "0"]


def test_user_namespace(remapped):
    assert remapped.run("--userns=host", IMAGE, "cat", "/proc/self/uid_map").ok().out.split() == ["0", "0", "4294967295"]


def test_network_of_another_container(remapped):
    """The second container joins the first one's network and user namespaces by path."""
    with remapped.running() as name:
        script = "readlink /proc/self/ns/net; readlink /proc/self/ns/user"
        first = remapped("exec", name, "sh", "-c", script).ok().out
        assert remapped.run(IMAGE, "sh", "-c", script, network=f"container:{name}").ok().out == first
