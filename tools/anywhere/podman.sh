#!/bin/sh
# podman.sh RUNTIME: podman's life of a container on this machine, in the form of guest.sh's checks.
set -u
runtime=$1
work=$(mktemp -d)
podman="podman --runtime $runtime --cgroup-manager cgroupfs --root $work/storage --runroot $work/run --log-level error"
mkdir -p "$work/tree/bin" "$work/tree/etc"
cp "$(command -v busybox)" "$work/tree/bin/busybox"
for name in sh grep id sleep; do ln -s busybox "$work/tree/bin/$name"; done
tar -C "$work/tree" -cf "$work/image.tar" .

# check NAME WANTED COMMAND...: it succeeds, and its output contains the words
check() {
    name=$1 wanted=$2
    shift 2
    seen=$("$@" 2>&1 </dev/null) || seen="exit status $?: $seen"
    case $seen in
        "exit status "*) echo "CHECK podman $name FAILED: $seen" ;;
        *"$wanted"*) echo "CHECK podman $name ok" ;;
        *) echo "CHECK podman $name FAILED: $(echo "$seen" | tail -n 1)" ;;
    esac
}

# shellcheck disable=SC2086 # $podman: words
{
    check import sha256: $podman import --quiet "$work/image.tar" localhost/b
    check run "Seccomp:	2" $podman run --rm --network none localhost/b grep Seccomp: /proc/self/status
    check "no filter" "Seccomp:	0" $podman run --rm --network none --security-opt seccomp=unconfined localhost/b grep Seccomp: /proc/self/status
    check detach "" $podman run --detach --name one --network none --memory 64m --pids-limit 50 localhost/b sleep 600
    check ps "Up " $podman ps --format '{{.Status}}'
    check exec uid=0 $podman exec one id
    check "memory limit" 67108864 sh -c "cat /sys/fs/cgroup\$($podman inspect --format '{{.State.CgroupPath}}' one)/memory.max"
    check pause paused sh -c "$podman pause one >/dev/null && $podman inspect --format '{{.State.Status}}' one && $podman unpause one"
    check update 33554432 sh -c "$podman update --memory 32m one >/dev/null && cat /sys/fs/cgroup\$($podman inspect --format '{{.State.CgroupPath}}' one)/memory.max"
    check kill exited sh -c "$podman kill one >/dev/null && $podman wait one >/dev/null; $podman inspect --format '{{.State.Status}}' one"
    check remove "" $podman rm --force --time 0 one
    check "nothing left" "left:." sh -c "echo left:\$($runtime list --quiet)\$($podman ps --all --quiet)."
}
umount "$work/storage/overlay" 2>/dev/null
rm -rf "$work"
