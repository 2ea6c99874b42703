"""What every runtime does, and the values it is spoken to with: the one protocol that all of them fit.

It says nothing of how: no process, no unit, no container stands here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Protocol
from urllib.parse import unquote, urlsplit

from typing_extensions import override

from reconciler.errors import PermanentError
from reconciler.frozen import frozen

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = "RECONCILER_"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PART_CHARACTERS_MIN = 8
"""Fewer of a secret at the head of a text that was cut are not known for its end."""
_PASSWORD_CHARACTERS_MIN = 4
"""A shorter one is hidden as a whole address only: it is part of many words."""
GRACE_MAX_S = 3600.0


class Hidden:
    """A text that never shows itself; `reveal` gives it to what it is for."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    @override
    def __repr__(self) -> str:
        return "<hidden>"

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden) and other._text == self._text

    @override
    def __hash__(self) -> int:
        return hash(self._text)


@frozen
class Identity:
    """Which service of which deployment; instances of it, old and new, may stand side by side."""

    environment: str
    deployment: str
    component: str

    @override
    def __str__(self) -> str:
        return f"{self.environment}/{self.deployment}/{self.component}"


@frozen
class Port:
    """A port it listens on; without a number the runtime chooses one, and tells it as `PORT_<NAME>`."""

    name: str
    number: int | None = None


@frozen
class Endpoint:
    """Where a port of an instance is reached."""

    name: str
    host: str
    port: int


