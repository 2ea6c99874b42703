"""Plan-driven change modules: plan files, changes, tags and scripts as values; no I/O."""
