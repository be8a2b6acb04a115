"""The bench (conformance/bench): figures, reports and plots, what it says when a runtime fails, and the counting of instructions."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from test_tools import fake

import harness
import hoststate

sys.path.insert(0, str(harness.ROOT))
from conformance.bench import __main__ as bench_main
from conformance.bench import engines, load, measure, parallel, plots, profile, report, steps  # noqa: E402

# ---- figures, reports, runs


def test_figures():
    assert measure.figures([]) is None
    assert measure.figures([2.0]) == {"median": 2.0, "q1": 2.0, "q3": 2.0, "min": 2.0, "max": 2.0, "n": 1}
    found = measure.figures([5, 1, 4, 2, 3])
    assert (found["median"], found["q1"], found["q3"], found["min"], found["max"], found["n"]) == (3, 2, 4, 1, 5, 5)


FOUND = {
    "machine": {"processor": "p<1>", "kernel": "6", "cgroups": "v2", "when": "now", "pinned": 1},
    "rounds": 3,
    "runtimes": {name: {"path": "/" + name, "version": name + " 1"} for name in ("a", "b")},
    "floor": {"true": measure.figures([1.0])},
    "bundles": {
        "hello": {
            "steps": {
                step: {"a": measure.figures([2.0]), "b": measure.figures([4.0])} if step != "exec" else {"b": measure.figures([1.0])}
                for step, _ in measure.STEPS
            },
            "memory": {
                "a": {"Private_Dirty": 100, "Pss": 1, "Rss": 1, "Threads": 1},
                "b": {"Private_Dirty": 400, "Pss": 1, "Rss": 1, "Threads": 1},
            },
            "failed": {"c": "c create: exit 1"},
        }
    },
}


ONE = measure.figures([1.0, 2.0, 3.0])
ALL = {
    **FOUND,
    "floor": {"true": ONE, "missing": "no C compiler here"},
    "profile": {
        "calls": {name: {"create": {"total": 7, "most": [["close", 4], ["openat", 3]]}} for name in ("a", "b")},
        "instructions": {},
        "missing": {"instructions": "no counters"},
    },
    "resources": {"a": {"without": ONE, "with": ONE, "difference": 0.25}, "b": {"without": None, "with": None, "failed": "b broke"}},
    "smallest": {"a": 448, "b": None},
    "scale": {
        "a": {"create": {"1": ONE, "10": ONE}, "state": {"1": ONE}, "list": {"1": ONE}, "private": {"1": 5}},
        "b": {"create": {"1": ONE}, "state": {}, "list": {}, "private": {}, "failed": "b stopped"},
    },
    "stats": {"a": {"how": "stats", "figures": ONE}, "b": {"missing": "has neither"}},
    "configs": {
        "0 mounts": {"a": {"create": ONE, "delete": ONE}, "b": {"failed": "b refused"}},
        "1 MiB of annotations": {"a": {"create": ONE}},
    },
    "parallel": {"2": {"a": measure.figures([171.0]), "b": ONE}, "8": {"a": ONE}, "failed": {"b": "b fell over"}},
    "engines": {"podman": {"a": {"all": measure.figures([250.0]), "runtime": measure.figures([25.0])}}},
}


def test_report_of_all_parts():
    """Every figure and every reason for a missing one is in the text and on the page."""
    words = [
        "close 4, openat 3",
        "not counted, no counters",
        "0.25",
        "b broke",
        "448",
        "b stopped",
        "has neither",
        "b refused",
        "no C compiler",
        "171.00",
        "b fell over",
        "250.0",
        "90",
    ]
    text, page = report.text(ALL), report.html(ALL)
    assert [w for w in words if w not in text] == [] and [w for w in words if w not in page] == []
    assert page.count("<svg") == page.count("</svg>") >= 3 and "<script" not in page and "http" not in page


def test_plots():
    """The higher value has the higher bar; a runtime without a figure has none; without any figures there is no plot."""
    drawn = plots.bars("t", "ms", [("x", {"a": measure.figures([4.0]), "b": 2.0}), ("y", {"b": 1.0})], ["a", "b"])
    heights = [
        float(part.partition('height="')[2].partition('"')[0])
        for part in drawn.split("<rect")[1:]
        if "<title>" in part.partition("</rect>")[0]
    ]
    assert len(heights) == 3 and heights[0] == 2 * heights[1] == 4 * heights[2]
    assert "1,000" in plots.lines("t", "ms", {"a": [(1, 1.0), (1000, 2.0)]}, ["a"])
    assert "1,000" not in plots.lines("t", "ms", {"a": [(0, 1.0), (999, 1.0), (1000, 2.0)]}, ["a"]), "numbers do not overlap"
    assert plots.bars("t", "ms", [], ["a"]) == plots.lines("t", "ms", {}, ["a"]) == ""


@pytest.mark.parametrize(("top", "step"), [(79.99, 10), (8.0, 2), (7.9, 1), (100, 20), (0.3, 0.05), (200_000, 50_000), (1, 0.2)])
def test_ticks_are_round(top, step):
    """At least four parts, and few enough to be readable."""
    assert plots.round_step(top) == pytest.approx(step) and 4 <= top / step < 10
    assert "{:,.10g}".format(step) in plots.bars("t", "ms", [("x", {"a": top})], ["a"])


def test_the_page_of_the_bench_for_every_reader():
    """It fits a phone, supports both colour schemes, has a table of contents with working links, and wide elements scroll separately."""
    page = report.html(ALL)
    assert "name=viewport" in page and "prefers-color-scheme:dark" in page
    links = re.findall(r"<a href='#(\w+)'>", page)
    assert links and links == re.findall(r"<h2 id=(\w+)>", page)
    for tag in ("<table", "<svg"):
        assert page.count(tag) == page.count("<div class=wide>" + tag)
    assert "`" not in page and not re.search(r"""(fill|stroke)=["']#""", page)


