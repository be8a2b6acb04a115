"""sysctls, labels, uts: plans, and the files that init writes, on a fake procfs."""

import os
from types import SimpleNamespace

import pytest

from fakes.hand import Ctx, Run, namespaces
from pyrunc.errors import CallError, Refusal, StepFailure, Unsupported
from pyrunc.linux import _syscalls, probe
from pyrunc.parts import labels, sysctls, uts

PRIVATE = {"namespaces": namespaces("ipc", "network", "uts", "user", "mount")}


def refused(part, node, plans=None, **more):
    with pytest.raises((Refusal, Unsupported)) as caught:
        part.plan(node, Ctx(plans if plans is not None else PRIVATE, **more))
    return caught.value


class Proc:
    """Records writes; raises an OSError where configured."""

    def __init__(self, errors=None, links=None):
        self.errors, self.links, self.written = errors or {}, links or {}, []

    def write(self, path, data):
        if path in self.errors:
            number, call = self.errors[path]
            raise CallError(number, os.strerror(number), "/proc/" + path, call)
        self.written.append((path, data))

    def readlink(self, path):
        return self.links.get(path, "other")


# ---- sysctls


def settings(value, plans=None):
    return sysctls.plan({"/linux/sysctl": value}, Ctx(plans if plans is not None else PRIVATE))


@pytest.mark.parametrize(
    ("key", "name", "path"),
    [
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.conf.eno2/100.rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
        ("net.ipv4.conf.eno2/100.rp_filter", "net.ipv4.conf.eno2/100.rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
        ("kernel.sem", "kernel.sem", "kernel/sem"),
        ("kernel/shm_rmid_forced", "kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
        ("fs.mqueue.msg_max", "fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ("kernel.domainname", "kernel.domainname", "kernel/domainname"),
        ("user.max_user_namespaces", "user.max_user_namespaces", "user/max_user_namespaces"),
    ],
)
def test_names(key, name, path):
    assert settings({key: "1"})["list"] == [[name, path, "1"]]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "is not the name of a setting"),
        (".", "is not the name of a setting"),
        ("net..ipv4", "is not the name of a setting"),
        ("net.ipv4.", "is not the name of a setting"),
        ("/net/ipv4", "is not the name of a setting"),
        ("net/../kernel.panic", "is not the name of a setting"),
        ("net.//.kernel.panic", "is not the name of a setting"),
        ("net/./x", "is not the name of a setting"),
        ("net.a\nb", "control characters"),
        ("net.a\0b", "control characters"),
        ("vm.swappiness", 'sysctl "vm.swappiness" is not in a separate kernel namespace'),
        ("kernel.panic", "is not in a separate kernel namespace"),
        ("kernel.semx", "is not in a separate kernel namespace"),
        ("network.x", "is not in a separate kernel namespace"),
        ("fs.mqueuex.y", "is not in a separate kernel namespace"),
        ("kernel.hostname", 'sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field'),
        ("kernel/hostname", 'conflicts with the OCI "hostname" field'),
    ],
)
def test_names_refused(key, words):
    e = refused(sysctls, {"/linux/sysctl": {key: "1"}})
    assert words in e.words and e.pointer.startswith("/linux/sysctl/")
    assert e.pointer.isprintable()


@pytest.mark.parametrize(
    ("key", "has", "words"),
    [
        ("kernel.msgmax", ("network", "uts", "user"), 'sysctl "kernel.msgmax" is not allowed in the hosts ipc namespace'),
        ("fs.mqueue.msg_max", (), 'sysctl "fs.mqueue.msg_max" is not allowed in the hosts ipc namespace'),
        ("net.ipv4.ip_forward", ("ipc", "uts"), 'sysctl "net.ipv4.ip_forward" not allowed in host network namespace'),
        ("user.max_mnt_namespaces", ("ipc",), 'sysctl "user.max_mnt_namespaces" is not allowed without a user namespace'),
        ("kernel.domainname", ("ipc",), 'sysctl "kernel.domainname" is not in a separate kernel namespace'),
        ("kernel.hostname", ("ipc",), 'sysctl "kernel.hostname" is not in a separate kernel namespace'),
    ],
)
def test_settings_need_their_namespace(key, has, words):
    e = refused(sysctls, {"/linux/sysctl": {key: "1"}}, {"namespaces": namespaces(*has)})
    assert (e.words, e.pointer) == (words, "/linux/sysctl/" + key)


def test_a_joined_namespace_will_do():
    assert settings({"net.ipv4.ip_forward": "1"}, {"namespaces": namespaces(join={"network": "/run/netns/x"})})


