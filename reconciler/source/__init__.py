"""Git: fetch, resolve, read a commit; watch a local repository."""
