#!/bin/sh
# Installs the Debian packages of tools/apt-packages.txt that are missing: `setup.sh demo` those for running pyrunc, `setup.sh test`
# also those for the tests, `setup.sh long` those for the tests that take long, `setup.sh release` also those for `make release`,
# `setup.sh vm` those for the test lab's machine (tools/vmlab). Prints one line; calls apt-get only if something is missing. Packages that
# are only for tests and that this version of Debian does not have are named in a second line; tests that need them are skipped.
set -eu
cd "$(dirname "$0")"
wanted=${1:?"usage: setup.sh demo|test|long|release|anywhere|vm"}
missing=
optional=
while read -r kind package _; do
    case $kind in
        demo) [ "$wanted" != vm ] || continue ;;
        test | long | vm | release | anywhere) [ "$wanted" = "$kind" ] || continue ;;
        *) continue ;;
    esac
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] && continue
    missing="$missing $package"
    case $kind in test | long | vm) optional="$optional $package" ;; esac
done < apt-packages.txt
if [ -z "$missing" ]; then
    echo "packages: all there for $wanted"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "packages: missing, install them as root: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! apt-get update -qq >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    exit 1
fi
# shellcheck disable=SC2086  # a list of words
known=" $(apt-cache madison python3 $optional 2>/dev/null | while read -r package _; do printf '%s ' "$package"; done)"
absent=
for package in $optional; do
    case $known in *" $package "*) ;; *) absent="$absent $package" ;; esac
done
case $known in *" python3 "*) ;; *) absent= ;; esac # the lists are empty: the packages may exist
there=
for package in $missing; do
    case "$absent " in *" $package "*) ;; *) there="$there $package" ;; esac
done
if [ -n "$there" ]; then
    echo "packages: apt-get install$there"
    # shellcheck disable=SC2086  # a list of words
    if ! apt-get install -y -qq --no-install-recommends $there >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        exit 1
    fi
fi
[ -z "$absent" ] || echo "packages: not in this version of Debian:$absent; tests that need them are skipped"
