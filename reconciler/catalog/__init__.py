"""PostgreSQL objects and SQL text as values; no I/O."""
