#!/bin/sh
# `debian_testing.sh DIR PACKAGE...` unpacks packages of Debian testing into DIR/usr, for tests and measurements with newer peers than those
# of Debian 13 (containerd 2, runc, crun): with apt, from the machine's mirror and signed by Debian, with package lists in DIR. Nothing is
# installed, and the machine's apt is not changed. A snapshot mirror may have an expired Release file; its signature is checked all the same.
set -eu
dir=$(realpath -m "${1:?"usage: debian_testing.sh DIR PACKAGE..."}")
shift
[ $# -gt 0 ] || { echo "usage: debian_testing.sh DIR PACKAGE..." >&2; exit 2; }
[ "$(cat "$dir/packages" 2> /dev/null)" != "$*" ] || exit 0
# shellcheck disable=SC2016  # apt's variable
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Label: Debian" "Component: main" | head -n 1)
[ -n "$mirror" ] || { echo "debian_testing: this machine's apt knows no mirror of Debian" >&2; exit 1; }
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.pgp] $mirror testing main" > "$dir/sources.list"
own() {
    tool=$1
    shift
    "$tool" -qq -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$dir/lists" \
        -o Dir::Cache="$dir/cache" -o Dir::State::Status=/dev/null -o APT::Sandbox::User=root -o Acquire::Check-Valid-Until=false "$@"
}
echo "debian_testing: fetching $*"
own apt-get update
cd "$dir"
own apt-get download "$@"
for package in *.deb; do dpkg-deb -x "$package" .; done
rm -rf ./*.deb lists cache etc lib usr/share
echo "$*" > packages