class RestartWhen(StrEnum):
    """When what ended is started again, by the runtime itself."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@frozen
class Restart:
    """How what ended is started again: after `delay_s`, doubled with every quick end up to `delay_max_s`.

    An end is quick within `steady_s` of the start; after `limit` of those in a row nothing is tried any more.
    """

    when: RestartWhen = RestartWhen.ALWAYS
    delay_s: float = 1.0
    delay_max_s: float = 60.0
    steady_s: float = 10.0
    limit: int | None = None


@frozen
class Limits:
    """What it may take at most; a runtime that cannot hold one says so in `prepare`."""

    open_files: int | None = None
    memory_bytes: int | None = None
    cpus: float | None = None
    processes: int | None = None


@frozen
class Logs:
    """How much of what it says is kept, for each of its two streams: so many files of so many bytes."""

    bytes_max: int = 10 * 1024 * 1024
    files: int = 5


@frozen
class HttpCheck:
    """Healthy while a GET is answered with 200 to 399."""

    port: str
    path: str = "/"


@frozen
class TcpCheck:
    """Healthy while a connection is accepted."""

    port: str


@frozen
class CommandCheck:
    """Healthy while a program exits with 0; it runs beside the service, with its environment and folder."""

    argv: tuple[str, ...]


@frozen
class OwnCheck:
    """Healthy while the runtime itself says so."""


Check = HttpCheck | TcpCheck | CommandCheck | OwnCheck


@frozen
class Health:
    """When a new instance counts as healthy: within `deadline_s`, and then for `steady_s` without a break.

    One check may take `timeout_s`; `crashes_max` starts beyond the first are taken for a crash loop.
    """

    check: Check = OwnCheck()
    interval_s: float = 1.0
    timeout_s: float = 5.0
    deadline_s: float = 60.0
    steady_s: float = 5.0
    crashes_max: int = 2


@frozen
class Build:
    """An image that is built, from files of the source at one commit: paths below the context, and bytes.

    `tag_hash` is of all of it, and names the image; what was built under that name is not built again.
    """

    tag_hash: str
    dockerfile: str
    files: Mapping[str, bytes] = field(repr=False)


@frozen
class Data:
    """A folder of its own that outlives its instances; it is told as `DATA_<NAME>`, and stands at `path`
    where the runtime can put it there.
    """

    name: str
    path: str | None = None


@frozen
class ServiceSpec:
    """Everything that is needed to run a service; `definition_hash` is the caller's, over all that matters.

    `argv` is what runs; with an `image` or a `build` it may be empty, and the image says. `cwd` and `user`
    left out are the runtime's own. `output_bytes_max`: it is told as `JOB_OUTPUT` which file it may write,
    and `output` gives that. `networks` are those of a container engine.
    """

    identity: Identity
    definition_hash: str
    argv: tuple[str, ...] = ()
    image: str | None = None
    build: Build | None = None
    data: tuple[Data, ...] = ()
    networks: tuple[str, ...] = ()
    output_bytes_max: int | None = None
    env: tuple[tuple[str, str | Hidden], ...] = ()
    cwd: str | None = None
    user: str | None = None
    ports: tuple[Port, ...] = ()
    health: Health = Health()
    grace_s: float = 10.0
    restart: Restart = Restart()
    limits: Limits = Limits()
    logs: Logs = Logs()


class ServiceState(StrEnum):
    """How an instance is, by what its runtime sees of it."""

    ABSENT = "absent"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    EXITED = "exited"
    UNKNOWN = "unknown"


@frozen
class Observed:
    """One instance as it is; `exit_status` is of its last end, minus the signal where it was one.

    `starts` counts how often it was started: whoever waits for it to stay up sees by it that it did not.
    `since` is for people, `handle` names it in the words of its runtime. `is_checked`: the program of its
    health check is run by its runtime, where it runs, and `state` says what came of it.
    """

    identity: Identity
    instance: str
    state: ServiceState
    definition_hash: str = ""
    since: float | None = None
    handle: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    exit_status: int | None = None
    starts: int = 0
    reason: str = ""
    is_checked: bool = False


class Runtime(Protocol):
    """What runs services.

    Each call may be made again at any moment, also after a crash in the middle of it, and does no more than
    what is left. Instances are named by the caller: the same name is the same instance.
    """

    @property
    def name(self) -> str:
        """What it is called in a spec."""
        ...

    async def why_not(self) -> str | None:
        """Why no service can run here, and what to do about it; None where it can."""
        ...

    def may_stand_beside(self, spec: ServiceSpec) -> bool:
        """Whether a second instance of the service can run while the first does; never where it has data."""
        ...

    async def observe(
        self, environment: str, deployment: str, component: str | None = None
    ) -> tuple[Observed, ...]:
        """All instances of a service, or of all services of a deployment, by component and instance.

        It changes nothing. Raises RuntimeUnavailable where nothing can be said: that is not the same as none.
        """
        ...

    async def prepare(self, spec: ServiceSpec) -> None:
        """Do what can be done before anything starts; raises PermanentError with all that is wrong."""
        ...

    async def apply(self, spec: ServiceSpec, instance: str) -> Observed:
        """See to it that this instance runs, and return it as it is once it was started."""
        ...

    async def remove(self, identity: Identity, instance: str) -> None:
        """End it with all that it made, in the grace it was given, and forget it."""
        ...

    async def log_end(self, spec: ServiceSpec, instance: str) -> str:
        """The end of what it said, without what its environment hides; empty where nothing is kept."""
        ...

    async def output(self, spec: ServiceSpec, instance: str) -> bytes | None:
        """What it wrote to the file of `JOB_OUTPUT`; None where it wrote none. Ask before `remove`.

        Raises PermanentError where that is more than it may be.
        """
        ...


def faults(spec: ServiceSpec) -> list[str]:
    """All that is wrong with a definition for every runtime; none of it quotes a value."""
    found = [
        f"'{part}' cannot be part of a service's name"
        for part in (spec.identity.environment, spec.identity.deployment, spec.identity.component)
        if not _NAME.fullmatch(part)
    ]
    found += _faults_of_environment([name for name, _ in spec.env])
    for name, value in spec.env:
        if "\0" in (value.reveal() if isinstance(value, Hidden) else value):
            found.append(f"the value of '{name}' has a zero byte")
    if any("\0" in each for each in spec.argv):
        found.append("the command has a zero byte")
    found += _faults_of_ports(spec.ports)
    found += _faults_of_data(spec.data)
    check = spec.health.check
    if isinstance(check, HttpCheck | TcpCheck) and check.port not in {port.name for port in spec.ports}:
        found.append(f"its health check names the port '{check.port}', which it does not have")
    if isinstance(check, CommandCheck) and not check.argv:
        found.append("the command of its health check is empty")
    if not 0 <= spec.grace_s <= GRACE_MAX_S:
        found.append(f"a grace of {spec.grace_s:g} s is not between 0 and {GRACE_MAX_S:g}")
    if min(spec.restart.delay_s, spec.restart.delay_max_s, spec.restart.steady_s) < 0:
        found.append("a time of its restart is negative")
    if spec.logs.files < 1 or spec.logs.bytes_max < 1:
        found.append("its log needs one file of one byte at least")
    return found


def _faults_of_environment(names: Sequence[str]) -> list[str]:
    found = [f"'{name}' cannot be the name of a variable" for name in names if not _VARIABLE.fullmatch(name)]
    found += [
        f"variables named {_OURS}… are not for services: '{name}'" for name in names if name.startswith(_OURS)
    ]
    found += sorted({f"the variable '{name}' is given twice" for name in names if names.count(name) > 1})
    return found


def _faults_of_ports(ports: Sequence[Port]) -> list[str]:
    names = [port.name for port in ports]
    found = [f"'{name}' cannot be the name of a port" for name in names if not _NAME.fullmatch(name)]
    found += sorted({f"the port '{name}' is given twice" for name in names if names.count(name) > 1})
    found += [
        f"the port '{port.name}' has the number {port.number}, which is not between 1 and 65535"
        for port in ports
        if port.number is not None and not 1 <= port.number <= 65535
    ]
    return found


def _faults_of_data(data: Sequence[Data]) -> list[str]:
    names = [each.name for each in data]
    found = [f"'{name}' cannot be the name of its data" for name in names if not _NAME.fullmatch(name)]
    return found + sorted({f"the data '{name}' is given twice" for name in names if names.count(name) > 1})


def check_names(identity: Identity, instance: str) -> None:
    """Raise PermanentError for what cannot name an instance: names become those of folders and containers."""
    for name in (identity.environment, identity.deployment, identity.component, instance):
        if not _NAME.fullmatch(name):
            raise PermanentError(
                f"naming an instance of a service: '{name}' is no name",
                hint="letters, digits, dots, dashes and underlines, 63 at most",
            )


def environment_of(
    spec: ServiceSpec,
    ports: Mapping[str, int],
    folders: Mapping[str, str] | None = None,
    output: str | None = None,
) -> dict[str, str]:
    """All variables of a service, hidden ones too, with the numbers of its ports as `PORT_<NAME>`.

    `folders` are where its data stand, told as `DATA_<NAME>`, and `output` the file of `JOB_OUTPUT`.
    """
    chosen = {_variable("PORT", name): str(port) for name, port in ports.items()}
    places = {_variable("DATA", name): folder for name, folder in (folders or {}).items()}
    job = {} if output is None else {"JOB_OUTPUT": output}
    given = {name: value.reveal() if isinstance(value, Hidden) else value for name, value in spec.env}
    return {"PATH": _PATH, **chosen, **places, **job, **given}


def _variable(kind: str, name: str) -> str:
    return f"{kind}_{re.sub('[^A-Za-z0-9]', '_', name).upper()}"


def without_hidden(spec: ServiceSpec, text: str) -> str:
    """A text with nothing in it that the environment of a service hides, passwords of addresses included."""
    hidden = {value.reveal() for _, value in spec.env if isinstance(value, Hidden)} - {""}
    hidden |= {password for each in hidden for password in _passwords(each)}
    for each in sorted(hidden, key=len, reverse=True):
        text = _without_its_end(each, text)
    for each in sorted(hidden, key=len, reverse=True):
        text = text.replace(each, repr(Hidden(each)))
    return text


def _without_its_end(hidden: str, text: str) -> str:
    """A text that was cut where it had something hidden, without what is left of that at its head."""
    head = text[:_PART_CHARACTERS_MIN]
    at = hidden.find(head, 1) if len(head) == _PART_CHARACTERS_MIN else -1
    while at > 0:
        if text.startswith(hidden[at:]):
            return repr(Hidden(hidden)) + text[len(hidden) - at :]
        at = hidden.find(head, at + 1)
    return text


def _passwords(address: str) -> set[str]:
    """The password in an address, as it stands there and as programs take it out."""
    if "://" not in address:
        return set()
    try:
        found = urlsplit(address).password or ""
    except ValueError:
        return set()
    return {each for each in (found, unquote(found)) if len(each) >= _PASSWORD_CHARACTERS_MIN}
