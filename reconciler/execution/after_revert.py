"""Look behind a revert: whether what remains verifies, and whether what was taken back is gone.

It reads only, and takes nothing back of what the revert did.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice

import psycopg

from reconciler.diff.matching import plain_name
from reconciler.diff.model import ToRevert
from reconciler.diff.verifiable import ToVerify, can_tell, stored_alone, to_verify
from reconciler.errors import InvalidInput, StepFailed
from reconciler.execution.resources import Resources
from reconciler.execution.verify import Failed, Unverified, VerifyLimits, prepare, verify
from reconciler.plan.steps import VerifyRemaining
from reconciler.postgres.connection import Connection, translate
from reconciler.postgres.queries import Queries
from reconciler.state.desired import DesiredState
from reconciler.state.program import Program, Purpose, compile_script
from reconciler.state.tracked import TrackedModule
from reconciler.tracking.read import read_tracked, read_verify_scripts

_QUERIES = Queries.load("reconciler.execution")
LIMITS = VerifyLimits()
LOOKED_FOR_MAX = 500
"""Changes of one revert that are looked for; of more of them, those that went first."""
_AT_ONCE = 100
_NAMED_MAX = 5


async def verify_remaining(step: VerifyRemaining, resources: Resources) -> None:
    """Run the verify scripts of what is deployed still; raises StepFailed with those that fail.

    What could not be verified, and what is there still by its own verify script, is only remarked.
    """
    session = await resources.session(step.database)
    connection = session.writer
    tracked = (await read_tracked(connection)).modules
    rows = tuple(_remaining(tracked, resources.desired, step))
    scripts = await read_verify_scripts(connection, [row.change_id for row in rows if row.stored])
    ready = prepare(rows, scripts)
    try:
        found = await verify(connection, ready.wanted, LIMITS, fenced=True)
        # Each is compiled, so only as many as are looked for.
        gone = tuple(islice(_gone(resources.reverts, tracked), LOOKED_FOR_MAX))
        still = await _still_there(connection, gone)
    finally:
        with suppress(psycopg.Error):
            if session.writer_is_idle:
                await connection.execute(_QUERIES["reset_role"])
                await connection.execute(_QUERIES["reset_settings"])
    if found.unverified:
        resources.remarks.append(f"not verified: {_few(map(_why, found.unverified))}")
    if still:
        named = _few(f"'{name}'" for name in still)
        resources.remarks.append(f"taken back, and there still by their verify scripts: {named}")
    failed = [*ready.broken, *found.failed]
    if failed:
        raise _told(step, failed, len(ready.wanted) + len(ready.broken))


def _remaining(
    tracked: Mapping[str, TrackedModule], desired: DesiredState, step: VerifyRemaining
) -> Iterator[ToVerify]:
    """What is deployed of the modules of the commit, and of the one that was reverted; not of others."""
    declared = {module.project: module for module in desired.modules if module.database == step.database}
    for project, recorded in tracked.items():
        module = declared.get(project)
        if module is not None:
            rows = to_verify(module, recorded)
        elif project == step.project:
            rows = stored_alone(recorded)
        else:
            continue
        yield from (replace(row, change=f"{project}:{row.change}") for row in rows)


def _gone(
    reverts: Mapping[str, ToRevert], tracked: Mapping[str, TrackedModule]
) -> Iterator[tuple[str, Program]]:
    """The changes that were taken back and can be looked for, with their verify scripts.

    Where another instance of a change remains, its verify script says nothing.
    """
    remain = {
        (project, plain_name(row.name)) for project, module in tracked.items() for row in module.changes
    }
    for one in reverts.values():
        if one.verify is None or (one.project, plain_name(one.change.name)) in remain:
            continue
        try:
            program = compile_script(one.verify, purpose=Purpose.VERIFY)
        except InvalidInput:
            continue
        if can_tell(program):
            yield f"{one.project}:{one.change.name}", program


async def _still_there(connection: Connection, gone: Sequence[tuple[str, Program]]) -> list[str]:
    """Those whose verify scripts pass still; what takes too long to find out is left out."""
    still: list[str] = []
    ends = time.monotonic() + LIMITS.total_s
    for start in range(0, len(gone), _AT_ONCE):
        group = gone[start : start + _AT_ONCE]
        if time.monotonic() >= ends:
            break
        try:
            numbers = await _look(connection, [program for _name, program in group])
        except psycopg.Error as error:
            if connection.closed:
                raise translate(error, "looking for what was taken back") from error
            await connection.execute(_QUERIES["abandon_change"])
            continue
        still += [group[number][0] for number in numbers]
    return still


async def _look(connection: Connection, programs: Sequence[Program]) -> list[int]:
    texts = ["".join(f"{each.text}\n;\n" for each in program.statements) for program in programs]
    await connection.execute(_QUERIES["begin_look"])
    await connection.execute(_QUERIES["look_for"], {"scripts": json.dumps(texts)})
    await connection.execute(_QUERIES["look"])
    cursor = await connection.execute(_QUERIES["found_still"])
    row = await cursor.fetchone()
    await connection.execute(_QUERIES["abandon_change"])
    return [int(number) - 1 for number in str(row[0] or "").split()] if row is not None else []


def _told(step: VerifyRemaining, failed: Sequence[Failed], count: int) -> StepFailed:
    first = failed[0]
    why = _few(
        f"'{row.change}'{f' at {row.file}:{row.line}' if row.line else ''}: {row.message}" for row in failed
    )
    return StepFailed(
        f"verifying what remains in database '{step.database}': {len(failed)} of {count} verify scripts"
        f" fail: {why}",
        hint="what was taken back stays so; mend what the revert scripts took too much, then look again with"
        " `reconciler module verify`",
        file=first.file,
        line=first.line,
        sqlstate=first.sqlstate,
    )


def _why(row: Unverified) -> str:
    return f"'{row.change}' ({row.reason})"


def _few(said: Iterable[str]) -> str:
    every = list(said)
    more = f" and {len(every) - _NAMED_MAX} more" if len(every) > _NAMED_MAX else ""
    return ", ".join(every[:_NAMED_MAX]) + more
