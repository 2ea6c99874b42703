"""What errors of the tracking schema mean: those its functions raise, and those of its absence."""

import psycopg
from psycopg import errors

from reconciler.errors import Conflict, LeaseLost, PermanentError, ReconcilerError, Refused
from reconciler.postgres.connection import translate as translate_any

EPOCH_IS_OVER = "RC001"
NOT_ENROLLED = "RC002"

_MISSING = (errors.UndefinedFunction, errors.UndefinedTable, errors.InvalidSchemaName)


def translate(error: psycopg.Error, doing: str) -> ReconcilerError:
    """Say what an error of a statement of this package means; everything else as `reconciler.postgres` does.

    Whoever sends these statements in a pipeline sees the error only when the pipeline is synchronised, and
    translates it there.
    """
    if error.sqlstate == EPOCH_IS_OVER:
        return LeaseLost(
            f"{doing}: {error.diag.message_primary}",
            hint="nothing was written; the worker that took over goes on from here",
        )
    if error.sqlstate == NOT_ENROLLED:
        return PermanentError(
            f"{doing}: {error.diag.message_primary}",
            hint="this is a fault of the daemon, not of the database; please report it",
        )
    if _names_tracking_schema(error):
        return Refused(
            f"{doing}: the tracking schema 'reconciler' is missing or incomplete:"
            f" {error.diag.message_primary}",
            hint="a change script may have dropped it: look for DROP SCHEMA, DROP TABLE or DROP OWNED in it",
        )
    if isinstance(error, errors.UniqueViolation) and error.diag.schema_name == "reconciler":
        return Conflict(
            f"{doing}: it is recorded already: {error.diag.message_detail}",
            hint="plan again; what is recorded is shown by `reconciler module log`",
        )
    return translate_any(error, doing)


def _names_tracking_schema(error: psycopg.Error) -> bool:
    return isinstance(error, _MISSING) and "reconciler" in (error.diag.message_primary or "")
