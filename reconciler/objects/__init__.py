"""A project of SQL objects as values: what its files say, what depends on what, what has to be built."""
