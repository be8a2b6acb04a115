"""The conformance suite for OCI runtimes: tests any runtime with the usual command line, from inside and outside of a container.

Rule: it only knows the command line and its effects. It imports nothing from any runtime and does not parse error messages.
"""

__version__ = "0.1.0"
SPECIFICATION = "1.3.0"