@pytest.mark.parametrize("value", ["a\nb", "a\0", "1\r", "x" * 70000])
def test_values_refused(value):
    assert refused(sysctls, {"/linux/sysctl": {"net.a": value}}).pointer == "/linux/sysctl/net.a"


@pytest.mark.parametrize("value", ["", "0 0", "1\t2", "+x=y", "x" * 65535])
def test_values_accepted(value):
    assert settings({"net.a": value})["list"][0][2] == value


def test_one_setting_under_two_names():
    assert len(settings({"net.a.b": "1", "net/a/b": "1"})["list"]) == 2
    assert "given twice" in refused(sysctls, {"/linux/sysctl": {"net.a.b": "1", "net/a/b": "2"}}).words


def test_the_domain_name_of_the_config_wins():
    plans = {**PRIVATE, "uts": {"domainname": "a"}}
    assert settings({"kernel.domainname": "a"}, plans)
    assert "conflicts" in refused(sysctls, {"/linux/sysctl": {"kernel.domainname": "b"}}, plans).words


def test_no_settings():
    assert settings({}) is None


def test_settings_that_init_writes():
    entry = settings({"net.ipv4.ip_forward": "1", "kernel/sem": "1 2 3 4", "net.ipv4.ip_local_reserved_ports": ""})
    proc = Proc()
    sysctls.init_write(entry, Run(proc=proc))
    assert proc.written == [
        ("sys/net/ipv4/ip_forward", b"1"),
        ("sys/kernel/sem", b"1 2 3 4"),
        ("sys/net/ipv4/ip_local_reserved_ports", b"\n"),
    ]


def test_init_writes_nothing_in_a_namespace_of_the_caller():
    entry = settings({"net.ipv4.ip_forward": "1"})
    ours = os.readlink("/proc/self/ns/net")
    assert entry["foreign"] == {"network": ours}
    proc = Proc(links={"thread-self/ns/net": ours})
    with pytest.raises(StepFailure, match="the network namespace is still the caller's"):
        sysctls.init_write(entry, Run(proc=proc))
    assert proc.written == []


@pytest.mark.parametrize(
    ("number", "words", "hint"),
    [
        (2, 'sysctl "net.a": there is no such setting in this kernel, or not in this namespace', None),
        (22, 'sysctl "net.a": the kernel refuses the value "7": invalid argument', None),
        (13, 'sysctl "net.a": writing "7": permission denied', "the namespace may belong to another user namespace than the container's"),
    ],
)
def test_errors_of_the_kernel(number, words, hint):
    proc = Proc({"sys/net/a": (number, "write")})
    with pytest.raises(StepFailure) as caught:
        sysctls.init_write(settings({"net.a": "7"}), Run(proc=proc))
    e = caught.value
    assert (e.words, e.hint, e.pointer, e.path) == (words, hint, "/linux/sysctl/net.a", "/proc/sys/net/a")


# ---- labels


def both(apparmor=True, selinux=True):
    return SimpleNamespace(apparmor=lambda: apparmor, selinux=lambda: selinux)


def test_labels():
    node = {"/process/apparmorProfile": "p", "/process/selinuxLabel": "a:b:c:s0", "/linux/mountLabel": "m"}
    assert labels.plan(node, Ctx(probe=both())) == {"apparmor": "p", "selinux": "a:b:c:s0", "mount": "m"}
    assert labels.plan(dict.fromkeys(node, ""), Ctx()) is None
    assert labels.plan({"/process/apparmorProfile": "p"}, Ctx(probe=both(True, False))) == {"apparmor": "p"}


@pytest.mark.parametrize(
    ("pointer", "words"),
    [
        ("/process/apparmorProfile", "apparmor: config provided but apparmor not supported"),
        ("/process/selinuxLabel", "selinux label is specified in config, but selinux is disabled or not supported"),
        ("/linux/mountLabel", "selinux label is specified in config, but selinux is disabled or not supported"),
    ],
)
def test_labels_fail_closed(pointer, words):
    e = refused(labels, {pointer: "x"}, probe=both(False, False))
    assert isinstance(e, Unsupported) and (e.words, e.pointer) == (words, pointer)


def test_answers_of_the_probe(monkeypatch, tmp_path):
    switch = tmp_path / "enabled"
    monkeypatch.setattr(probe, "APPARMOR_SWITCH", str(switch))
    monkeypatch.setattr(probe, "SELINUX_ROOT", str(tmp_path))
    assert probe.apparmor() is False and probe.selinux() is False
    for text, answer in (("Y\n", True), ("N\n", False), ("", False)):
        switch.write_text(text)
        assert probe.apparmor() is answer
    monkeypatch.setattr(_syscalls, "statfs", lambda path: (0xF97CFF8C, 0))
    assert probe.selinux() is True
    for release, numbers in (("6.12.94+deb13-amd64", (6, 12)), ("6.1-rc3", (6, 1)), ("7.0+", (7, 0)), ("6.x", (6, 0))):
        monkeypatch.setattr(probe.posix, "uname", lambda release=release: SimpleNamespace(release=release))
        assert probe.kernel() == numbers


