"""The reference page of the operation states, made from the table; it decides nothing."""

from collections.abc import Iterator

from reconciler.rollout.states import (
    EVENT_LABELS,
    HELD,
    IN_FLIGHT,
    LABELS,
    TERMINAL,
    TRANSITIONS,
    WAY_OUT,
    OperationEvent,
    OperationState,
    targets,
)


def render() -> str:
    """The whole page `docs/reference/operation-states.md`."""
    return "\n".join([*_introduction(), *_states(), *_diagram(), *_events(), *_rollout()]) + "\n"


def _introduction() -> Iterator[str]:
    yield "# Operation states"
    yield ""
    yield "<!-- Made from reconciler/rollout/states.py; edit that, then run `make schemas`. -->"
    yield ""
    yield "An operation is one rollout on one deployment. Every change of its state is one SQL statement that"
    yield "names the state before and the lease token; a transition that is not listed here is refused."
    yield ""


def _states() -> Iterator[str]:
    yield "## States"
    yield ""
    yield "| state | meaning | leaves by | as a rule | kind |"
    yield "|---|---|---|---|---|"
    for state in OperationState:
        ways = ", ".join(f"`{event}` → `{after}`" for event, after in TRANSITIONS[state].items()) or "—"
        rule = WAY_OUT.get(state, "—")
        yield f"| `{state}` | {LABELS[state]} | {ways} | {rule} | {_kind(state)} |"
    yield ""
    yield "*In flight*: a worker holds it under a lease, and at most one operation of a deployment is so."
    yield "*Holds*: no pass tries the same commit on that deployment again by itself."
    yield ""


def _kind(state: OperationState) -> str:
    kinds = [
        word
        for word, states in (("in flight", IN_FLIGHT), ("terminal", TERMINAL), ("holds", HELD))
        if state in states
    ]
    return ", ".join(kinds) or "waiting"


def _diagram() -> Iterator[str]:
    yield "## Diagram"
    yield ""
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield "    [*] --> pending"
    yield "    [*] --> waiting_for_approval"
    for state, ways in TRANSITIONS.items():
        for event, after in ways.items():
            yield f"    {state} --> {after}: {event}"
    for state in OperationState:
        if state in TERMINAL:
            yield f"    {state} --> [*]"
    yield "```"
    yield ""


def _events() -> Iterator[str]:
    yield "## Events"
    yield ""
    yield "| event | when | from |"
    yield "|---|---|---|"
    for event in OperationEvent:
        origins = ", ".join(f"`{state}`" for state in targets(event))
        yield f"| `{event}` | {EVENT_LABELS[event]} | {origins} |"
    yield ""


def _rollout() -> Iterator[str]:
    yield "## State of a rollout"
    yield ""
    yield "It is derived from the states of its operations and the policy captured when it was recorded,"
    yield "whatever their order; the first line that fits holds. It is terminal if and only if all operations"
    yield "are, so it never comes back from a terminal state."
    yield ""
    yield "1. All operations are over: `failed` if one failed, else `reverted`, `cancelled` or `superseded`"
    yield "   if one is, else `completed`."
    yield "2. One is under way (`reverting`, `promoting`, `running`, `retrying`, in this order): that state;"
    yield "   or `running_degraded` if another failed."
    yield "3. `onFailure: pause`, one failed or was reverted, others have not started, and no operator"
    yield "   released it: `paused`."
    yield "4. One is `stopped`, `waiting_for_approval` or `waiting_for_promotion` (in this order): that"
    yield "   state."
    yield "5. None is pending: `revert_window`."
    yield "6. One failed: `running_degraded`. All are pending: `pending`. Else `running`."
    yield ""
    yield "Under `onFailure: halt` a failed or reverted operation cancels those that have not started, in the"
    yield "same transaction. Under `continue` the others go on, and the rollout fails at its end."
    yield ""
    yield "What waits for its promotion goes on when its turn comes: under `rolling` and `parallel` as soon"
    yield "as it waits, under `barrier` once all of its wave do or are past that, one after the other in"
    yield "order; under `promotion: manual` once somebody let it go, besides. Where a failure holds the rest"
    yield "back, what waits stays; under `rolling` and `parallel` somebody may still let it go. It keeps no"
    yield "place meanwhile."
