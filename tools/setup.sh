#!/bin/sh
# Installs the Debian packages of tools/apt-packages.txt that are missing: `setup.sh demo` those for running pyrunc, `setup.sh test`
# also those for the tests, `setup.sh long` those for the tests that take long, `setup.sh release` also those for `make release`,
# `setup.sh vm` those for the test lab's machine (tools/vmlab). Prints one line; calls apt-get only if something is missing.
set -eu
cd "$(dirname "$0")"
wanted=${1:?"usage: setup.sh demo|test|long|release|anywhere|vm"}
missing=
while read -r kind package _; do
    case $kind in
        demo) [ "$wanted" != vm ] || continue ;;
        test | long | vm | release | anywhere) [ "$wanted" = "$kind" ] || continue ;;
        *) continue ;;
    esac
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done < apt-packages.txt
if [ -z "$missing" ]; then
    echo "packages: all there for $wanted"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "packages: missing, install them as root: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "packages: apt-get install$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086  # a list of words
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