def test_figures_of_two_runs():
    """Where both runs have figures, the later one counts; runtimes and parts that only one of them has are kept."""
    old = {"scale": {"a": {"create": {"1": ONE, "10": ONE}}, "b": {"create": {"1": ONE}}}, "stats": {"a": 1}}
    old["scale"]["a"]["failed"] = "once"  # type: ignore[index]
    new = {"scale": {"a": {"create": {"1": measure.figures([9.0])}}, "c": {}}, "rounds": 2}
    found = bench_main.merged(old, new)
    assert found["scale"]["a"] == {"create": {"1": measure.figures([9.0]), "10": ONE}}
    assert (found["scale"]["b"], found["scale"]["c"], found["stats"], found["rounds"]) == (old["scale"]["b"], {}, {"a": 1}, 2)  # type: ignore[index]


def test_load_hundred_by_hundred(tmp_path):
    samples = [{"ms": 1.0 + number // 100, "pss_kb": 9, "anonymous_kb": 700, "available_kb": 5} for number in range(250)]
    (tmp_path / "load").write_text(json.dumps({"lives": {"samples": samples}, "docker": {"samples": {"ours": [200.0], "runc": [400.0]}}}))
    found = load.read(tmp_path / "load")
    assert [(row["from"], row["to"], row["ms"]["median"]) for row in found["lives"]] == [(1, 100, 1.0), (101, 200, 2.0), (201, 250, 3.0)]
    page = report.html({**ALL, "load": found})
    assert "201–250" in page and "400.00 (400.00–400.00)" in page and page.count("<svg") == report.html(ALL).count("<svg") + 2


def test_engines_from_their_file(tmp_path):
    (tmp_path / "engines").write_text(json.dumps({"engines": {"ctr": {"a": {"all": [30.0, 50.0, 40.0], "runtime": [8.0, 9.0, 10.0]}}}}))
    found = engines.read(tmp_path / "engines")
    assert (found["ctr"]["a"]["all"]["median"], found["ctr"]["a"]["runtime"]["q1"]) == (40.0, 8.5)


@pytest.mark.kernel
def test_parallel_runs(tmp_path):
    """As many as it says are alive at once, and a failure has the words of the runtime."""
    log = tmp_path / "log"
    script = tmp_path / "runtime"
    script.write_text("#!/bin/sh\necho + >>%s; sleep 0.05; echo - >>%s\n" % (log, log))
    script.chmod(0o755)
    driver = measure.Driver("fake", str(script), "", "", str(tmp_path))
    assert parallel._rate(driver, 4, "x") > 0
    alive = [0]
    for line in log.read_text().split():
        alive.append(alive[-1] + (1 if line == "+" else -1))
    assert 2 <= max(alive) <= 4 and log.read_text().count("+") == parallel.BATCH
    script.write_text("#!/bin/sh\necho broken >&2; exit 3\n")
    with pytest.raises(measure.Failed, match="broken"):
        parallel._rate(driver, 4, "x")


STRACE = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ------------------
 51.91    0.005677        5677         1           waitid
  5.62    0.000615           3       168        14 openat
------ ----------- ----------- --------- --------- ------------------
100.00    0.006292                  169        14 total
"""


def test_calls_of_strace():
    assert profile.calls(STRACE) == {"total": 169, "most": [["openat", 168], ["waitid", 1]]}
    assert profile.calls("") == {"total": 0, "most": []}


@pytest.mark.parametrize(
    "words",
    [
        ["--part", "nosuch"],
        ["--rounds", "x"],
        ["--rounds"],
        ["--add", "/nowhere.json"],
        ["--load", "/nowhere.json"],
        ["--engines", "/nowhere.json"],
        ["--runtime", "/nowhere"],
    ],
)
def test_bench_reports_invalid_arguments(words):
    lacking = [name for name in ("runc", "crun") if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]
    if lacking and words[0] in ("--add", "--load", "--engines"):
        pytest.skip("this machine has no %s, which it measures next to pyrunc" % " and no ".join(lacking))
    argv = ["/usr/bin/python3", "-m", "conformance.bench", *words]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=harness.ROOT, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 1 and done.stderr.startswith("bench: ") and "Traceback" not in done.stderr


def test_report_as_text():
    text = report.text(FOUND)
    row = next(line for line in text.splitlines() if line.startswith("create"))
    assert row.split() == ["create", "2.00", "(2.00–2.00)", "4.00", "(4.00–4.00)", "0.50"]
    assert next(line for line in text.splitlines() if line.startswith("exec")).split()[-1] == "–"
    assert next(line for line in text.splitlines() if line.startswith("Private")).split() == ["Private_Dirty", "100", "400", "0.25"]
    assert "c create: exit 1" in text


def test_report_as_page():
    page = report.html(FOUND)
    assert "<td>0.50" in page and "p&lt;1&gt;" in page and "http" not in page


def test_figures_are_json():
    figures = measure.figures([3, 1, 2])
    assert json.loads(json.dumps(figures)) == figures


def test_bench_leaves_out_a_runtime_that_fails(tmp_path):
    """A runtime that fails is named with its error, and the others are still measured."""
    if os.geteuid():
        pytest.skip("this machine gives the test run no root")
    fake(tmp_path, "broken", "echo nothing works >&2; exit 1")
    argv = ["/usr/bin/python3", "-m", "conformance.bench", "--runtime", str(tmp_path / "broken"), "--rounds", "1", "--bundle", "minimal"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=harness.ROOT)
    assert done.returncode == 0, done.stderr
    assert "broken create: exit 1: nothing works" in done.stdout


def test_a_terminated_bench_leaves_nothing(tmp_path):
    """timeout(1) sends the signal twice: the second one must not interrupt the cleanup."""
    if os.geteuid():
        pytest.skip("this machine gives the test run no root")
    place = tmp_path / "place"
    place.mkdir()
    fake(tmp_path, "sleepy", 'case " $* " in *" create "*) echo begun >%s; while :; do :; done;; esac' % (tmp_path / "begun"))
    harness.fifo(tmp_path / "begun")
    argv = ["/usr/bin/python3", "-m", "conformance.bench", "--runtime", str(tmp_path / "sleepy"), "--part", "steps"]
    environment = {**os.environ, "TMPDIR": str(place)}
    process = subprocess.Popen(argv, cwd=harness.ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    harness.lines_of(tmp_path / "begun")
    process.terminate()
    process.terminate()
    assert "bench: terminated" in process.communicate(timeout=harness.WATCHDOG)[1] and process.returncode == 1
    assert list(place.iterdir()) == [] and hoststate.processes(str(tmp_path)) == {}


# ---- instructions, one by one


@pytest.fixture(scope="module")
def stepper(tmp_path_factory):
    """The program that executes others step by step."""
    if not shutil.which("cc"):
        pytest.skip("this machine has no compiler")
    return steps.compiled(str(tmp_path_factory.mktemp("stepper")))


@pytest.fixture(scope="module")
def stepped(stepper, tmp_path_factory):
    """Counts the instructions that a program in assembly executes: (exit status, count or None)."""
    place = tmp_path_factory.mktemp("steps")

    def count(text, *arguments, timeout=harness.WATCHDOG):
        (place / "p.c").write_text('__asm__(".globl _start\\n_start:" %s);' % json.dumps(text))
        subprocess.run(["cc", "-nostdlib", "-static", "-o", place / "p", place / "p.c"], check=True, cwd=place)
        report = place / "report"
        report.unlink(missing_ok=True)
        done = subprocess.run([stepper, report, place / "p", *arguments], timeout=timeout, close_fds=False)
        return done.returncode, int(report.read_text()) if report.exists() else None

    return count


X86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the programs are for x86-64")
EXIT = "mov $60, %eax; mov $7, %edi; syscall"


@X86
@pytest.mark.parametrize("rounds", [1, 1000, 5000])
def test_every_instruction_counts(stepped, rounds):
    """The last one, which ends the program, never completes."""
    assert stepped("mov $%d, %%ecx; 1: dec %%ecx; jnz 1b; %s" % (rounds, EXIT)) == (7, 1 + 2 * rounds + 2)


# fork; the child counts to three million and writes a byte to descriptor 199; the parent exits long before that
LATE = """mov $57, %eax; syscall; test %eax, %eax; jnz 2f; mov $3000000, %ecx; 1: dec %ecx; jnz 1b;
    mov $1, %eax; mov $199, %edi; lea _start(%rip), %rsi; mov $1, %edx; syscall; mov $60, %eax; xor %edi, %edi; syscall;
    2: mov $300, %ecx; 3: dec %ecx; jnz 3b; mov $60, %eax; mov $7, %edi; syscall"""


@X86
def test_children_are_released(stepped):
    """Processes that outlive the program are not affected by a trap that nobody handles any longer, wherever they are at that time."""
    for _ in range(20):
        reader, writer = os.pipe()
        os.dup2(writer, 199)
        os.set_inheritable(199, True)
        os.close(writer)
        try:
            assert stepped(LATE)[0] == 7
        finally:
            os.close(199)
        with open(reader, "rb") as pipe:
            assert len(pipe.read()) == 1  # the pipe ends when the child is gone


def test_a_terminated_run_reports_nothing(stepper, tmp_path):
    process = subprocess.Popen([stepper, tmp_path / "report", "/bin/sleep", "1000"])
    children = pathlib.Path("/proc/%d/task/%d/children" % (process.pid, process.pid))
    while not (child := children.read_text().strip()) or pathlib.Path("/proc/%s/comm" % child).read_text() != "sleep\n":
        assert process.poll() is None
    process.terminate()
    assert process.wait(harness.WATCHDOG) == 125
    assert hoststate.state_of(child) is None and not (tmp_path / "report").exists()
