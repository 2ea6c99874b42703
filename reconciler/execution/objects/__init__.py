"""Builds generations of SQL objects, switches to them, and drops what they displaced."""
