"""oci.state: the documents of `state`, `list` and of hooks, in runc's order and valid against the schema."""

import pwd

from pyrunc import jsonio
from pyrunc.oci import explain, state, version

KEPT = {
    "version": 1, "id": "c1", "bundle": "/b", "rootfs": "/b/rootfs", "annotations": {}, "created": "2024-11-24T14:13:36.000000001Z",
    "status": "created", "pid": 77, "start_time": 5, "boot_id": "x", "owner": 0, "own_pid_ns": True,
}  # fmt: skip


def test_state_has_runcs_keys_in_runcs_order():
    document = state.for_state({**KEPT, "annotations": {"k": "v"}}, "running")
    assert list(document) == ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner"]
    assert document["ociVersion"] == version.VERSION == "1.3.0"
    assert (document["pid"], document["status"], document["owner"]) == (77, "running", "")
    assert explain.problems(document, "state") == []
    text = jsonio.dumps(document, indent=2)
    assert text.startswith('{\n  "ociVersion": "1.3.0",\n  "id": "c1",\n  "pid": 77,\n')
    assert not text.endswith("\n")


def test_annotations_are_left_out_when_there_are_none():
    assert "annotations" not in state.for_state(KEPT, "created")


def test_pid_of_a_stopped_one_is_a_number():
    assert state.for_state(KEPT, "stopped")["pid"] == 0
    assert state.for_state(KEPT, "paused")["pid"] == 77


def test_rows_of_list_name_the_owner():
    assert state.for_list(KEPT, "running")["owner"] == "root"
    assert state.for_list({**KEPT, "owner": 4242424}, "running")["owner"] == "#4242424"
    assert state.owner_name(0) == pwd.getpwuid(0).pw_name


def test_hooks():
    document = state.for_hooks("c1", "creating", 77, "/b", {"k": "v"})
    assert list(document) == ["ociVersion", "id", "status", "pid", "bundle", "annotations"]
    assert explain.problems(document, "state") == []
    assert jsonio.dumps(document) == ('{"ociVersion":"1.3.0","id":"c1","status":"creating","pid":77,"bundle":"/b","annotations":{"k":"v"}}')
    for status, pid in (("stopped", 77), ("stopped", 0), ("creating", 0)):
        assert list(state.for_hooks("c1", status, pid, "/b", {})) == ["ociVersion", "id", "status", "bundle"]
