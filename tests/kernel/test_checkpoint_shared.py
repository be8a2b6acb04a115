"""checkpoint and restore on a host with a shared `/`, as systemd sets it up: bind mounts without a propagation option are slaves of one mount.

The runtime runs in a mount namespace with a shared `/`. The root is a separate mount, as with engines: otherwise the mount that contains both
the root and the sources would become private, and nothing would be a slave.
"""

import subprocess

import pytest

from dumping import CRIU, Counter, mounts_of

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.skipif(not CRIU, reason="this machine has no criu")]


@pytest.fixture
def shared(runtime):
    """The pid of a process in a mount namespace with a shared `/`; the runtime runs there."""
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "mount --make-rshared /; echo ready; read end"]
    keeper = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert keeper.stdout.readline() == b"ready\n"
    argv = runtime.argv
    runtime.argv = lambda *args, globals=(): ["nsenter", "--target", str(keeper.pid), "--mount", *argv(*args, globals=globals)]
    yield keeper.pid
    runtime.clean()
    keeper.communicate()


@pytest.fixture
def counter(criu, runtime, make_bundle, shared):
    """counter(changes, names, options) -> Counter. Its container has each of `names`, below a directory of the host, as /given/N."""

    def make(changes, names, options):
        made = Counter(runtime, make_bundle, changes)
        outside = made.bundle.path / "outside"
        (outside / "dir/below").mkdir(parents=True)
        for name in ("file", "second", "dir/x", "dir/below/x"):
            (outside / name).write_text(name)
        made.bundle.config["mounts"] += [
            {"destination": "/given/%d" % n, "type": "bind", "source": str(outside / name), "options": options}
            for n, name in enumerate(names)
        ]
        made.bundle.write(made.bundle.config)
        root = str(made.bundle.rootfs)
        subprocess.run(["nsenter", "--target", str(shared), "--mount", "mount", "--bind", root, root], check=True)
        return made

    return make


def comes_back(made, names):
    """To files and back: the same mounts in the same kind of peer groups, with the same content."""
    made.run()
    before, groups = mounts_of(made), propagation(made)
    made.again()
    assert mounts_of(made) == before
    assert propagation(made) == groups
    for n, name in enumerate(names):
        place = "/given/%d" % n
        where = {"dir": place + "/x", "dir/below": place + "/x"}.get(name, place)
        assert made.inside("/bin/cat", where) == {"dir": "dir/x", "dir/below": "dir/below/x"}.get(name, name)
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")
    return groups


def propagation(made):
    """{mount point: its optional fields without the numbers of the peer groups}"""
    with open("/proc/%d/mountinfo" % made.pid()) as file:
        lines = [line.split(" ") for line in file]
    return {words[4]: sorted(word.partition(":")[0] for word in words[6 : words.index("-")]) for words in lines}


FORMS = {
    "files": ["file", "second", "file"],
    "directories": ["dir", "dir/below"],
    "both": ["file", "dir", "second", "dir/below", "dir/below/x"],
}


OPTIONS = [["bind"], ["rbind"], ["bind", "ro"], ["rbind", "rslave"], ["rbind", "rprivate"], ["bind", "shared"]]


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
@pytest.mark.parametrize("form", FORMS)
def test_binds(counter, no_leaks, form, options):
    groups = comes_back(counter({}, FORMS[form], options), FORMS[form])
    expected = {"rprivate": [], "shared": ["master", "shared"]}.get(options[-1], ["master"])
    assert groups["/given/0"] == expected


@pytest.mark.parametrize(("root", "names"), [("private", FORMS["both"]), ("slave", FORMS["both"]), ("shared", ["dir"])])
def test_propagation_of_the_root(counter, no_leaks, root, names):
    """With shared there is only one bind: CRIU copies the sharing of a mount to another only if its root contains the other's."""
    comes_back(counter({"/linux/rootfsPropagation": root}, names, ["bind"]), names)


def test_mounts_below_a_source(counter, shared, no_leaks):
    """rbind includes the mounts below; two of them are in one peer group of the host again."""
    made = counter({}, ["dir", "file", "dir/below"], ["rbind"])
    below = made.bundle.path / "outside/dir/mounted"
    below.mkdir()
    subprocess.run(["nsenter", "--target", str(shared), "--mount", "mount", "-t", "tmpfs", "none", below], check=True)
    comes_back(made, ["dir", "file", "dir/below"])


def test_mounts_of_the_host_still_arrive(counter, shared, no_leaks):
    """A slave stays a slave: what the host mounts below its source after the restore is visible in the container."""
    made = counter({}, ["file", "dir"], ["rbind", "rslave"])
    comes = made.bundle.path / "outside/dir/below"
    made.run()
    made.again()
    subprocess.run(["nsenter", "--target", str(shared), "--mount", "mount", "-t", "tmpfs", "none", comes], check=True)
    assert made.inside("/bin/stat", "-f", "-c", "%T", "/given/1/below").strip() == "tmpfs"
    assert made.inside("/bin/ls", "/given/1/below") == ""
    made.runtime.delete(made.id, "--force")
