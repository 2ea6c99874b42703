"""Gives a generation up before it is live: everything that was staged goes, and nothing else."""

import psycopg

from reconciler.errors import Conflict
from reconciler.execution.objects.dropping import Dropped, drop_parked
from reconciler.execution.objects.sending import Manner
from reconciler.execution.session import DatabaseSession
from reconciler.tracking import generations
from reconciler.tracking.generations import GenerationState, translated

_OVER = (GenerationState.CANCELLED, GenerationState.RETIRED)


async def cancel(session: DatabaseSession, key: str, *, manner: Manner | None = None) -> Dropped:
    """Drop all that was staged of a generation; again, does nothing.

    Raises Conflict once the generation was live: then `revert` takes it back.
    """
    doing = f"cancelling generation {key}"
    try:
        found = await generations.find(session.writer, key=key)
    except psycopg.Error as error:
        raise translated(error, doing) from error
    if found.state in _OVER:
        return Dropped()
    if found.promoted_at is not None:
        raise Conflict(
            f"{doing}: it is {found.state.value}, promoted at {found.promoted_at:%Y-%m-%d %H:%M:%S %Z}",
            hint="`reconciler revert` takes a switch back within its window",
        )
    return await drop_parked(session, found.number, manner or Manner())
