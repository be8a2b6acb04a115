"""buildah: RUN steps. It polls `state`, leaks descriptors into the runtime, and passes neither state root nor cgroup."""

import pytest

from sandbox import BASE


def shown(result):
    """The output of the RUN steps, without lines of buildah itself."""
    return [line for line in result.ok().out.splitlines() if not line.startswith(("STEP ", "COMMIT", "--> ")) and len(line) != 64]


def test_hello(buildah):
    assert shown(buildah.build("RUN echo hello")) == ["hello"]


@pytest.mark.parametrize("status", [1, 7])
def test_exit_status(buildah, status):
    result = buildah.build(f"RUN echo before; exit {status}")
    assert result.status == status and f"exit status {status}" in result.err and "before" in result.out, result


def test_command_that_cannot_run(buildah):
    result = buildah.build('RUN ["/no/such/file"]')
    assert result.status != 0 and "no such file or directory" in result.err, result


def test_steps_build_on_each_other(buildah):
    assert shown(buildah.build("RUN echo one > /x", "RUN echo two >> /x", "RUN cat /x")) == ["one", "two"]


def test_user(buildah):
    assert shown(buildah.build("USER app", "RUN id -u; id -g; echo $HOME")) == ["1000", "1000", "/home/app"]


def test_working_directory_is_created(buildah):
    assert shown(buildah.build("WORKDIR /made/up", "RUN pwd")) == ["/made/up"]


def test_environment(buildah):
    out = shown(buildah.build("ENV COLOUR=blue", "RUN env"))
    assert "COLOUR=blue" in out and not [line for line in out if line.startswith(("LC_CTYPE", "_CONTAINERS"))]


def test_no_descriptors_leak(buildah):
    assert shown(buildah.build("RUN ls /proc/self/fd")) == ["0", "1", "2", "3"], "3 is the directory that is being read"


def test_capabilities(buildah):
    out = shown(buildah.build("RUN grep CapEff /proc/self/status", options=["--cap-drop=CAP_CHOWN"]))
    assert not int(out[0].split()[1], 16) & 1


def test_seccomp_default(buildah):
    assert shown(buildah.build("RUN grep Seccomp: /proc/self/status"))[0].split()[1] == "2"


def test_volume(buildah, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    assert shown(buildah.build("RUN cat /data/in", options=[f"--volume={BASE}/volume:/data:ro"])) == ["from outside"]


def test_run_mounts(buildah, world):
    world.write(f"{BASE}/volume/secret", "hush\n")
    lines = [
        "RUN --mount=type=tmpfs,target=/scratch grep -c ' /scratch tmpfs' /proc/mounts",
        "RUN --mount=type=secret,id=word cat /run/secrets/word",
        "RUN --mount=type=bind,target=/context cat /context/Containerfile | head -n 1",
    ]
    assert shown(buildah.build(*lines, options=[f"--secret=id=word,src={BASE}/volume/secret"])) == ["1", "hush", "FROM scratch"]


def test_standard_devices(buildah):
    assert shown(buildah.build("RUN echo x > /dev/null && head -c 2 /dev/zero | wc -c")) == ["2"]


def test_cgroup_of_its_own(buildah):
    out = shown(buildah.build("RUN cat /proc/self/cgroup"))
    assert all("buildah-buildah" in line or line.endswith(":/") for line in out) and "buildah-buildah" in "".join(out), out


def test_much_output(buildah):
    result = buildah.build("RUN seq 1 20000").ok()
    assert "\n19999\n20000\n" in result.out


def test_tty(buildah, world):
    name = buildah("from", *buildah.limits, "scratch").ok().out.strip()
    try:
        buildah("add", name, f"{BASE}/build/rootfs.tar", "/").ok()
        words = [
            "env",
            *(f"{key}={value}" for key, value in buildah.env.items()),
            *buildah.argv("run", "--runtime", buildah.runtime, "--isolation=oci", "--tty", name, "--", "/bin/sh", "-c", "/bin/tty; exit 5"),
        ]
        result = world.run_on_tty(words)
        assert result.status == 5 and "/dev/pts/0" in result.out, result
    finally:
        buildah("rm", name).ok()


def test_background_process_does_not_hang_the_build(buildah):
    """The step ends with its first process; buildah then waits until its pipes are closed, so all other processes must be killed."""
    assert shown(buildah.build("RUN sleep 1000 & echo done")) == ["done"]


def test_cache_mount(buildah):
    """A directory that outlives the build: the second build finds what the first one has written."""
    line = "RUN --mount=type=cache,target=/cache,id=contracts echo turn >> /cache/turns && wc -l < /cache/turns"
    assert [shown(buildah.build(line))[0] for _ in range(2)] == ["1", "2"]


def test_secret_of_a_user(buildah, world):
    """A secret has the mode and owner that the step sets, and is absent in the next step."""
    world.write(f"{BASE}/volume/secret", "hush")
    line = "RUN --mount=type=secret,id=word,mode=0400,uid=1000 stat -c '%a %u' /run/secrets/word && ls /run/secrets"
    result = buildah.build(line, "RUN test -s /run/secrets/word || echo none", options=[f"--secret=id=word,src={BASE}/volume/secret"])
    assert shown(result) == ["400 1000", "word", "none"]
