"""A GitOps daemon for environments built around PostgreSQL."""

__version__ = "0.1.0"
