"""Parsed command lines as types: nothing here exists at run time. tests/unit/test_cmdline.py compares them with the tables in cli.py."""

from typing import TypedDict

class Globals(TypedDict, total=False):
    """The global options. An option that is not given is absent; `-` in a name becomes `_`."""

    root: str
    log: str
    log_format: str
    log_level: str
    debug: bool
    systemd_cgroup: bool
    rootless: str
    cgroup_manager: str
    systemd_timeout: str
    criu: str
    trace: str
    allow_annotation_paths: bool
    help: bool
    version: bool

_As = TypedDict("_As", {"as": str}, total=False)  # for validate; `as` can't be an attribute of a class

class Options(_As, total=False):
    """The options of all commands: a name has the same type in every command, and COMMANDS lists the commands that have it."""

    globals: Globals
    help: bool
    full: bool
    additional_gids: list[str]
    all: bool
    apparmor: str
    auto_dedup: bool
    blkio_weight: str
    bundle: str
    cap: list[str]
    cgroup: list[str]
    config: str
    console_socket: str
    containerd: bool
    count: str
    cpu_burst: str
    cpu_idle: str
    cpu_period: str
    cpu_quota: str
    cpu_rt_period: str
    cpu_rt_runtime: str
    cpu_share: str
    cpuset_cpus: str
    cpuset_mems: str
    cwd: str
    default: bool
    destination: str
    detach: bool
    deviations: bool
    device_add: list[str]
    device_remove: list[str]
    diff: str
    docker: bool
    dry_run: bool
    empty_ns: list[str]
    engine: str
    env: list[str]
    explain: bool
    ext_unix_sk: bool
    file: str
    file_locks: bool
    force: bool
    format: str
    ignore_paused: bool
    image_path: str
    interval: str
    json: bool
    keep: bool
    kernel_memory: str
    kernel_memory_tcp: str
    l3_cache_schema: str
    lazy_pages: bool
    licenses: bool
    leave_running: bool
    link_remap: bool
    lsm_mount_context: str
    lsm_profile: str
    manage_cgroups_mode: str
    mem_bw_schema: str
    memory: str
    memory_reservation: str
    memory_swap: str
    name: str
    network_lock: str
    no_new_keyring: bool
    no_new_privs: bool
    no_pivot: bool
    no_subreaper: bool
    older: str
    options: list[str]
    page_server: str
    parent_path: str
    pid_file: str
    pidfd_socket: str
    pids_limit: str
    podman: bool
    pre_dump: bool
    preserve_fds: str
    process: str
    process_label: str
    profile: str
    quiet: bool
    regex: bool
    resources: str
    rlimit: list[str]
    rootless: bool
    runtime: str
    schema_only: bool
    shell_job: bool
    source: str
    stats: bool
    status_fd: str
    strict: bool
    tcp_close: bool
    tcp_established: bool
    tcp_skip_in_flight: bool
    timeout: str
    tty: bool
    type: str
    uninstall: bool
    user: str
    work_path: str
