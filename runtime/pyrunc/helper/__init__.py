"""Code of the helper process (helper_process.py): the only place that imports third-party packages."""
