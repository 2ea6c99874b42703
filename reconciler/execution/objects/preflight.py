"""Looks for all that would stop a generation later, before the first write and at once; it only reads."""

from collections.abc import Collection

import psycopg

from reconciler.objects.model import ObjectName
from reconciler.objects.preflight import Recorded, asked, objections
from reconciler.objects.work import Work
from reconciler.postgres.connection import Connection
from reconciler.snapshot.objects import read_meeting
from reconciler.tracking import generations
from reconciler.tracking.generations import Finding, translated


async def preflight(
    connection: Connection,
    work: Work,
    *,
    place: tuple[str, str],
    externals: Collection[ObjectName] = (),
    roles: Collection[str] = (),
) -> tuple[Finding, ...]:
    """Say all that speaks against building and switching to a generation here; nothing, as a rule.

    `place` is environment and deployment; `externals` are relations that are read, `roles` those that are
    granted to. The connection is idle, and to a database with the tracking schema.
    """
    looked = asked(work, externals=externals, granted=roles)
    try:
        recorded = Recorded(
            owners=await generations.owners(connection, looked.live),
            objects=await generations.live_objects(connection, looked.displaced),
            staging=await generations.staging_names(connection, work.key),
        )
    except psycopg.Error as error:
        raise translated(error, "looking at generations") from error
    met = await read_meeting(connection, looked)
    return tuple(
        Finding(kind=one.kind, subject=one.subject, detail=one.detail)
        for one in objections(work, looked, met, recorded, ours=(work.component, *place))
    )
