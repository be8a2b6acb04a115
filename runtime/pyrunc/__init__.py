"""pyrunc: an OCI low-level container runtime in Python. This file stays empty: every command loads it."""
