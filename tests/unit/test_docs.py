"""The generated pages of docs/ say what the code says, and no link of any page leads nowhere."""

import subprocess
import sys

import harness


def test_pages_and_links():
    done = subprocess.run([sys.executable, harness.ROOT / "tools/docs.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
