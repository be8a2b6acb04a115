"""`import pyrunc`: its names, their types, and the examples in docs/python.md."""

import ast
import doctest
import inspect
import shutil
import subprocess
import textwrap

import pytest

import harness
import hoststate
import pyrunc as api
from test_python_api_programs import PYTHON


def test_the_names():
    import pyrunc.api

    stub = ast.parse((harness.ROOT / "runtime/pyrunc/__init__.pyi").read_text())
    named = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(api.__all__) == set(pyrunc.api.__all__) == named  # type: ignore[attr-defined]
    assert set(api.__all__) <= set(dir(api))  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="nonsense"):
        _ = api.nonsense  # type: ignore[attr-defined]


def test_loading_is_lazy():
    """The runtime loads the package with every command, so importing it loads nothing else."""
    code = "import sys; before = set(sys.modules); import pyrunc; print(sorted(set(sys.modules) - before)); pyrunc.Runtime"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['pyrunc']\n"


def test_types(tmp_path):
    """mypy --strict, of the package and of a program that uses it."""
    mypy = shutil.which("mypy", path=str(harness.ROOT / ".venv/bin"))
    if not mypy:
        pytest.skip("no mypy in .venv: make .stamps/tools")
    (tmp_path / "user.py").write_text(
        "import pyrunc\n\n"
        "def f(rt: pyrunc.Runtime) -> int:\n"
        "    with rt.create(pyrunc.Bundle('x')) as container:\n"
        "        status = container.start().wait().status\n"
        "    reveal_type(status)\n"
        "    container.nonsense()\n"
        "    return container.exec(['a']).status\n"
    )
    argv = [mypy, "--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache"), "-p", "pyrunc.api"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=harness.ROOT)
    assert done.returncode == 0 and done.stdout == "", done
    argv = [mypy, "--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache"), str(tmp_path / "user.py")]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=harness.ROOT)
    lines = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert lines == [
        'note: Revealed type is "int | None"',
        'error: "Container" has no attribute "nonsense"  [attr-defined]',
    ], done


@pytest.mark.kernel
def test_the_examples_in_the_documentation_work(pyrunc, monkeypatch, scratch):
    """All examples in docs/python.md, with their directories below /tmp replaced by those of this session."""
    monkeypatch.setenv("PYRUNC", pyrunc.path)
    text = (harness.ROOT / "docs/python.md").read_text().replace("/tmp/pyrunc-example", str(scratch / "documented"))
    text = text.replace('(bundle, "example"', '(bundle, "%s"' % pyrunc.new_id())  # the cgroup has that name
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    test = doctest.DocTestParser().get_doctest(text, {}, "python.md", "docs/python.md", 0)
    found = runner.run(test)
    assert found.failed == 0 and found.attempted > 12
    assert hoststate.state_dirs(scratch / "documented") == set()


def public(kind):
    """{name: kind} of the attributes of a class, including those that its constructor sets."""
    found = {name: getattr(kind, name) for name in dir(kind) if name[:1] != "_"}
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind.__init__)))
    targets = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
    found.update({n.attr: None for n in targets if ast.unparse(n.value) == "self" and n.attr[:1] != "_"})
    return found


@pytest.mark.parametrize(
    ("kind", "twin", "more"), [("Runtime", "AsyncRuntime", set()), ("Container", "AsyncContainer", {"stdout_stream", "stderr_stream"})]
)
def test_attributes_and_methods(kind, twin, more):
    """Known values are attributes, and calls to the runtime are methods. The asynchronous class has the same names, with a coroutine or an
    asynchronous iterator for each method and the same parameters. All of them are on the page."""
    names, others = public(getattr(api, kind)), public(getattr(api, twin))
    assert set(others) - set(names) == more and set(names) <= set(others)
    page = (harness.ROOT / "docs/python.md").read_text()
    assert [name for name in others if "`%s`" % name not in page] == []
    for name, value in names.items():
        if not inspect.isfunction(value):
            assert not inspect.isfunction(others[name]), name
            continue
        assert inspect.iscoroutinefunction(others[name]) or inspect.isasyncgenfunction(others[name]), name
        asked = [dict(inspect.signature(function).parameters) for function in (value, others[name])]
        assert set(asked[1]) - set(asked[0]) == ({"stream"} if name == "create" else set()) and set(asked[0]) <= set(asked[1])
        assert all(str(asked[1][word]) == str(parameter) for word, parameter in asked[0].items()), name


def test_attributes_need_no_runtime(tmp_path):
    """They exist even without a runtime on the machine, and no helper process is started for them."""
    runtime = api.Runtime("/nonexistent/pyrunc", root=tmp_path)
    container = api.Container(runtime, "x", [])
    for one in (runtime, container):
        for name, value in public(type(one)).items():
            if not inspect.isfunction(value):
                getattr(one, name)
    assert runtime._caller._control is None
    with pytest.raises(api.NotInstalledError):
        container.status()
    runtime.close()


def test_no_module_of_the_runtime_is_a_public_name():
    import pyrunc.store  # noqa: F401

    assert {name for name in dir(api) if name[:2] != "__"} == set(api.__all__)  # type: ignore[attr-defined]


def test_the_version(pyrunc):
    assert api.__version__ == api.Runtime(pyrunc.path).version()
