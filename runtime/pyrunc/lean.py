"""The small things that every command needs, without the modules that cost milliseconds (json is 6 of them).

JSON in and out by the built-in `_json` alone, names between str and bytes, whole files, time stamps, data files. Its one rule:
nothing is imported that the interpreter has not built in; json is never loaded when the text is good (test_lean watches
sys.modules). `_json` has a private name, hence tests of its own on every Python that is supported.

What `loads` accepts is less than the JSON of Python's library: UTF-8 without a BOM, one document, no key twice, integers of at
most 20 digits and no other numbers, at most DEPTH levels, no lone surrogates but those that stand for bytes (U+DC80..U+DCFF).
"""

import errno
import posix
import sys
from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

from pyrunc import errors

DEPTH = 128  # levels of lists and objects; the deepest place of the schema is level 9
DIGITS = 20  # of an integer: 2^64 has 20; int() itself takes any number and more than 4300 digits are an error in other words
BLANK = " \t\n\r"


# --- names


def fsencode(name):
    """str -> bytes as the kernel sees them; bytes stay. The undoing of fsdecode."""
    return name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")


def fsdecode(name):
    """bytes -> str; bytes that are not UTF-8 become U+DC80..U+DCFF. str stays."""
    return name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")


# --- JSON in


class _Stop(Exception):
    """Leaves the scanner of `_json` from within a hook; the place is found afterwards by misread."""


def _pairs(pairs):
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Stop
    return made


def _integer(text):
    if len(text) > DIGITS and len(text.lstrip("-")) > DIGITS:
        raise _Stop
    return int(text)


def _number(text):
    raise _Stop


class _Context:
    """What make_scanner asks of json.JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_pairs)
    parse_float = staticmethod(_number)
    parse_int = staticmethod(_integer)
    parse_constant = staticmethod(_number)


class _Ours:
    """The same for what we have written: objects and integers are made by the scanner itself, in half the time."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = staticmethod(_number)
    parse_int = int
    parse_constant = staticmethod(_number)


def loads(data, name="JSON", ours=False):
    """bytes (or str) -> the document. Raises Refusal: words begin with `name` and say line and column, pointer where it is known.

    NUL is refused in keys; in values it is the reader's matter (oci.load refuses it there too). `ours`: written by dumps, in a place that
    is nobody else's, so that a key that comes twice, or a long integer, is not looked for."""
    text = data
    if not isinstance(data, str):
        try:
            text = bytes(data).decode()
        except UnicodeDecodeError:
            _misread(data, name)
    start = 0 if text[:1] in ("{", "[") else len(text) - len(text.lstrip(BLANK))
    try:
        document, end = make_scanner(_Ours if ours else _Context)(text, start)
    except (_Stop, StopIteration, ValueError, RecursionError, ImportError, AttributeError, SystemError):
        # bad text: the scanner looks for its exception in json.decoder. 3.13 imports that (ImportError where it can't), 3.11
        # takes what is loaded or returns without an exception (SystemError)
        _misread(text, name)
    if text[end:].strip(BLANK):
        _misread(text, name)
    if text.count("{") + text.count("[") > DEPTH and too_deep(document):
        _misread(text, name)
    if "\\ud" in text or "\\uD" in text or "\\u0000" in text:  # the only ways to write them
        _check_strings(document, name)
    return document


def _misread(text, name):
    """Says what is wrong and where. In a file of its own, as good text never needs it."""
    try:
        from pyrunc import misread
    except ImportError:  # behind the import barrier
        raise errors.Refusal("%s: malformed JSON" % name, "/") from None
    raise misread.explain(text, name) from None


def too_deep(document, limit=DEPTH):
    """Whether lists and objects stand in each other more than `limit` levels. Level by level, never recursive."""
    level = [document]
    for _ in range(limit):
        below = []
        for node in level:
            kind = type(node)
            if kind is dict:
                node = node.values()
            elif kind is not list:
                continue
            below += [v for v in node if type(v) is dict or type(v) is list]
        if not below:
            return False
        level = below
    return True


def _check_strings(document, name):
    """Refuses lone surrogates that are no escaped bytes, and NUL in keys. The pointer is built only here."""
    pending = [("", document)]
    while pending:
        pointer, node = pending.pop()
        if type(node) is str:
            _check_string(node, pointer, name)
        elif type(node) is list:
            pending += [("%s/%d" % (pointer, i), v) for i, v in enumerate(node)]
        elif type(node) is dict:
            for key, value in node.items():
                below = pointer + "/" + escape(key)
                _check_string(key, below, name)
                if "\0" in key:
                    raise errors.Refusal("%s: NUL in a key" % name, errors.quote(below))
                pending.append((below, value))


def _check_string(text, pointer, name):
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as e:
        words = "%s: lone surrogate U+%04X in a string" % (name, ord(text[e.start]))
        raise errors.Refusal(words, errors.quote(pointer) or "/") from None


