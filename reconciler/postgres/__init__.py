"""Connections, named queries, migrations, locks, notifications and the embedded server."""
