"""How a canonical definition becomes a fingerprint, and the number of that way; nothing else."""

from hashlib import sha256

from reconciler.catalog.model import Fingerprint

ALGORITHM = 1
"""Counts up when definitions, fingerprints or probes are made another way; two numbers never compare."""


def fingerprint(definition: str) -> Fingerprint:
    """Hash a canonical definition."""
    return Fingerprint(sha256(definition.encode()).hexdigest())