def escape(key):
    """A key as one step of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


# --- JSON out


def dumps(value, indent=None):
    """Plain data -> str, one line or indented (`indent`: a number of blanks or the text of one level). Characters stay as they
    are; if there are surrogates (bytes in names), everything beyond ASCII is written as \\uXXXX, so the text always encodes."""
    text = _dump(value, indent, encode_basestring)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return _dump(value, indent, encode_basestring_ascii)
    return text


def _dump(value, indent, quote):
    if indent is None:
        return "".join(_ENCODERS[quote](value, 0))
    out = []  # the encoder of C knows no indent before 3.14
    _indented(value, "\n", indent if isinstance(indent, str) else " " * indent, quote, out.append)
    return "".join(out)


def _indented(value, line, step, quote, put):
    kind = type(value)
    if kind is str:
        put(quote(value))
    elif kind is dict and value:
        before = "{" + line + step
        for key, item in value.items():
            put(before + quote(key if type(key) is str else str(key)) + ": ")
            _indented(item, line + step, step, quote, put)
            before = "," + line + step
        put(line + "}")
    elif (kind is list or kind is tuple) and value:
        before = "[" + line + step
        for item in value:
            put(before)
            _indented(item, line + step, step, quote, put)
            before = "," + line + step
        put(line + "]")
    else:
        put(_dump(value, None, quote))


def _unknown(value):
    raise TypeError("no JSON form: " + type(value).__name__)


_ENCODERS = {
    quote: make_encoder(None, _unknown, quote, None, ":", ",", False, False, False)
    for quote in (encode_basestring, encode_basestring_ascii)
}


# --- files

CHUNK = 64 << 10  # of a read; what is longer is mapped and given back by malloc, at each call


def read_fd(fd, limit=16 << 20):
    """The rest of a file or pipe, as bytes. More than `limit` bytes: OSError EFBIG."""
    chunks = []
    left = limit + 1
    while left > 0:
        try:
            chunk = posix.read(fd, min(left, CHUNK))
        except BlockingIOError:
            _wait(fd, 1)
            continue
        if not chunk:
            return b"".join(chunks) if len(chunks) != 1 else chunks[0]
        chunks.append(chunk)
        left -= len(chunk)
    raise OSError(errno.EFBIG, posix.strerror(errno.EFBIG))


def read_file(path, limit=16 << 20, dir_fd=None):
    """The whole file as bytes; OSError names the path. For our own files and the kernel's; configs have oci.load."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOCTTY, dir_fd=dir_fd)
    try:
        return read_fd(fd, limit)
    except OSError as e:
        raise OSError(e.errno, e.strerror, path) from None
    finally:
        posix.close(fd)


def own_environ():
    """The caller's environment as the kernel has it, a list of bytes: Python adds LC_CTYPE to its own."""
    return [entry for entry in read_file("/proc/self/environ", 64 << 20).split(b"\0") if entry]


def write_all(fd, data):
    """Writes all of it: goes on after a short write, waits on a descriptor that somebody made non-blocking."""
    view = memoryview(data if not isinstance(data, str) else fsencode(data))
    while view:
        try:
            view = view[posix.write(fd, view) :]
        except BlockingIOError:
            _wait(fd, 4)
        except OSError as e:
            if fd == 1:
                e.call, e.words = "write", "cannot write to standard output: %s" % errors.errno_text(e.errno)
            raise


def _wait(fd, events):
    """Until a descriptor that somebody else made non-blocking is ready: POLLIN is 1, POLLOUT 4."""
    import select

    poll = select.poll()
    poll.register(fd, events)
    poll.poll()


def home():
    """The directory of the package. Frozen into the launcher it has no __file__: then beside the launcher, as that one searches."""
    if "__file__" in globals():
        return __file__.rpartition("/")[0]
    for base in reversed(launcher_dirs()):
        for place in [base + "/..", *site_dirs(base)]:
            if _exists(place + "/pyrunc/specs"):
                return place + "/pyrunc"
    return "/usr/lib/python3/dist-packages/pyrunc"


def data(name):
    """'specs/config-schema.json' -> path of a data file of the package."""
    return home() + "/" + name


def launcher_dirs():
    """The directories of the executable that was called: argv[0], and each link on the way from there, without slashes at their
    ends. The venv is where the first one is, the package where the last one leads."""
    path = sys.argv[0] if sys.argv and sys.argv[0] else "/usr/bin/pyrunc"
    bases = []
    for _ in range(40):
        base = path.rpartition("/")[0] if "/" in path else "."
        bases.append(base)
        try:
            link = posix.readlink(path)
        except (OSError, ValueError):
            break
        path = link if link[:1] == "/" else base + "/" + link
    return bases


def site_dirs(base):
    """[…/lib/python3.x/site-packages, …/dist-packages] beside a launcher in `base`, those of this Python first."""
    lib = base + "/../lib/"
    names = ["python%d.%d" % sys.version_info[:2]]
    try:
        names += sorted(n for n in posix.listdir(lib) if n[:7] == "python3" and n != names[0])
    except OSError:
        return []
    return [d for n in names for d in (lib + n + "/site-packages", lib + n + "/dist-packages") if _exists(d)]


def _exists(path):
    try:
        posix.stat(path)
    except (OSError, ValueError):
        return False
    return True


# --- time


def rfc3339(ns):
    """Nanoseconds since 1970 -> '2026-11-24T14:13:36.123456789Z'. Always nine digits; no locale has a say in it. Reckoned here, as
    gmtime(3) reads the file of the time zone; in 400 years from March on, so that the leap day is a year's last."""
    seconds, rest = divmod(ns, 1000000000)
    days, seconds = divmod(seconds, 86400)
    era, day = divmod(days + 719468, 146097)  # since the 1st of March of the year 0
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    date = (400 * era + year + (month > 9), month + 3 if month < 10 else month - 9, day - (153 * month + 2) // 5 + 1)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ" % (*date, seconds // 3600, seconds // 60 % 60, seconds % 60, rest)
