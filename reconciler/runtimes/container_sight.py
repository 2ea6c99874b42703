"""How an instance is, by what a container engine says of its container; it decides, and asks nobody."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from reconciler.runtimes import container_texts as texts
from reconciler.runtimes.runtime import Endpoint, Identity, Observed, ServiceState

_NEVER = "0001-"
_SIGNALS = range(129, 193)


def observed(inspected: Mapping[str, Any], publish_at: str) -> Observed:
    """A container of ours as an instance; what was edited by hand has no definition of ours."""
    config, state = inspected.get("Config") or {}, inspected.get("State") or {}
    labels = config.get("Labels") or {}
    found, reason = _state(state, inspected.get("HostConfig") or {})
    edit = edited(inspected)
    identifier = str(inspected.get("Id", ""))[:12]
    pid = int(state.get("Pid") or 0)
    restarts = int(inspected.get("RestartCount") or 0)
    return Observed(
        identity=_identity(labels),
        instance=labels.get(texts.INSTANCE, ""),
        state=found,
        definition_hash="" if edit else labels.get(texts.DEFINITION, ""),
        since=_time(state.get("StartedAt")) or _time(inspected.get("Created")),
        handle=f"container {identifier}" + (f", pid {pid}" if pid else ""),
        endpoints=_endpoints(inspected, publish_at),
        exit_status=_exit_status(state),
        starts=_starts(state, restarts),
        reason="; ".join(filter(None, (reason, edit))),
        is_checked=True,
    )


def is_renamed(inspected: Mapping[str, Any]) -> bool:
    """Whether a container with our labels has another name than the one that it was given."""
    labels = (inspected.get("Config") or {}).get("Labels") or {}
    name = texts.container_name(
        labels.get(texts.OWNER, ""), _identity(labels), labels.get(texts.INSTANCE, "")
    )
    return str(inspected.get("Name", "")).removeprefix("/") != name


def edited(inspected: Mapping[str, Any]) -> str:
    """What was changed of it by hand, in words; empty where it is as it was made."""
    if is_renamed(inspected):
        return "it was renamed by hand"
    config = inspected.get("Config") or {}
    labels = config.get("Labels") or {}
    if (inspected.get("State") or {}).get("Status") == "created":
        # It is on its way: its networks come one by one.
        return ""
    with suppress(ValueError, TypeError):
        networks = list((inspected.get("NetworkSettings") or {}).get("Networks") or {})
        is_made = texts.made(
            config,
            inspected.get("HostConfig") or {},
            str(inspected.get("Image", "")),
            networks,
            list(json.loads(labels.get(texts.FIELDS, "[]"))),
        )
        if is_made == labels.get(texts.MADE):
            return ""
    return "it was edited by hand"


def inside_and_published(inspected: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Each of its ports by name: the number inside, and the one at which it is reached."""
    labels = (inspected.get("Config") or {}).get("Labels") or {}
    bindings = (inspected.get("HostConfig") or {}).get("PortBindings") or {}
    found: dict[str, tuple[int, int]] = {}
    with suppress(ValueError, TypeError, KeyError, IndexError):
        for name, number in json.loads(labels.get(texts.PORTS, "{}")).items():
            bound = bindings.get(f"{number}/tcp")
            found[name] = (int(number), int(bound[0]["HostPort"]) if bound else int(number))
    return found


def _identity(labels: Mapping[str, str]) -> Identity:
    return Identity(
        environment=labels.get(texts.ENVIRONMENT, ""),
        deployment=labels.get(texts.DEPLOYMENT, ""),
        component=labels.get(texts.COMPONENT, ""),
    )


def _endpoints(inspected: Mapping[str, Any], publish_at: str) -> tuple[Endpoint, ...]:
    ports = inside_and_published(inspected)
    return tuple(Endpoint(name=name, host=publish_at, port=port) for name, (_, port) in ports.items())


def _state(state: Mapping[str, Any], host: Mapping[str, Any]) -> tuple[ServiceState, str]:
    match state.get("Status"):
        case "created":
            return ServiceState.EXITED, _why_not_started(state) or "it was never started"
        case "running":
            return _health(state)
        case "paused":
            return ServiceState.UNHEALTHY, "it is paused"
        case "restarting":
            return ServiceState.UNHEALTHY, f"{_end(state, host)}; it is started again"
        case "exited":
            return ServiceState.EXITED, _end(state, host)
        case "removing" | "dead":
            return ServiceState.UNHEALTHY, "it is being removed"
        case other:
            return ServiceState.UNKNOWN, f"its engine calls it '{str(other)[:40]}'"


def _why_not_started(state: Mapping[str, Any]) -> str:
    return "its engine could not start it" if state.get("Error") else ""


def _health(state: Mapping[str, Any]) -> tuple[ServiceState, str]:
    match (state.get("Health") or {}).get("Status"):
        case "starting":
            return ServiceState.STARTING, "its engine has not found it healthy yet"
        case "unhealthy":
            # What its check said may hold what is hidden, and who looks does not know what that is.
            last = [each.get("ExitCode") for each in (state["Health"].get("Log") or [])][-1:]
            return ServiceState.UNHEALTHY, "its health check failed" + (
                f" and exited with {last[0]}" if last and last[0] is not None and last[0] >= 0 else ""
            )
        case _:
            return ServiceState.HEALTHY, ""


def _end(state: Mapping[str, Any], host: Mapping[str, Any]) -> str:
    code = int(state.get("ExitCode") or 0)
    if state.get("OOMKilled"):
        return f"it was killed for want of memory: it may have {host.get('Memory') or 'no'} bytes"
    return f"it was ended by signal {code - 128}" if code in _SIGNALS else f"it exited with {code}"


def _exit_status(state: Mapping[str, Any]) -> int | None:
    if state.get("Status") not in {"exited", "restarting"}:
        return None
    code = int(state.get("ExitCode") or 0)
    return 128 - code if code in _SIGNALS else code


def _starts(state: Mapping[str, Any], restarts: int) -> int:
    """How often it was started; the engine forgets to count where it is started by hand, or by us."""
    if state.get("Status") == "created":
        return 0
    has_ended = not str(state.get("FinishedAt") or _NEVER).startswith(_NEVER)
    is_again = restarts == 0 and has_ended and bool(state.get("Running"))
    return restarts + 1 + is_again


def _time(text: object) -> float | None:
    if not isinstance(text, str) or text.startswith(_NEVER):
        return None
    try:
        # Nanoseconds are more than what is read here.
        moment, _, rest = text.partition(".")
        zone = "+00:00" if not rest or rest.endswith("Z") else rest[-6:]
        return datetime.fromisoformat(moment.removesuffix("Z") + zone).timestamp()
    except ValueError:
        return None
