"""docs/first-bundle.md, the errors shown in README.md, and every other page with `console` blocks are followed literally in an empty
directory: each command is run, and its output must match the page."""

import re
import shutil
import subprocess

import pytest

import harness
import hoststate
import make_rootfs

pytestmark = pytest.mark.kernel

FIRST, README = harness.ROOT / "docs/first-bundle.md", harness.ROOT / "README.md"


def steps(page):
    """[(command, output on the page)], from the blocks marked `console`."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def fits(shown, seen):
    """… within a line matches any text, a blank any number of blanks, and a line with only … the rest."""
    rest = shown[-1:] == ["…"]
    shown = shown[:-1] if rest else shown
    if len(seen) < len(shown) or (len(seen) > len(shown) and not rest):
        return False
    return all(_line_fits(a, b) for a, b in zip(shown, seen, strict=False))


def _line_fits(shown, seen):
    pattern = ".*".join(r"\s+".join(map(re.escape, piece.split())) for piece in re.split(r"\s*…\s*", shown))
    return re.fullmatch(r"\s*%s\s*" % pattern, seen) is not None


@pytest.fixture
def follow(pyrunc, tmp_path, no_leaks):
    """follow(page) runs the commands on the page and compares their output; returns the number of commands."""
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin/pyrunc"  # the page uses the default state directory; the test uses another one
    wrapper.write_text('#!/bin/sh\nexec %s --root %s "$@"\n' % (pyrunc.path, pyrunc.root))
    wrapper.chmod(0o755)
    env = {"PATH": "%s:/usr/sbin:/usr/bin:/sbin:/bin" % (tmp_path / "bin"), "LC_ALL": "C.UTF-8"}
    work = tmp_path / "work"
    work.mkdir()

    def run(page):
        for command, shown in steps(page):
            if command.startswith("cat "):  # a person takes longer to type the next command than the program takes to write this
                command = "until test -s %s; do :; done; %s" % (command.split()[1], command)
            with harness.Capture() as out:
                done = subprocess.run(
                    ["/bin/bash", "-c", command], stdin=subprocess.DEVNULL, stdout=out.file, stderr=out.file, cwd=work, env=env,
                    timeout=harness.WATCHDOG,
                )  # fmt: skip
                seen = out.text().splitlines()
            assert fits(shown, seen), "%s (status %d)\n  the page: %r\n  seen: %r" % (command, done.returncode, shown, seen)
        assert not hoststate.state_dirs(pyrunc.root)
        return len(steps(page))

    yield run
    shutil.rmtree(work)


def test_the_page(pyrunc, follow):
    pyrunc.ids += ["my-container", "limited", "broken"]
    assert follow(FIRST.read_text()) > 25


def test_errors_in_the_readme(pyrunc, follow, tmp_path):
    make_rootfs.make_bundle("hello", tmp_path / "hello")
    pyrunc.ids += ["x"]
    assert follow(README.read_text().replace("/tmp/hello", str(tmp_path / "hello"))) == 8


OTHERS = sorted(page for page in (harness.ROOT / "docs").glob("*.md") if page != FIRST and "```console" in page.read_text())


@pytest.mark.parametrize("page", OTHERS, ids=[page.stem for page in OTHERS])
def test_other_pages(pyrunc, follow, tmp_path, page):
    """They use `bundle`, a copy of the example `hello`."""
    make_rootfs.make_bundle("hello", tmp_path / "work/bundle")
    pyrunc.ids += ["metrics"]
    assert follow(page.read_text()) >= 2


def test_the_comparison_can_fail():
    assert fits(["a … c", "…"], ["a  b c", "x", "y"]) and fits([], []) and fits(["ID …"], ["ID   PID"])
    assert not fits(["a"], ["b"]) and not fits([], ["b"]) and not fits(["a", "b"], ["a"]) and not fits(["a …"], ["b a"])
