"""Code of the helper process (heavy.py): the only place that imports third-party packages."""
