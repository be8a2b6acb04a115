"""Which part owns which property of config.json. Data only; the planner imports a part only if one of its keys is present.

A row: (part, always, KEYS, NEEDS).
  always  the part is planned even if none of its keys is present (defaults: nodes in /dev, cgroup path, umask, ...)
  KEYS the JSON pointers it owns; a leaf of the schema belongs to the longest matching key (test_ownership walks the schema)
  NEEDS   parts whose plans this one reads through ctx.plans; they come first, so this is also the order of planning
"""

PARTS = (
    ("meta", True, ("/ociVersion", "/annotations"), ()),
    ("foreign", False, ("/windows", "/solaris", "/vm", "/zos", "/freebsd", "/process/commandLine", "/process/user/username"), ()),
    ("namespaces", True, ("/linux/namespaces",), ()),
    ("notify", True, (), ("namespaces",)),
    ("idmaps", False, ("/linux/uidMappings", "/linux/gidMappings"), ("namespaces",)),
    ("clocks", False, ("/linux/timeOffsets",), ("namespaces",)),
    ("netdevs", False, ("/linux/netDevices",), ("namespaces",)),
    ("root", True, ("/root", "/linux/rootfsPropagation"), ("namespaces",)),
    ("host_mounts", True, (), ("namespaces", "root")),
    ("cgroups", True, ("/linux/cgroupsPath",), ("namespaces", "meta")),
    ("resources", True, ("/linux/resources",), ("cgroups", "namespaces")),
    ("rdt", False, ("/linux/intelRdt",), ()),
    ("labels", False, ("/process/apparmorProfile", "/process/selinuxLabel", "/linux/mountLabel"), ("meta",)),
    ("mounts", True, ("/mounts",), ("notify", "namespaces", "idmaps", "root", "cgroups", "labels")),
    ("paths", False, ("/linux/maskedPaths", "/linux/readonlyPaths"), ("namespaces", "labels")),
    ("uts", False, ("/hostname", "/domainname"), ("namespaces",)),
    ("sysctls", False, ("/linux/sysctl",), ("namespaces", "uts")),
    ("user", True, ("/process/user",), ("meta", "namespaces", "idmaps")),
    ("fds", True, (), ("user",)),
    ("rlimits", False, ("/process/rlimits",), ()),
    ("terminal", False, ("/process/terminal", "/process/consoleSize"), ("namespaces", "user")),
    ("devices", True, ("/linux/devices",), ("namespaces", "idmaps", "mounts", "terminal")),
    ("program", True, ("/process/args", "/process/cwd", "/process/env"), ("user", "fds", "notify", "rlimits")),
    ("capabilities", True, ("/process/capabilities", "/process/noNewPrivileges"), ("namespaces",)),
    ("oom", False, ("/process/oomScoreAdj",), ()),
    ("scheduling", True, ("/process/scheduler", "/process/ioPriority", "/process/execCPUAffinity"), ("namespaces",)),
    ("personality", False, ("/linux/personality",), ()),
    ("mempolicy", False, ("/linux/memoryPolicy",), ()),
    ("seccomp", False, ("/linux/seccomp",), ("capabilities", "meta")),
    ("landlock", False, ("/annotations/org.pyrunc.landlock",), ("capabilities", "meta")),
    ("hooks", False, ("/hooks",), ("namespaces", "meta")),
    ("keyring", True, (), ("labels", "namespaces")),
)
