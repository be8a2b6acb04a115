# Prints what a container's process sees of its surroundings, one `section: line` a line. Runs under busybox sh, as any user.
show() { sed "s|^|$1: |"; }
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|SigBlk|SigIgn|Umask|Cpus_allowed_list|Speculation_Store_Bypass|Mems_allowed_list)' /proc/self/status | show status
cat /proc/$$/limits | show limits
cat /proc/$$/oom_score_adj | show oom
cat /proc/$$/cgroup | sort | show cgroup
cat /proc/$$/coredump_filter | show coredump
cut -d' ' -f5-8 /proc/$$/stat | show 'group session terminal foreground'
cut -d' ' -f4- /proc/$$/mountinfo | show mount
env | sort | show env
pwd | show cwd
hostname | show hostname
id | show id
for fd in /proc/$$/fd/*; do readlink $fd; done | show fd
for name in cgroup ipc mnt net pid time user uts; do readlink /proc/$$/ns/$name; done | show ns
cat /proc/$$/uid_map /proc/$$/gid_map /proc/$$/setgroups 2>&1 | show map
cat /proc/$$/timens_offsets 2>/dev/null | show time
find /dev -exec stat -c '%n %F %a %u %g %t:%T' {} \; 2>/dev/null | grep -v ' /dev/pts/[0-9]' | sort | show dev
for link in /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx /dev/core; do readlink $link; done | show link
for entry in /* /sys/fs/cgroup/*; do stat -c '%n %F %a %u %g' $entry; done | show entry
for file in kernel/shmmax kernel/domainname net/ipv4/ping_group_range net/ipv4/ip_unprivileged_port_start; do cat /proc/sys/$file; done 2>&1 | show sysctl
for file in devices/devices.list memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes \
    memory/memory.swappiness memory/memory.oom_control pids/pids.max cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us \
    cpuset/cpuset.cpus cpuset/cpuset.mems blkio/blkio.weight memory.max memory.swap.max memory.low pids.max cpu.weight cpu.max \
    cpuset.cpus io.weight cgroup.controllers cgroup.procs; do
    test -f /sys/fs/cgroup/$file && cat /sys/fs/cgroup/$file 2>&1 | grep -v -E '^[0-9]{1,4}$|oom_kill |under_oom' | show "limit $file"
done
for path in /proc/kcore /proc/keys /proc/timer_list /proc/acpi /proc/scsi /sys/firmware /proc/sysrq-trigger /proc/bus /proc/sys; do
    stat -c '%n %F %t:%T' $path 2>/dev/null
    if test -d $path; then ls $path 2>/dev/null | wc -l; else head -c 1 $path 2>&1 | wc -c; fi
done | show masked
cat /proc/$$/comm | show comm
tr '\0' ' ' < /proc/1/cmdline | cut -c1-40 | show first
