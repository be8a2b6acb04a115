"""jsonio, fileio, timestamps: JSON through `_json`, on every Python installed here; names, files, time stamps."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

import harness
from pyrunc import errors, fileio, install_paths, json_errors, jsonio, timestamps

# (text, words that the refusal must contain, pointer)
BAD = [
    (b"", "empty", "/"),
    (b" \n\t", "holds only blanks", "/"),
    (b"\xef\xbb\xbf{}", "byte order mark", "/"),
    ('{"a": 1}'.encode("utf-16"), "UTF-16", "/"),
    (b'{"a": "caf\xe9"}', "offset 10: byte 0xe9", "/a"),
    (b'{"a": {"b": "\xff"}}', "offset 13", "/a/b"),
    (b"{} xyz", "after the document", "/"),
    (b"{}{}", "after the document", "/"),
    (b"{}\0\0", "after the document", "/"),
    (b'{"a": 1, "a": 2}', "duplicate key", "/a"),
    (b'{"a": 1, "\\u0061": 2}', "duplicate key", "/a"),
    (b'{"process": {"user": {"uid": 1000, "uid": 0}}}', "duplicate key", "/process/user/uid"),
    (b'{"x/y": [{"~": 1, "~": 2}]}', "duplicate key", "/x~1y/0/~0"),
    (b'{"a": 1.0}', "only integers", "/a"),
    (b'{"a": [1, 1e3]}', "only integers", "/a/1"),
    (b'{"a": 1e999}', "only integers", "/a"),
    (b'{"a": -0.5}', "only integers", "/a"),
    (b'{"a": NaN}', "NaN", "/a"),
    (b'{"a": Infinity}', "Infinity", "/a"),
    (b'{"a": -Infinity}', "Infinity", "/a"),
    (b'{"a": ' + b"9" * 21 + b"}", "21 digits", "/a"),
    (b'{"a": -' + b"9" * 5000 + b"}", "5000 digits", "/a"),
    (b'{"a": 01}', "begin with 0", "/a"),
    (b'{"a": -}', "digit", "/a"),
    (b'{"a": +1}', "a value", "/a"),
    (b'{"a": "\\ud800"}', "surrogate U+D800", "/a"),
    (b'{"a": "\\udc00\\ud800"}', "surrogate U+DC00", "/a"),
    (b'{"\\uDfff": 1}', "surrogate U+DFFF", "/\\udfff"),
    (b'{"a\\u0000b": 1}', "NUL", "/a\\x00b"),
    (b"[" * 129 + b"]" * 129, "deeper than 128", None),
    (b"[" * 100000, "deeper than 128", None),
    (b'{"a":' * 10000 + b"1" + b"}" * 10000, "deeper than 128", None),
    (b"{'a': 1}", "double quotes", "/"),
    (b"{\"a\": 'x'}", "double quotes", "/a"),
    (b'{"a": 1,}', "trailing comma", "/a"),
    (b"[1,]", "trailing comma", "/0"),
    (b"[1 2]", "a comma or ]", "/0"),
    (b'{"a" 1}', "a colon", "/a"),
    (b'{"a": 1 "b": 2}', "a comma or }", "/a"),
    (b'{"a": // x\n 1}', "comments", "/a"),
    (b'/* x */ {"a": 1}', "comments", "/"),
    (b'{"a": # x\n 1}', "comments", "/a"),
    (b'{"a": tru}', "a value", "/a"),
    (b'{"a": "x', "unterminated string", "/a"),
    (b'{"a": "x\ny"}', "control character (0x0a)", "/a"),
    (b'{"a": "\\x41"}', "invalid escape", "/a"),
    (b'{"a": "\\u12g4"}', "invalid escape", "/a"),
    (b"[1\x0c]", "a comma or ]", "/0"),
    (b"\0", "NUL", "/"),
]
GOOD = [
    (b"{}", {}),
    (b' \n{"a": [1, -2, {"b": null}], "c": true}\n\t ', {"a": [1, -2, {"b": None}], "c": True}),
    (b"[]", []),
    (b" null ", None),
    (b'"x"', "x"),
    (b'{"": 1, "__proto__": {}}', {"": 1, "__proto__": {}}),
    (b"[18446744073709551615, -9223372036854775808]", [(1 << 64) - 1, -(1 << 63)]),
    (b'["\\udc80\\udcff"]', ["\udc80\udcff"]),
    (b'["\\ud83d\\ude00 \\u00e9 \xc3\xa9 \\/"]', ["\U0001f600 é é /"]),
    (b'["[[[[", "]"]', ["[[[[", "]"]),
    (b"[" * 128 + b"]" * 128, json.loads("[" * 128 + "]" * 128)),
]


@pytest.mark.parametrize(("text", "words", "pointer"), BAD, ids=lambda x: repr(x)[:30])
def test_refused_with_position(text, words, pointer):
    with pytest.raises(errors.Refusal) as caught:
        jsonio.loads(text, "config.json")
    assert words in caught.value.words
    assert caught.value.words.startswith("config.json: ")
    if pointer is not None:
        assert caught.value.pointer == pointer
    assert caught.value.sentence().isprintable()


@pytest.mark.parametrize(("text", "value"), GOOD, ids=lambda x: repr(x)[:30])
def test_accepted(text, value):
    got = jsonio.loads(text)
    assert got == value
    assert jsonio.loads(jsonio.dumps(got).encode()) == got


def test_line_and_column():
    with pytest.raises(errors.Refusal, match=r"line 3, column 8: "):
        jsonio.loads(b'{\n  "a": 1,\n  "b": x\n}')


def test_every_prefix_is_refused():
    """A file that is truncated anywhere is never accepted as complete."""
    text = harness.ROOT.joinpath("tests/vectors/config/good/spec-example.json").read_bytes().rstrip()
    jsonio.loads(text)
    step = max(1, len(text) // 700)
    for end in range(0, len(text), step):
        with pytest.raises(errors.Refusal):
            jsonio.loads(text[:end])


def test_second_reader_agrees_with_the_first():
    """misread finds no fault in good documents, so what it reports about bad ones is the fault."""
    for text, _ in GOOD:
        assert json_errors.explain(text.decode(), "x", 128, 20).words == "x: malformed JSON"
    for path in harness.ROOT.glob("tests/vectors/*/good/*.json"):
        assert json_errors.explain(path.read_text(), "x", 128, 20).words == "x: malformed JSON"


def test_locate():
    text = '{\n  "a": [1, {"b~/": true}],\n  "c": {}\n}'
    assert json_errors.locate(text, "/a/1/b~0~1") == (2, 20)
    assert json_errors.locate(text, "/a/0") == (2, 9)
    assert json_errors.locate(text, "/c/missing") == (3, 8)
    assert json_errors.locate(text, "/") == (1, 1)


def test_duplicate_keys_with_different_escapes():
    with pytest.raises(errors.Refusal, match="duplicate key"):
        jsonio.loads(b'{"a": {"\\n": 1, "b": 2, "\\u000a": 3}}')


def interpreters():
    """One of each minor version from 3.11 on: on PATH, Debian's, or pyenv's."""
    found = {}
    homes = pathlib.Path(os.path.expanduser("~/.pyenv/versions")).glob("*/bin/python3")
    for python in ["/usr/bin/python3", *(shutil.which("python3.%d" % minor) for minor in range(11, 20)), *sorted(map(str, homes))]:
        if python and os.path.exists(python):
            done = subprocess.run([python, "-I", "-S", "-c", "import sys; print(sys.version_info[1])"], capture_output=True, text=True)
            if done.returncode == 0 and int(done.stdout) >= 11:
                found.setdefault(int(done.stdout), python)
    return found


INTERPRETERS = interpreters()
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from pyrunc import jsonio, errors
raw = open(sys.argv[2], "rb").read()
doc = jsonio.loads(raw)
assert jsonio.loads(jsonio.dumps(doc).encode()) == doc
assert jsonio.loads(jsonio.dumps(doc, indent=2).encode()) == doc
assert jsonio.loads(b'[true,false,null,-1,"\\\\u00e9"]') == [True, False, None, -1, "\\u00e9"]
slow = {"json", "re", "os", "enum", "struct", "typing", "collections"} & set(sys.modules)
assert not slow, slow
for bad in (b'{"a" 1}', b'["\\\\x"]', b'[1.5]', b'[' * 100000, b'{"a":1,"a":2}', b'[1] x', b'', b'["', b'[NaN]', b'[tru]'):
    try:
        jsonio.loads(bad)
    except errors.Refusal as e:
        assert e.words and "malformed" not in e.words, (bad, e.words)
    else:
        raise SystemExit("accepted: %r" % bad)
"""


