"""Compares time and memory usage of OCI runtimes. See __main__.py."""
