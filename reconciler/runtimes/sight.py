"""How an instance of the runtime `process` is, by its folder and /proc; it changes nothing."""

from pathlib import Path

from reconciler.runtimes import instance as files
from reconciler.runtimes import processes
from reconciler.runtimes.instance import State
from reconciler.runtimes.runtime import Endpoint, Identity, Observed, ServiceState

_HOST = "127.0.0.1"
_NAMED_MAX = 5


def look(folder: Path, identity: Identity, instance: str) -> Observed | None:
    """One instance; None where it is not there."""
    try:
        definition = files.read_definition(folder)
        state = files.read_state(folder)
        supervisor = files.holder(folder)
    except FileNotFoundError:
        return None
    except files.Damaged as error:
        return Observed(identity=identity, instance=instance, state=ServiceState.UNKNOWN, reason=str(error))
    if supervisor is not None and files.is_retired(folder):
        found, reason = ServiceState.UNHEALTHY, "it is being removed"
    elif supervisor is None:
        found, reason = _without_supervisor(folder, definition["token"], state)
    else:
        found, reason = _under_supervisor(state, is_ours=supervisor == state.supervisor)
    return Observed(
        identity=identity,
        instance=instance,
        state=found,
        definition_hash=definition["hash"],
        since=state.since or None,
        handle=f"pid {state.pid}" if state.pid and processes.is_running(state.pid, state.started) else "",
        endpoints=tuple(
            Endpoint(name=name, host=_HOST, port=port) for name, port in definition["ports"].items()
        ),
        exit_status=state.exit_status,
        starts=state.run,
        reason=reason,
    )


def state_of(folder: Path) -> State:
    """What its supervisor said last; nothing where that cannot be read."""
    try:
        return files.read_state(folder)
    except (FileNotFoundError, files.Damaged):
        return State()


def _under_supervisor(state: State, *, is_ours: bool) -> tuple[ServiceState, str]:
    if not is_ours:
        # A supervisor that has the lock and told nothing yet, or a daemon that removes it.
        return ServiceState.STARTING, "it is being started or removed"
    match state.phase:
        case files.RUNNING:
            if processes.is_running(state.pid, state.started):
                return ServiceState.HEALTHY, ""
            return ServiceState.UNHEALTHY, "its process has ended"
        case files.WAITING:
            return ServiceState.UNHEALTHY, f"{state.reason}; it is started again"
        case files.STOPPING:
            return ServiceState.UNHEALTHY, "it is being stopped"
        case files.ENDED:
            return ServiceState.EXITED, state.reason
        case _:
            return ServiceState.STARTING, state.reason or "it is being started"


def _without_supervisor(folder: Path, token: str, state: State) -> tuple[ServiceState, str]:
    if state.phase == files.ENDED:
        return ServiceState.EXITED, state.reason
    if state.phase == files.PREPARED:
        return ServiceState.EXITED, "it was never started"
    here = processes.boot()
    if state.boot and here and state.boot != here:
        return ServiceState.EXITED, "the machine was started anew"
    left = processes.belonging(token, (state.pid, state.started) if state.pid else None)
    if files.holder(folder) is not None:
        return ServiceState.STARTING, "it is being started or removed"
    if not left:
        return ServiceState.EXITED, "its supervisor was killed, and it ended"
    pids = ", ".join(str(each.pid) for each in left[:_NAMED_MAX])
    return ServiceState.UNHEALTHY, f"its supervisor was killed, and its processes run on: {pids}"
