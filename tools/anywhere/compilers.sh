#!/bin/sh
# compilers.sh CC...: builds with each compiler, and runs the demo and the tests of the extension with the result. Prints `CHECK CC ok` or
# `CHECK CC FAILED: why`. At the end the default compiler's build is restored.
for cc in "$@"; do
    rm -rf build/launcher runtime/bin/pyrunc-static runtime/pyrunc/linux/_syscalls.abi3.so
    said=$(make build CC="$cc" 2>&1)
    status=$?
    echo "$said"
    if [ "$status" != 0 ]; then
        echo "CHECK $cc FAILED: make build"
    elif echo "$said" | grep -q "warning:"; then
        echo "CHECK $cc FAILED: warnings"
    elif ! make demo CC="$cc"; then
        echo "CHECK $cc FAILED: make demo"
    elif ! .venv/bin/pytest -q -n 2 tests/unit/test_extension.py tests/unit/test_jsonbytes.py tests/kernel/test_finish*.py \
        tests/kernel/test_spawn.py tests/kernel/test_syscalls*.py tests/kernel/test_seal.py tests/cli/test_inside.py \
        tests/cli/test_properties.py tests/cli/test_lifecycle.py; then
        echo "CHECK $cc FAILED: tests"
    else
        echo "CHECK $cc ok: $(.venv/bin/pyrunc --version | head -n 1), $(echo "$said" | sed -n 's/^launcher: [^,]*, \(.* MB\)$/\1/p')"
    fi
done
rm -rf build/launcher runtime/bin/pyrunc-static runtime/pyrunc/linux/_syscalls.abi3.so
make build