@pytest.mark.parametrize("value", ["a\nb", "a\0", "\x7f"])
def test_labels_are_one_line(value):
    assert refused(labels, {"/process/apparmorProfile": value}, probe=both()).pointer == "/process/apparmorProfile"


def test_labels_are_written_for_execve_only():
    proc = Proc()
    labels.init_exec({"apparmor": "docker-default", "selinux": "a:b:c:s0", "mount": "m"}, Run(proc=proc))
    assert proc.written == [("thread-self/attr/apparmor/exec", b"exec docker-default"), ("thread-self/attr/exec", b"a:b:c:s0")]


def test_apparmor_of_older_kernels():
    proc = Proc({"thread-self/attr/apparmor/exec": (2, "openat2")})
    labels.init_exec({"apparmor": "p"}, Run(proc=proc))
    assert proc.written == [("thread-self/attr/exec", b"exec p")]


@pytest.mark.parametrize(
    ("entry", "errors", "words"),
    [
        (
            {"apparmor": "p"}, {"thread-self/attr/apparmor/exec": (2, "write")},
            "unable to apply apparmor profile: write to `/proc/thread-self/attr/apparmor/exec`: p is not loaded",
        ),
        (
            {"apparmor": "p"}, {"thread-self/attr/apparmor/exec": (13, "write")},
            "unable to apply apparmor profile: write to `/proc/thread-self/attr/apparmor/exec`: p is refused: permission denied",
        ),
        (
            {"apparmor": "p"}, {"thread-self/attr/apparmor/exec": (2, "openat2"), "thread-self/attr/exec": (2, "openat2")},
            "unable to apply apparmor profile: write to `/proc/thread-self/attr/exec`: p is refused: no such file or directory",
        ),
        (
            {"selinux": "l"}, {"thread-self/attr/exec": (22, "write")},
            "unable to set selinux exec label: write to `/proc/thread-self/attr/exec`: l is refused: invalid argument",
        ),
    ],
)  # fmt: skip
def test_a_label_that_cannot_be_set_is_fatal(entry, errors, words):
    proc = Proc(errors)
    with pytest.raises(StepFailure) as caught:
        labels.init_exec(entry, Run(proc=proc))
    assert caught.value.words == words and proc.written == []


# ---- uts


def names(plans=PRIVATE, **node):
    return uts.plan({"/" + key: value for key, value in node.items()}, Ctx(plans))


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"hostname": "a"}, {"hostname": "a"}),
        ({"hostname": "", "domainname": "d.e"}, {"domainname": "d.e"}),
        ({"hostname": "a" * 64}, {"hostname": "a" * 64}),
        ({"hostname": "", "domainname": ""}, None),
    ],
)
def test_uts(node, expected):
    assert names(**node) == expected


@pytest.mark.parametrize(
    ("node", "pointer"),
    [
        ({"hostname": "a" * 65}, "/hostname"),
        ({"hostname": "ü" * 33}, "/hostname"),
        ({"hostname": "a", "domainname": "d" * 65}, "/domainname"),
        ({"hostname": "a\nb"}, "/hostname"),
        ({"hostname": "\x1b[2J"}, "/hostname"),
        ({"domainname": "\0"}, "/domainname"),
    ],
)
def test_uts_refused(node, pointer):
    e = refused(uts, {"/" + key: value for key, value in node.items()})
    assert e.pointer == pointer and e.words.isprintable()


@pytest.mark.parametrize("key", ["hostname", "domainname"])
def test_names_need_a_uts_namespace(key):
    e = refused(uts, {"/" + key: "a"}, {})
    assert (e.words, e.pointer) == ("unable to set %s without a private UTS namespace" % key, "/" + key)
    assert "/linux/namespaces" in e.hint
    assert names({"namespaces": namespaces(join={"uts": "/x"})}, **{key: "a"}) == {key: "a"}


def test_the_hosts_name_in_the_hosts_namespace():
    """A pod that shares the host's uts namespace gives its path and the host's name; the namespaces part counts it as "host"."""
    listed = {"namespaces": {**namespaces(), "pointers": {"uts": "/linux/namespaces/0"}}}
    assert names(listed, hostname=os.uname().nodename) is None
    assert refused(uts, {"/hostname": "other"}, listed).pointer == "/hostname"
    assert refused(uts, {"/hostname": os.uname().nodename}, {}).pointer == "/hostname"
