"""The generated pages in docs/ are up to date, and no page has a broken link."""

import subprocess
import sys

import harness


def test_pages_and_links():
    done = subprocess.run([sys.executable, harness.ROOT / "tools/docs.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
