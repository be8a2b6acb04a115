"""The tests of test_scopes.py as uid 1000 with the manager of the user."""

import pytest

from test_scopes import *  # noqa: F403  the tests are this module's then

pytestmark = pytest.mark.vm_user
