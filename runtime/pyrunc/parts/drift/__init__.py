"""Compares the plans of the parts with a running container, for `diff`: compare(entry, drift) reports differences to drift. Each module
belongs to the part with its name; no other command loads it. Read-only."""
