"""Finds all that would stop a generation later, before the first write and at once; it only reads."""

from collections.abc import Collection, Iterable, Sequence

import psycopg

from reconciler.catalog.identifier import quote_identifier, quote_qualified, why_not_a_name
from reconciler.execution.objects.work import Work
from reconciler.objects.model import ObjectName
from reconciler.postgres.connection import Connection
from reconciler.snapshot.objects import Meeting, read_meeting
from reconciler.tracking import generations
from reconciler.tracking.generations import Finding, translated

_SWAPPED = ("swapped", "retired")


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
    live = [one.name for one in work.schemas if one.sort != "read"]
    displaced = [one.name for one in work.schemas if one.sort in _SWAPPED]
    beside = [name for one in work.schemas for name in (one.staging, one.old_name) if name is not None]
    try:
        owners = await generations.owners(connection, live)
        known = await generations.live_objects(connection, displaced)
        mine = await generations.staging_names(connection, work.key)
    except psycopg.Error as error:
        raise translated(error, "looking at generations") from error
    met = await read_meeting(
        connection,
        names=[*live, *beside],
        displaced=displaced,
        relations=[(one.schema, one.name) for one in sorted(externals)],
        roles=roles,
    )
    return (
        *_names(work),
        *_taken(met, beside, mine),
        *_anothers(owners, (work.component, *place)),
        *_rights(met, work),
        *_contents(met, known),
        *_missing(met),
    )


def _names(work: Work) -> Iterable[Finding]:
    names = [
        name for one in work.schemas for name in (one.name, one.staging, one.old_name) if name is not None
    ]
    names += [one.name.name for wave in work.waves for one in wave]
    for name in dict.fromkeys(names):
        why = why_not_a_name(name)
        if why is not None:
            yield Finding(kind="name", subject=name, detail=why)


def _taken(met: Meeting, beside: Sequence[str], mine: Collection[str]) -> Iterable[Finding]:
    seen = set[str]()
    for name in beside:
        if name in seen:
            yield Finding(kind="name", subject=name, detail="two schemas would be called so")
        elif name in met.schemas and name not in mine:
            yield Finding(
                kind="name", subject=name, detail="a schema that is not of this generation is called so"
            )
        seen.add(name)


def _anothers(owners: dict[str, tuple[str, str, str]], ours: tuple[str, str, str]) -> Iterable[Finding]:
    for schema, whose in owners.items():
        if whose != ours:
            component, environment, deployment = whose
            yield Finding(
                kind="owner",
                subject=schema,
                detail=f"it belongs to component '{component}' of environment '{environment}',"
                f" deployment '{deployment}'",
            )


def _rights(met: Meeting, work: Work) -> Iterable[Finding]:
    """Renaming a schema needs its owner and CREATE on the database; say what grants them."""
    role = quote_identifier(met.role)
    if not met.may_create:
        database = quote_identifier(met.database)
        yield Finding(
            kind="privilege",
            subject=met.database,
            detail=f"role {role} may not make schemas: GRANT CREATE ON DATABASE {database} TO {role}",
        )
    for one in work.schemas:
        facts = met.schemas.get(one.name)
        if one.sort != "read" and facts is not None and not facts.owned:
            grant = f"GRANT {quote_identifier(facts.owner)} TO {role}"
            yield Finding(
                kind="privilege",
                subject=one.name,
                detail=f"role {role} does not act as its owner: {grant}",
            )


def _contents(met: Meeting, known: Collection[tuple[bool, int]]) -> Iterable[Finding]:
    for one in met.contents:
        if (one.routine or one.relation) and (one.routine, one.oid) in known:
            continue
        whose = f", of extension {one.extension}" if one.extension is not None else ""
        yield Finding(
            kind="unknown",
            subject=one.schema,
            detail=f"{one.description}{whose} is not ours, and would be displaced",
        )


def _missing(met: Meeting) -> Iterable[Finding]:
    for schema, name in met.missing:
        yield Finding(
            kind="missing", subject=quote_qualified(schema, name), detail="there is no such relation"
        )
    for schema, name in met.unreadable:
        target = quote_qualified(schema, name)
        role = quote_identifier(met.role)
        yield Finding(
            kind="privilege",
            subject=target,
            detail=f"role {role} may not read it: GRANT SELECT ON {target} TO {role}",
        )
    for role in met.missing_roles:
        yield Finding(kind="role", subject=role, detail="there is no such role to grant to")
