"""Sends the transactions of several reverts as one message, which is parsed and answered in one go.

Where anything in it fails, it only says how far it came: the one that failed is sent again alone, by whoever
tells what failed in it and where.
"""

from collections.abc import Sequence

import psycopg

from reconciler.diff.model import ToRevert
from reconciler.execution.scripts import limits_of, returns_rows, roll_back
from reconciler.execution.session import DatabaseSession
from reconciler.postgres.connection import translate
from reconciler.postgres.queries import Queries, trusted
from reconciler.state.program import Program
from reconciler.tracking.read import read_deployed
from reconciler.tracking.record import Actor, reverted_parameters
from reconciler.tracking.sql import QUERIES as RECORD

_QUERIES = Queries.load("reconciler.execution")
CHARACTERS_MAX = 256 * 1024
"""Of the scripts in one message."""
SETTING_NOTHING = frozenset({"DropStmt", "CommentStmt", "RenameStmt", "GrantStmt", "AlterOwnerStmt"})
"""Statements that run no code of anybody's, so that after them the session is as it was before."""


def may_share(program: Program) -> bool:
    """Whether a script may stand in a message with others.

    A message is parsed before any of it runs, so a script that changes settings is sent by its statements,
    as is one that gives rows or takes data.
    """
    return (
        program.transactional
        and not program.copies
        and all(
            statement.facts.sets is None and not returns_rows(statement) for statement in program.statements
        )
    )


async def take_back(
    session: DatabaseSession, changes: Sequence[tuple[ToRevert, Program]], actor: Actor
) -> int:
    """Take changes back, a transaction each; gives how many, from the first, were.

    Raises DatabaseUnavailable where the connection was lost, and nobody knows.
    """
    message = _message(session, changes, actor)
    doing = f"reverting {len(changes)} changes in database '{session.database}'"
    try:
        await session.writer.execute(trusted(message), prepare=False)
    except psycopg.Error as error:
        await roll_back(session)
        if session.writer.closed:
            raise translate(error, doing) from error
        left = await read_deployed(session.writer, [change.change.change_id for change, _ in changes])
        return next(
            (number for number, (change, _) in enumerate(changes) if change.change.change_id in left),
            len(changes),
        )
    except BaseException:
        await roll_back(session)
        raise
    return len(changes)


def _message(session: DatabaseSession, changes: Sequence[tuple[ToRevert, Program]], actor: Actor) -> str:
    client = psycopg.AsyncClientCursor(session.writer)
    begin, commit, reset = (
        client.mogrify(_QUERIES[name]) for name in ("begin_change", "commit_change", "reset_settings")
    )
    limits = client.mogrify(_QUERIES["limit_change"], limits_of(session))
    ours = client.mogrify(RECORD["reset_session"])
    role = client.mogrify(_QUERIES["reset_role"])
    pieces = [reset, role, client.mogrify(_QUERIES["limit_session"], limits_of(session))]
    for change, program in changes:
        name = (change.change.change_id, change.change.name)
        parameters = reverted_parameters(session.fence, change.project, name, actor)
        forget = client.mogrify(RECORD["revert_change"], parameters)
        script = (statement.text for statement in program.statements)
        if all(statement.node in SETTING_NOTHING for statement in program.statements):
            pieces += [begin, *script, forget, commit]
        else:
            pieces += [begin, reset, limits, *script, ours, forget, reset, limits, commit]
            pieces += pieces[:3]
    # A statement may end in a comment, which the end of a line ends.
    return "\n;\n".join(pieces)
