"""How an instance is that is a unit of systemd, by what its manager says of it; it asks nobody itself."""

import signal

from reconciler.frozen import frozen
from reconciler.runtimes.runtime import ServiceState

DENIED = frozenset(
    {
        "org.freedesktop.DBus.Error.AccessDenied",
        "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
    }
)
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
_EXITED = 1  # CLD_EXITED; what is above was ended by a signal
_OF_SYSTEMD = {
    200: "its working directory cannot be entered",
    203: "its program cannot be run",
    216: "it cannot get its group",
    217: "it cannot get its user",
    226: "its name space cannot be made",
    228: "its system calls cannot be restricted",
    238: "the folder of its data cannot be made",
}
_RESULTS = {
    "oom-kill": "it was killed as it took too much memory",
    "timeout": "it did not start or end in its time",
    "resources": "systemd lacked something to start it with",
    "start-limit-hit": "given up after too many starts in a row",
    "core-dump": "it crashed",
}


class Refused(Exception):
    """The manager answered with an error; `name` is of D-Bus, the text is the manager's."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


@frozen
class UnitState:
    """A unit as its manager has it; only services that are loaded have more than the first five."""

    name: str
    load: str
    active: str
    sub: str
    path: str
    main_pid: int = 0
    restarts: int = 0
    main_status: int = 0
    main_code: int = 0
    result: str = ""
    has_run: bool = False
    since: float | None = None
    is_outdated: bool = False
    has_job: bool = False


def has_ended(state: UnitState) -> bool:
    """Whether it runs no more, and will not by itself."""
    return not state.has_job and (state.active in {"inactive", "failed"} or is_done(state))


def is_done(state: UnitState) -> bool:
    """Whether it ended well, and is kept as it was so that this is known."""
    return (state.active, state.sub) == ("active", "exited")


def starts(state: UnitState, before: int) -> int:
    """How often it was started, with as often as it was before it was asked for the last time."""
    return before + state.restarts + state.has_run


def exit_status(state: UnitState, noted: str) -> int | None:
    """Of its last end: as its manager has it, or what was noted then; minus the signal where it was one."""
    if state.main_code and not state.main_pid:
        return state.main_status if state.main_code == _EXITED else -state.main_status
    code, _, status = noted.strip().partition(" ")
    if code == "exited" and status.isdigit():
        return int(status)
    number = getattr(signal, f"SIG{status}", None) if code in {"killed", "dumped"} else None
    return None if number is None else -int(number)


def judged(state: UnitState, status: int | None) -> tuple[ServiceState, str]:
    """How it is, and why where it is not healthy."""
    if state.load == "masked":
        return ServiceState.EXITED, "its unit is masked"
    if state.load != "loaded":
        return ServiceState.EXITED, "its unit is not there, or cannot be read"
    if state.active == "active" and state.sub == "running":
        return ServiceState.HEALTHY, ""
    if state.active == "activating" and state.sub.startswith("auto-restart"):
        return ServiceState.UNHEALTHY, f"{_in_words(state, status)}; it is started again"
    if state.active == "deactivating":
        return ServiceState.UNHEALTHY, "it is being stopped"
    return (
        _judged_still(state, status) if has_ended(state) else (ServiceState.STARTING, "it is being started")
    )


def _judged_still(state: UnitState, status: int | None) -> tuple[ServiceState, str]:
    if state.active in {"active", "failed"}:
        return ServiceState.EXITED, _in_words(state, status)
    if state.has_run:
        return ServiceState.EXITED, f"stopped: {_in_words(state, status)}"
    return ServiceState.EXITED, "it was not started, or not since the machine was"


def _in_words(state: UnitState, status: int | None) -> str:
    if status is None:
        ended = "it ended"
    elif status < 0:
        ended = f"it was ended by {_name_of_signal(-status)}"
    else:
        ended = f"it exited with {status}"
        if state.result == "exit-code" and status in _OF_SYSTEMD:
            ended = f"{_OF_SYSTEMD[status]} ({status})"
    why = _RESULTS.get(state.result)
    return f"{ended}; {why}" if why else ended


def _name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
