"""Times and memory of OCI runtimes, side by side. See __main__.py."""
