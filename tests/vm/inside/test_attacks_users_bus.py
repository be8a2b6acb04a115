"""The user's bus fails in the middle of a create, at an address of the environment."""

import os

import pytest

import buses
import guest
import harness
import hoststate
from guest import shown
from users import mapped

pytestmark = pytest.mark.vm_user
SYSTEMD = ("--systemd-cgroup", "--systemd-timeout", "2s")


@pytest.mark.bound(900)
@pytest.mark.parametrize("kind", ["silent", "nonsense"])
def test_a_bus_that_fails_in_the_middle_of_create(rootless, make_rootless, token, tmp_path, kind):
    """One line, and nothing is left; an unbroken proxy, the positive control, is not noticed."""
    unit, real = "vm-%s.scope" % token, "%s/bus" % os.environ["XDG_RUNTIME_DIR"]
    bundle = make_rootless({**mapped(), "/linux/cgroupsPath": "user.slice:vm:%s" % token}, args=harness.WAIT_FOR_TERM)
    failed, cut, usual = 0, 1, dict(rootless.env)
    for count in range(40):
        id, path = rootless.new_id(), tmp_path / ("bus%d" % count)
        rootless.env = {**usual, "DBUS_SESSION_BUS_ADDRESS": "unix:path=%s" % path}
        with buses.Proxy(path, real, count, kind) as proxy:
            result = rootless.call("create", "--bundle", bundle, id, globals=SYSTEMD)
            cut = proxy.broken
            if result.code:
                failed += 1
                assert len(result.err.splitlines()) == 1 and "Traceback" not in result.err and "internal error" not in result.err, result
                assert "user's systemd" in result.err, result
            if not cut:
                assert result.code == 0, result
                assert guest.cgroup_of(rootless.state(id)["pid"]).name == unit
                rootless.delete(id, "--force")
                break
        rootless.call("delete", "--force", id)
        guest.until(lambda: shown(unit, "LoadState", user=["--user"]) == {"LoadState": "not-found"}, "the end of the unit")
        assert hoststate.state_dirs(rootless.root) == set()
    assert not cut and failed > 3
    assert shown(unit, "LoadState", user=["--user"]) == {"LoadState": "not-found"}
