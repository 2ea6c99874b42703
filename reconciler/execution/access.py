"""Make the roles that others get into a database with, and drop databases that a person named."""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress

import psycopg
from psycopg import sql

from reconciler.errors import PermanentError, ReconcilerError, Refused, StepFailed, TemporaryError
from reconciler.execution.register import Made, Register
from reconciler.execution.resources import Resources
from reconciler.execution.roles import (
    ATTEMPTS_MAX,
    CREATE_ROLE_LOCK,
    INSUFFICIENT_PRIVILEGE,
    PAUSE_S,
    verifier,
)
from reconciler.execution.session import DatabaseSession
from reconciler.plan.steps import DropDatabase, ProvideAccess
from reconciler.postgres.connection import Connection, DatabaseMissing, Dsn, connect, translate
from reconciler.postgres.lock import acquire
from reconciler.postgres.queries import Queries
from reconciler.state.access import Login, Whose, access_outputs
from reconciler.state.desired import DesiredDatabase
from reconciler.state.programs import DATABASE_OUTPUTS, OutputType

_QUERIES = Queries.load("reconciler.execution")
LOCK_DEADLINE_S = 60.0
DEPENDENT_OBJECTS = "2BP01"
_CHANGED_MEANWHILE = "tuple concurrently updated"
_HINT = (
    "give the connecting role what it lacks (CREATEROLE; ownership of the database and of what is in it), "
    "then retry"
)


async def carry_out(step: ProvideAccess | DropDatabase, resources: Resources) -> None:
    """Do what the step says."""
    if isinstance(step, ProvideAccess):
        await provide_access(step, resources)
    else:
        await drop_database(step, resources)


async def provide_access(step: ProvideAccess, resources: Resources) -> None:
    """Make both roles with what they may do, and keep the outputs; again, changes nothing but verifiers.

    Passwords are kept before the roles are made: whoever comes after a crash goes on with the same ones.
    Raises Refused where a role of such a name was not made for this database.
    """
    part = _declared(step, resources)
    register = _register(resources)
    session = await resources.session(step.database)
    owner = Login(user=step.owner, password=await register.password(step.component, step.owner))
    reader = Login(user=step.reader, password=await register.password(step.component, step.reader))
    makers = _makers(part, resources)
    dsn = await resources.dsn_of(step.database)
    doing = f"making roles '{step.owner}' and '{step.reader}' on {session.server}"
    try:
        # Advisory locks are a database's, and roles the server's: the lock is taken where all take it.
        maintenance = await connect(dsn, role="maintenance")
        try:
            await acquire(maintenance, CREATE_ROLE_LOCK, deadline_s=LOCK_DEADLINE_S, doing=doing)
            left_out = await _make(session, _whose(step.database, resources), (owner, reader), makers)
        finally:
            await maintenance.close()
    except psycopg.Error as error:
        raise _failed(error, doing) from None
    resources.remarks += [
        f"what role '{maker}' makes in database '{step.database}' is not granted to '{step.owner}' and "
        f"'{step.reader}': the connecting role is no member of it"
        for maker in left_out
    ]
    resources.interference.at(f"inside {step.id}")
    made = access_outputs(_reached(part, resources, dsn).parameters(), step.database, owner, reader)
    wanted = [reference.partition(".")[2] for reference in step.produces]
    await register.keep(step.component, step.inputs_hash, [_made(name, made[name]) for name in wanted])


async def drop_database(step: DropDatabase, resources: Resources) -> None:
    """Drop a database with all that is in it, and the roles that were made for it; again, is nothing.

    Whoever else is connected is ended. A role that holds something elsewhere stays, and people are told.
    """
    dsn = await resources.dsn_of(step.database)
    doing = f"dropping database '{step.database}' on {dsn.server}"
    with suppress(DatabaseMissing):
        # Nobody else writes there once the fence is ours.
        session = await resources.session(step.database)
        resources.interference.at(f"inside {step.id}")
        resources.sessions.pop(step.database, None)
        await session.abandon()
    try:
        maintenance = await connect(dsn, role="maintenance")
        try:
            await maintenance.execute(
                _QUERIES["drop_database"].format(database=sql.Identifier(step.database))
            )
            await _drop_roles(step, resources, maintenance)
        finally:
            await maintenance.close()
    except psycopg.Error as error:
        raise _failed(error, doing) from None
    if resources.register is not None:
        await resources.register.removed(step.component)


def _declared(step: ProvideAccess, resources: Resources) -> DesiredDatabase:
    for part in resources.desired.databases:
        if part.component == step.component and part.access is not None:
            if part.access.inputs_hash != step.inputs_hash:
                break
            return part
    raise Refused(f"the commit does not say of '{step.component}' what the plan makes of it")


def _register(resources: Resources) -> Register:
    if resources.register is None:
        raise PermanentError("there is no record that passwords could be kept in")
    return resources.register


def _whose(database: str, resources: Resources) -> Whose:
    desired = resources.desired
    return Whose(environment=desired.environment, deployment=desired.deployment, database=database)


def _made(name: str, value: str | int) -> Made:
    kind = OutputType.NUMBER if isinstance(value, int) else OutputType.STRING
    return Made(name=name, type=kind, sensitive=DATABASE_OUTPUTS[name], value=value)


