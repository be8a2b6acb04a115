"""Helper `seccomp`: compiles a seccomp profile with libseccomp. The compiled launcher has libseccomp linked in (csrc/libseccomp.c), and this
module runs in the process itself; elsewhere it runs in the helper process, with the same functions from pyseccomp_calls.py.

In: {"default": action, "arches": [names], "rules": [{"names", "action", "args", "at"}], "enosys": bool, "needs": [names], "strict": bool},
with the kernel's numbers (linux/filters.py). Out: {"bpf": hex, "unknown": [names], "version": "2.6.0"}. Raises Refusal for mistakes in the
profile, Unsupported for what libseccomp or the kernel lacks.

Workarounds for libseccomp: a rule by name resolves the name for the native architecture only, so numbers are resolved here; and it refuses
errno 4095, which the kernel accepts, so another number stands for it until the program is generated. The time that it takes grows with
the square of the program's length, so each architecture gets a program, and filters.joined() makes one of them: 4 ms instead of 10 for
docker's profile.
"""

from __future__ import annotations

import errno

from pyrunc.errors import Refusal, Unsupported
from pyrunc.linux import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.helper.shapes import Attribute, Json, Library, Payload, Profile, Row, Rule

CTL_NNP, CTL_OPTIMIZE = 3, 8  # enum scmp_filter_attr
MANY_RULES = 32  # from here on a binary tree is faster than a list (SCMP_FLTATR_CTL_OPTIMIZE 2, libseccomp 2.5)
OPTIMIZE_TREE = 2
LAST_ERRNO = filters.ERRNO | filters.MAX_ERRNO


def run(payload: Payload) -> dict[str, Json]:
    return compile_profile(stand_in(payload), library())


def stand_in(profile: Profile) -> Profile:
    """The profile with `swap`: an otherwise unused action that represents ERRNO 4095."""
    used = {profile["default"], *[rule["action"] for rule in profile["rules"]]}
    if LAST_ERRNO not in used:
        return {**profile, "swap": None}
    swap = next(a for a in range(LAST_ERRNO - 1, filters.ERRNO, -1) if a not in used)
    rules = [{**rule, "action": swap} if rule["action"] == LAST_ERRNO else rule for rule in profile["rules"]]
    return {**profile, "default": swap if profile["default"] == LAST_ERRNO else profile["default"], "rules": rules, "swap": swap}


def swapped_back(program: bytes, swap: int) -> bytes:
    code = filters.unpack(program)
    return filters.pack((op, jt, jf, LAST_ERRNO if op == filters.RET and k == swap else k) for op, jt, jf, k in code)


def library() -> Library:
    """The calls of libseccomp: program(), numbers(), native(), version()."""
    try:
        from pyrunc.linux import _libseccomp
    except ImportError:
        from pyrunc.helper import pyseccomp_calls

        return pyseccomp_calls
    return _libseccomp


def compile_profile(profile: Profile, lib: Library) -> dict[str, Json]:
    rules = [rule for rule in profile["rules"] if rule["action"] != profile["default"]]  # libseccomp refuses those with EACCES
    native = lib.native()
    names = sorted({name for rule in profile["rules"] for name in rule["names"]})
    numbers = dict(zip(names, lib.numbers(native, names), strict=True))
    unknown = [name for name in names if numbers[name] == -1]
    check_names(profile, rules, set(unknown))
    arches = arches_of(profile, native)
    attributes: list[Attribute] = [(CTL_NNP, 0, False)]
    if sum(len(rule["names"]) for rule in rules) > MANY_RULES:
        attributes.append((CTL_OPTIMIZE, OPTIMIZE_TREE, True))  # libseccomp < 2.5: a list, which is slower
    calls = [(rule, name) for rule in rules for name in rule["names"] if numbers[name] != -1]
    # a number below -1 is libseccomp's own, for a call that this architecture lacks but others may have
    rows: tuple[Row, ...] = tuple((rule["action"], numbers[name], tuple(map(tuple, rule["args"]))) for rule, name in calls)
    programs = []
    for token, place in {native: -1, **arches}.items():
        try:
            programs.append((token, lib.program(profile["default"], token, tuple(attributes), rows)))
        except OSError as e:
            raise explained(e, profile, place, calls) from None
    program = filters.joined(programs)
    if profile["swap"] is not None:
        program = swapped_back(program, profile["swap"])
    if profile["enosys"]:
        known = [name for name in names if numbers[name] != -1]
        program = filters.pack(filters.enosys_prologue(highest(lib, [native, *arches], known))) + program
    if len(program) > filters.MAX_INSNS * filters.INSN.size:
        count = len(program) // filters.INSN.size
        words = "the seccomp profile compiles to %d instructions; the kernel accepts %d" % (count, filters.MAX_INSNS)
        raise Refusal("filter-too-long", words, "/linux/seccomp/syscalls")
    check_needs(lib, profile, program)
    return {"bpf": program.hex(), "unknown": unknown, "version": lib.version()}


