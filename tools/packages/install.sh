#!/bin/sh
# Installs pyrunc below PREFIX (/usr/local): the executable, manual pages and completion. `install.sh --uninstall` removes them again.
# With DESTDIR, everything is installed below that directory, for packages, and nothing is executed.
set -eu
cd "$(dirname "$0")"
root=${DESTDIR-}
prefix=$root${PREFIX:-/usr/local}
bin=$prefix/bin
new=$bin/.pyrunc.new
share=$prefix/share
man=$share/man/man8
bash=$share/bash-completion/completions
zsh=$share/zsh/site-functions
fish=$share/fish/vendor_completions.d

fail() {
    rm -f "$new" "$new.sh"
    echo "install.sh: $*" >&2
    exit 1
}

# Anybody who can replace the executable becomes root as soon as an engine calls it.
must_be_ours() {
    dir=$1
    while :; do
        # shellcheck disable=SC2012  # the mode and the owner; stat(1) is not everywhere
        line=$(ls -ldn "$dir/")
        case $line in
            ????????w[!tT]*) fail "everybody may write to $dir: choose another PREFIX" ;;
        esac
        owner=$(echo "$line" | awk '{ print $3 }')
        [ "$owner" = 0 ] || [ "$owner" = "$(id -u)" ] || fail "$dir belongs to uid $owner: choose another PREFIX"
        [ -n "$dir" ] || break
        dir=${dir%/*}
    done
}

must_run() {
    if said=$("$new" --version 2>&1); then return; fi
    printf '#!/bin/sh\n' >"$new.sh"
    chmod 755 "$new.sh"
    "$new.sh" 2>/dev/null || fail "nothing can be executed in $bin: it is mounted with noexec; choose another PREFIX"
    [ "$(uname -m)" = @ARCH@ ] || fail "this pyrunc is for @ARCH@, and this machine is $(uname -m): download the file for it"
    fail "this pyrunc does not run here (Linux $(uname -r)): $(echo "$said" | tail -n 1)"
}

if [ "${1-}" = --uninstall ]; then
    rm -f "$bin/pyrunc" "$man/pyrunc.8" "$man"/pyrunc-*.8 "$bash/pyrunc" "$zsh/_pyrunc" "$fish/pyrunc.fish"
    exit 0
fi
[ $# = 0 ] || fail "unknown argument $1; there is only --uninstall"
if command -v sha256sum >/dev/null; then
    sha256sum -c SHA256SUMS >/dev/null 2>&1 || fail "the files here are not those of the release (SHA256SUMS): download it again"
fi
mkdir -p "$bin" "$man" "$bash" "$zsh" "$fish" || fail "cannot write to $prefix: install as root, or choose another PREFIX"
# Write a new file next to the old one, then rename it: running containers keep the old one.
cp pyrunc "$new" || fail "cannot write to $bin"
chmod 755 "$new"
if [ -z "$root" ]; then
    must_be_ours "$(cd "$bin" && pwd -P)"
    must_run
fi
mv -f "$new" "$bin/pyrunc"
rm -f "$new.sh"
cp man/*.8 "$man/"
cp completion/pyrunc "$bash/"
cp completion/_pyrunc "$zsh/"
cp completion/pyrunc.fish "$fish/"
# Out of the page cache: the first start then reads it in pieces of 2 MiB, and each command takes less time.
[ -n "$root" ] || { sync "$bin/pyrunc" && dd if="$bin/pyrunc" iflag=nocache count=0; } 2>/dev/null || :
[ -n "$root" ] || echo "installed $bin/pyrunc; next: pyrunc install --docker (or --podman, --containerd)"
