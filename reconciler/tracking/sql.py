"""The named queries of the tracking schema; every statement of this package is one of them."""

from reconciler.postgres.queries import Queries

QUERIES = Queries.load("reconciler.tracking")