@pytest.mark.parametrize("minor", [11, 12, 13])
def test_private_names_of_this_python(minor):
    """`_json` is private: it must behave as expected on each interpreter installed here, and valid text must not load a slow module."""
    python = INTERPRETERS.get(minor)
    if python is None:
        pytest.skip("this machine has no Python 3.%d" % minor)
    example = harness.ROOT / "tests/vectors/config/good/spec-example.json"
    done = subprocess.run(
        [python, "-I", "-S", "-c", SCRIPT, str(harness.ROOT / "runtime"), str(example)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_dumps_is_json():
    value = {"text": 'a"b\\\n\t\x1f é \U0001f600', "list": [1, -2, [], {}, None, True, False, ("x",)], "map": {"k": {"": 0}}}
    plain = json.loads(json.dumps(value))
    assert json.loads(jsonio.dumps(value)) == plain
    for indent in (2, 4, "\t"):
        assert jsonio.dumps(value, indent=indent) == json.dumps(value, indent=indent, ensure_ascii=False)
    assert jsonio.dumps(value) == json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def test_dumps_survives_any_name():
    """A name with any bytes is written as encodable text and comes back as the same bytes."""
    name = fileio.fsdecode(bytes(range(1, 256)))
    for indent in (None, 2):
        text = jsonio.dumps({name: [name, "é"]}, indent=indent)
        back = jsonio.loads(text.encode())
        assert fileio.fsencode(back[name][0]) == bytes(range(1, 256))


def test_dumps_refuses_values_that_json_lacks():
    with pytest.raises(TypeError, match="bytes"):
        jsonio.dumps({"a": b"x"})
    with pytest.raises(ValueError):
        jsonio.dumps([float("nan")])


def test_time_stamps():
    assert timestamps.rfc3339(0) == "1970-01-01T00:00:00.000000000Z"
    assert timestamps.rfc3339(1732457616123456789) == "2024-11-24T14:13:36.123456789Z"
    for day in range(0, 400 * 366, 1):
        assert timestamps.rfc3339((day * 86400 + 86399) * 10**9 + 5).startswith(
            time.strftime("%Y-%m-%dT23:59:59.", time.gmtime(day * 86400))
        )
    now = time.time_ns()
    assert timestamps.rfc3339(now).startswith(time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(now // 10**9)))


def test_files(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3000)
    assert fileio.read_file(str(path), 3000) == b"x" * 3000
    with pytest.raises(OSError) as caught:
        fileio.read_file(str(path), 2999)
    assert caught.value.filename == str(path)
    fd = os.open(tmp_path, os.O_RDONLY)
    assert fileio.read_file("file", dir_fd=fd) == b"x" * 3000
    os.close(fd)


def test_write_all_to_a_slow_reader():
    """A pipe in non-blocking mode accepts 64 KiB at a time; nothing is lost."""
    data = os.urandom(1 << 20)
    r, w = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(w, False)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(r)
            fileio.write_all(w, data)
        finally:
            os._exit(0)
    os.close(w)
    got = b""
    while chunk := os.read(r, 1 << 16):
        got += chunk
    os.close(r)
    assert os.waitpid(pid, 0)[1] == 0
    assert got == data


def test_data_files():
    assert json.load(open(install_paths.data("specs/config-schema.json")))["required"] == ["ociVersion"]
    assert sys.modules["pyrunc.jsonio"].__file__.startswith(install_paths.home() + "/")


def test_places_next_to_the_launcher(tmp_path, monkeypatch):
    """A link in a venv that points to a checkout: libraries are next to the link, the package next to its target."""
    site = tmp_path / "venv/lib/python3.13/site-packages"
    for folder in (site, tmp_path / "venv/bin", tmp_path / "tree/bin"):
        folder.mkdir(parents=True)
    (tmp_path / "tree/bin/pyrunc").touch()
    os.symlink("../../tree/bin/pyrunc", tmp_path / "venv/bin/pyrunc")
    os.symlink(tmp_path / "venv/bin/pyrunc", tmp_path / "link")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "link")])
    bases = [os.path.realpath(base) for base in install_paths.launcher_dirs()]
    assert bases == [str(tmp_path), str(tmp_path / "venv/bin"), str(tmp_path / "tree/bin")]
    assert [os.path.realpath(p) for base in install_paths.launcher_dirs() for p in install_paths.site_dirs(base)] == [str(site)]
    monkeypatch.setattr(sys, "argv", [])
    assert install_paths.launcher_dirs()


def test_the_slow_reader_is_linear():
    """A quadratic reader would take hours for 16 MiB, the limit on a file, and exceed the time limit of this test."""
    escapes = b'{"a":"' + b"\\n" * 1000000 + b'\\q"}'
    for text in (escapes, b"{" + b" " * 2000000 + b"x", b'{"a":"' + b"\\u00e9" * 400000, b"[" + b"0," * 3000000 + b"x]"):
        with pytest.raises(errors.Refusal, match="line 1, column"):
            jsonio.loads(text)


@pytest.mark.parametrize("pair", ["[]", ('{"a":', "}")], ids=["lists", "objects"])
@pytest.mark.parametrize("levels", [2000, 200000])
def test_depth_is_known_before_the_scanner_recurses(pair, levels):
    """With a stack of 1 MiB (ulimit -s 1024), a deeply nested document used to cause a SIGSEGV."""
    opening, closing = pair
    program = (
        "from pyrunc import jsonio, errors\n"
        "text = %r * %d + '1' + %r * %d\n"
        "try: jsonio.loads(text)\n"
        "except errors.Refusal as e: print(e.words)\n"
        "print(jsonio.loads('[' + '[],' * 3000 + '\"[[[\\\\\\\"[\"]')[-1])\n"
    ) % (opening, levels, closing, levels)
    argv = ["sh", "-c", 'ulimit -s 1024; exec "$@"', "sh", sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, env={"PYTHONPATH": str(harness.ROOT / "runtime")})
    assert (done.returncode, done.stderr) == (0, "") and "nesting deeper than 128 levels" in done.stdout
    assert done.stdout.splitlines()[-1] == '[[["['


# DEL, C1 control characters, a zero-width space, direction overrides, a line separator, a BOM, a tag character
UNSEEN = "\x7f\x85\x9b\u200b\u202e\u2066\u2028\ufeff\U000e0041"


@pytest.mark.parametrize("indent", [None, 2, "\t"])
@pytest.mark.parametrize("char", UNSEEN)
def test_nothing_invisible_reaches_a_terminal(char, indent):
    document = {"é": "a" + char, "k" + char: [char, {"x": "日本"}], "plain": "a\tb\nc"}
    text = jsonio.dumps(document, indent)
    assert text.replace("\n", "").replace("\t", "").isprintable() and json.loads(text) == document
    assert "é" in text and "日本" in text  # visible characters stay readable


def test_what_can_be_seen_is_not_escaped():
    assert jsonio.dumps({"é": "日本 ñ"}) == '{"é":"日本 ñ"}'
