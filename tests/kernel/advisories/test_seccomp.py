"""The system call filter: all arguments of a rule must match."""

import pytest

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("first, second, denied", [(8, 9, True), (8, 0, False), (0, 9, False), (0, 0, False)])
def test_cve_2017_18367_arguments_are_joined_by_and(runtime, make_bundle, prober, first, second, denied):
    rule = {
        "names": ["personality"],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": 77,
        "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}],
    }
    filter = {"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}}
    result = runtime.run(prober(make_bundle(filter, args=["/bin/prober", "personality", str(first), str(second)])))
    assert (result.code, result.out.split()[1]) == (0, "77" if denied else "0"), result
