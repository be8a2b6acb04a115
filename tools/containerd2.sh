#!/bin/sh
# Debian 13 has containerd 1.7. `containerd2.sh DIR` fetches the containerd 2 of Debian's testing and unpacks it as DIR/usr/bin, for the contract
# tests: by apt, from the machine's own mirror and signed by Debian, with lists below DIR. Nothing is installed, the machine's apt stays as it is.
set -eu
dir=$(realpath -m "${1:?"usage: containerd2.sh DIR"}")
if [ -x "$dir/usr/bin/containerd" ]; then
    exit 0
fi
# shellcheck disable=SC2016  # apt's variable
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Label: Debian" "Component: main" | head -n 1)
[ -n "$mirror" ] || { echo "containerd2: this machine's apt knows no mirror of Debian" >&2; exit 1; }
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.pgp] $mirror testing main" > "$dir/sources.list"
own() {
    tool=$1
    shift
    "$tool" -qq -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$dir/lists" \
        -o Dir::Cache="$dir/cache" -o Dir::State::Status=/dev/null -o APT::Sandbox::User=root "$@"
}
echo "containerd2: fetching containerd of Debian's testing"
own apt-get update
cd "$dir"
own apt-get download containerd
dpkg-deb -x containerd_*.deb .
rm -rf containerd_*.deb lists cache etc lib usr/lib usr/share
"$dir/usr/bin/containerd" --version
