"""Examples in bundles/ through their whole life: create, start, state, a signal, and delete."""

import pytest

pytestmark = pytest.mark.kernel


def test_everything_at_once(pyrunc, make_bundle, no_leaks):
    """The bundle with every property, through its whole life."""
    bundle = make_bundle.example("everything")
    id = pyrunc.create(bundle)
    pyrunc.start(id)
    assert pyrunc.status(id) == "running"
    pyrunc.stopped(id, "TERM")
    pyrunc.delete(id)
    assert (bundle.path / "hooks.log").read_text().split() == ["prestart", "createRuntime", "poststart", "poststop"]
    assert (bundle.rootfs / "hooks.log").read_text().split() == ["createContainer"]  # the working directory of the program is the root


@pytest.mark.parametrize(
    "name",
    [
        "minimal",
        "hello",
        "userns",
        "hooks",
        "seccomp-docker",
        "podman-like",
        "kubernetes-like",
        "webserver-loopback",
        "readonly-hardened",
        "cgroup-limits",
        "joined-namespaces",
        "tmpcopyup",
    ],
)
def test_examples(runtime, make_bundle, name, no_leaks):
    """Each example runs through its whole life."""
    bundle = make_bundle.example(name)
    id = runtime.create(bundle, cwd=bundle.path)
    runtime.start(id, cwd=bundle.path)
    assert runtime.status(id) == "running"
    runtime.ok("delete", "--force", id)
