"""The conformance suite for OCI runtimes: any runtime with the usual command line, looked at from inside and outside a container.

Rule: it knows a command line and its effects. It imports nothing of any runtime and reads no runtime's error texts.
"""

__version__ = "0.1.0"
SPECIFICATION = "1.3.0"