def check_names(profile: Profile, rules: list[Rule], unknown: set[str]) -> None:
    """Names that libseccomp doesn't know are ignored: profiles list calls of every kernel. Refused: a profile that allows only unknown calls, and
    with `strict` (annotation run.oci.seccomp_fail_unknown_syscall) any unknown name."""
    for rule in profile["rules"]:
        for name in rule["names"]:
            if profile["strict"] and name in unknown:
                raise Refusal("unknown-syscall", 'unknown system call "%s"' % name, rule["at"] + "/names")
    allowing = [rule for rule in rules if rule["action"] in (filters.ALLOW, filters.LOG)]
    denying = profile["default"] not in (filters.ALLOW, filters.LOG)
    if denying and allowing and all(name in unknown for rule in allowing for name in rule["names"]):
        raise Refusal("nothing-allowed", "no system call that the seccomp profile allows is known", allowing[0]["at"] + "/names")


def arches_of(profile: Profile, native: int) -> dict[int, int]:
    """{token: its place in the profile} of all architectures except the native one, which a filter always has."""
    found: dict[int, int] = {}
    for i, name in enumerate(profile["arches"]):
        token = filters.ARCHES[name]
        if token != native:
            found.setdefault(token, i)
    return found


def explained(e: OSError, profile: Profile, place: int, calls: list[tuple[Rule, str]]) -> Exception:
    """Converts an error of lib.program() to an error of the profile: at the architecture number `place`, or at the call number .at."""
    call, at = getattr(e, "call", None), getattr(e, "at", -1)
    if call == "seccomp_arch_add":
        pointer, name = "/linux/seccomp/architectures/%d" % place, profile["arches"][place]
        if e.errno == errno.EDOM:  # libseccomp allows one byte order per filter
            words = "%s has another byte order than this machine; no filter can have both" % name
            return Refusal("mixed-byte-order", words, pointer)
        return Unsupported("unknown-architecture", "libseccomp doesn't know %s" % name, pointer, "libseccomp")
    if call != "seccomp_rule_add":
        return e
    rule, name = calls[at]
    if e.errno == errno.EOPNOTSUPP:
        words = 'system call "%s": this kernel or libseccomp does not know %s' % (name, filters.action_name(rule["action"]))
        return Unsupported("rule-refused", words, rule["at"], "kernel or libseccomp")
    if e.errno == errno.EEXIST:
        words = 'system call "%s": another rule has the same arguments and another action' % name
    else:
        words = 'system call "%s": libseccomp refuses the rule: %s' % (name, errno.errorcode.get(e.errno or 0, e.errno))
    return Refusal("rule-refused", words, rule["at"])


def highest(lib: Library, tokens: list[int], names: list[str]) -> dict[int, int]:
    """{arch token: highest number that the profile names}, without architectures for which it names nothing."""
    found = {}
    for token in tokens:
        numbers = lib.numbers(token, names)
        if token == filters.ARCHES["SCMP_ARCH_ARM"]:
            numbers = [n for n in numbers if n < filters.ARM_PRIVATE]
        if numbers and max(numbers) >= 0:
            found[token] = max(numbers)
    return found


def check_needs(lib: Library, profile: Profile, program: bytes) -> None:
    """Refuses a filter that blocks calls between its loading and the program's first instruction: no container could start."""
    arch = lib.native()
    for name, number in zip(profile["needs"], lib.numbers(arch, profile["needs"]), strict=True):
        verdict = filters.verdict(program, arch, number)
        if verdict & 0xFFFF0000 in (filters.KILL_PROCESS, filters.KILL_THREAD, filters.TRAP, filters.ERRNO):
            words = "the seccomp profile answers %s with %s, which is needed before the program runs" % (name, filters.action_name(verdict))
            raise Refusal("execve-blocked", words, "/linux/seccomp")
