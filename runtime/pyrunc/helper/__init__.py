"""Modules of the helper process (helper_process.py): the only ones that import third-party packages."""
