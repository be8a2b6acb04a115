"""Translates the plans of the parts for CRIU. Each module belongs to the part with its name; only checkpoint and restore load it."""