def _reached(part: DesiredDatabase, resources: Resources, dsn: Dsn) -> Dsn:
    """How others reach the server, whichever credentials this is done with."""
    if part.on is None and resources.secret is not None:
        with suppress(ReconcilerError):
            return Dsn(resources.secret(resources.desired.postgres))
    return dsn


def _makers(part: DesiredDatabase, resources: Resources) -> list[str]:
    """The roles that the daemon makes objects as, by the connection strings of the deployment."""
    if part.on is not None or resources.secret is None:
        return []
    found = []
    for reference in (resources.desired.postgres, resources.desired.provision_postgres):
        if reference is None:
            continue
        with suppress(ReconcilerError):
            user = Dsn(resources.secret(reference)).parameters().get("user")
            found += [str(user)] if user else []
    return list(dict.fromkeys(found))


async def _make(
    session: DatabaseSession, whose: Whose, roles: tuple[Login, Login], makers: Sequence[str]
) -> list[str]:
    """Try a few times: whoever grants at the same moment, unlocked, makes ours fail."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            return await _once(session, whose, roles, makers)
        except psycopg.errors.InternalError_ as error:
            if _CHANGED_MEANWHILE not in (error.diag.message_primary or "") or attempt == ATTEMPTS_MAX:
                raise
            # Jitter, not a secret.
            await asyncio.sleep(PAUSE_S * attempt * random.uniform(0.5, 1.0))  # noqa: S311
    raise AssertionError("the last attempt returns or raises")


async def _once(
    session: DatabaseSession, whose: Whose, roles: tuple[Login, Login], makers: Sequence[str]
) -> list[str]:
    """Everything in one transaction; gives the makers of whose objects nothing can be granted ahead."""
    writer = session.writer
    owner, reader = roles
    async with writer.transaction():
        await session.fence.check(writer)
        await writer.execute(
            _QUERIES["limit_change"],
            {
                "lock_timeout_ms": str(int(session.limits.lock_timeout_s * 1000)),
                "statement_timeout_ms": "0",
                "synchronous_commit": "on",
            },
        )
        for login in roles:
            await _role(writer, login, whose)
        database = sql.Identifier(session.database)
        for query, login in (("grant_database_to_owner", owner), ("grant_database_to_reader", reader)):
            statement = _QUERIES[query].format(database=database, role=sql.Identifier(login.user))
            await writer.execute(statement)
        cursor = await writer.execute(_QUERIES["makers_we_may_speak_for"], {"makers": list(makers)})
        known: Mapping[str, bool] = dict(await cursor.fetchall())
        ours = json.dumps([name for name, may in known.items() if may])
        names = {"owner": owner.user, "reader": reader.user, "makers": ours}
        await writer.execute(_QUERIES["access_to"], names)
        await writer.execute(_QUERIES["grant_access"], prepare=False)
    return [name for name, may in known.items() if not may]


async def _role(writer: Connection, login: Login, whose: Whose) -> None:
    name = sql.Identifier(login.user)
    noted = await _noted(writer, login.user)
    if noted is None:
        await writer.execute(_QUERIES["create_role"].format(role=name))
        await writer.execute(_QUERIES["mark_role"].format(role=name, mark=sql.Literal(whose.mark)))
    elif noted != whose.mark:
        raise Refused(
            f"role '{login.user}' was not made for database '{whose.database}'",
            hint="name another one with `owner:` or `reader:`, or look at the diff again",
        )
    cursor = await writer.execute(_QUERIES["is_superuser"])
    row = await cursor.fetchone()
    query = "access_role_alone" if row is not None and row[0] else "access_role"
    secret = sql.Literal(verifier(writer, login.user, login.password))
    await writer.execute(_QUERIES[query].format(role=name, verifier=secret))


async def _noted(connection: Connection, role: str) -> str | None:
    """What is noted of a role, empty for nothing; None where there is no such role."""
    cursor = await connection.execute(_QUERIES["about_role"], {"role": role})
    row = await cursor.fetchone()
    return None if row is None else str(row[0] or "")


async def _drop_roles(step: DropDatabase, resources: Resources, maintenance: Connection) -> None:
    """Drop those of its roles that were made for it."""
    access = next(
        (part.access for part in resources.desired.databases if part.component == step.component), None
    )
    mark = _whose(step.database, resources).mark
    for name in (access.reader, access.owner) if access is not None else ():
        if await _noted(maintenance, name) != mark:
            continue
        try:
            await maintenance.execute(_QUERIES["drop_role"].format(role=sql.Identifier(name)))
        except psycopg.Error as error:
            if error.sqlstate != DEPENDENT_OBJECTS:
                raise
            resources.remarks.append(f"role '{name}' stays: it holds something in another database")


def _failed(error: psycopg.Error, doing: str) -> Exception:
    told = translate(error, doing)
    if isinstance(told, TemporaryError):
        return told
    if _CHANGED_MEANWHILE in told.message:
        return TemporaryError(told.message)
    hint = told.hint or (_HINT if error.sqlstate == INSUFFICIENT_PRIVILEGE else None)
    return StepFailed(told.message, hint=hint, sqlstate=error.sqlstate)
