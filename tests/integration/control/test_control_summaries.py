"""The end of a rollout is told once, however many operations end at the same moment."""

import asyncio
import random

from reconciler.control import claims
from reconciler.control.transitions import transition
from reconciler.rollout.states import TERMINAL_ROLLOUT, OperationEvent, OperationState
from reconciler.rollout.summary import RolloutPolicy, derive
from tests.plugins.control import LEASE_S, Control

ROUNDS = 10
OPERATIONS = 5
SEED = 20261121


async def test_simultaneous_ends_are_summed_up_once(control: Control) -> None:
    """Each of five connections ends an operation at once: one event, and the state that follows from all."""
    rng = random.Random(SEED)
    connections = [await control.connect() for _ in range(OPERATIONS)]
    worker = await control.worker()
    for number in range(ROUNDS):
        policy = RolloutPolicy(
            order=rng.choice(["parallel", "barrier"]),
            on_failure=rng.choice(["halt", "continue", "pause"]),
            max_parallel=OPERATIONS,
        )
        names = [f"d{place}" for place in range(OPERATIONS)]
        rollout = await control.record(*names, commit=f"{number:040x}", policy=policy)
        held = await claims.claim_many(control.connection, worker, room=OPERATIONS, lease_s=LEASE_S)
        assert len(held) == OPERATIONS
        ends = [rng.choice([OperationEvent.DONE, OperationEvent.DONE, OperationEvent.FAIL]) for _ in held]
        await asyncio.gather(
            *(
                transition(connection, claim, end, reason="so it was drawn")
                for connection, claim, end in zip(connections, held, ends, strict=True)
            )
        )
        shown = await control.rollout(rollout)
        assert shown.state is derive([one.state for one in shown.operations], policy)
        kinds = [f"rollout.{state.value}" for state in TERMINAL_ROLLOUT]
        told = await control.rows(
            "SELECT kind FROM reconciler_control.events WHERE rollout = %s AND kind = ANY(%s)",
            int(rollout),
            kinds,
        )
        assert told == [(f"rollout.{shown.state.value}",)]
        failed = sum(one.state is OperationState.FAILED for one in shown.operations)
        assert failed == ends.count(OperationEvent.FAIL)
