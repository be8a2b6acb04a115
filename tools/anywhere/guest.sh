#!/bin/busybox sh
# The init of a machine whose initrd contains only busybox, the release file and a bundle. Each line of the result begins with
# CHECK: a name, ok or FAILED, and what was seen. `cgroup=1` on the kernel's command line: hierarchies of version 1.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
if [ ! -e /moved ]; then # pivot_root(2) does not work in an initrd, so move to a tmpfs
    mkdir /new
    mount -t tmpfs tmpfs /new
    cp -a /bin /bundle /init /proc /sys /dev /new
    touch /new/moved
    exec switch_root /new /init
fi
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /run /tmp /etc /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t devpts devpts /dev/pts
if grep -qw cgroup=1 /proc/cmdline; then
    mount -t tmpfs cgroup /sys/fs/cgroup
    for name in cpu cpuacct cpuset memory devices freezer blkio pids; do
        mkdir /sys/fs/cgroup/$name
        mount -t cgroup -o $name cgroup /sys/fs/cgroup/$name || rmdir /sys/fs/cgroup/$name
    done
else
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi

# check NAME WANTED COMMAND...: the command's output contains the words
check() {
    name=$1 wanted=$2
    shift 2
    seen=$(timeout 60 "$@" 2>&1 </dev/null)
    case $seen in
        *"$wanted"*) echo "CHECK $name ok" ;;
        *) echo "CHECK $name FAILED: $(echo "$seen" | tail -n 1)" ;;
    esac
}

# the same, by the exit status
succeeds() {
    name=$1
    shift
    # not with $(): a container that keeps running would keep the pipe open
    if timeout 60 "$@" >/tmp/seen 2>&1 </dev/null; then echo "CHECK $name ok"; else echo "CHECK $name FAILED: $(tail -n 1 /tmp/seen)"; fi
}

echo "KERNEL $(uname -r) $(uname -m)"
check version "pyrunc version" pyrunc --version
if grep -qw old=1 /proc/cmdline; then
    check refused "kernel too old" pyrunc run --bundle /bundle one
    check "one line" 1 sh -c 'pyrunc run --bundle /bundle one 2>&1 | wc -l'
    echo CHECKS END
    poweroff -f
fi
check run "Seccomp:	2" pyrunc run --bundle /bundle one
check "filter refuses" "not permitted" pyrunc run --bundle /bundle --config /bundle/refused.json two
check features ociVersionMax pyrunc features
check validate "config.json: " pyrunc validate /bundle
check seccomp ERRNO pyrunc seccomp --bundle /bundle swapon
check install '"/bin/pyrunc"' pyrunc install --docker
check spec ociVersion pyrunc spec --profile hardened --file -
succeeds create pyrunc create --bundle /bundle --config /bundle/waiting.json three
check created created pyrunc state three
succeeds start pyrunc start three
check exec uid=0 pyrunc exec three id
check list running pyrunc list
succeeds kill pyrunc kill three KILL
succeeds "delete by a pattern" pyrunc delete --force --regex '^thr'
# shellcheck disable=SC2016 # for that shell to expand
succeeds "nothing left" sh -c 'seen=$(pyrunc list -q; grep -e bundle -e pyrunc /proc/self/mountinfo; find /sys/fs/cgroup -name anywhere); echo "$seen"; [ -z "$seen" ]'
echo CHECKS END
poweroff -f
