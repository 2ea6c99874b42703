"""What components say of programs, ports, outputs and each other, taken from text as far as it is sound."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

from reconciler.frozen import frozen
from reconciler.spec import text_rules
from reconciler.spec.values import DATABASE_OUTPUTS, service_outputs
from reconciler.spec.words import Path

ITEMS_MAX = 200
RUNTIMES = ("process", "systemd", "container")


class Sort(StrEnum):
    """What one component is to another that refers to it."""

    OUTPUT = "output"
    SERVER = "server"
    TARGET = "target"


@frozen
class Use:
    """A component that another one refers to; `name` is the output or port, None where none is named."""

    path: Path
    component: str
    sort: Sort
    name: str | None = None


@frozen
class PortOutline:
    """A port; `number` is as it was written, None where its runtime is to choose."""

    path: Path
    name: str
    number: int | str | None


@frozen
class OutputOutline:
    """An output that a job declares."""

    path: Path
    name: str
    keep: bool


@frozen
class ProgramOutline:
    """A Service, Job or Route; what cannot be told is None or empty, and is refused elsewhere."""

    path: Path
    runtime: str | None = None
    ports: tuple[PortOutline, ...] | None = None
    health_port: tuple[Path, str | None] | None = None
    """Where the check of its health names a port, and which; there only where it needs one."""
    env: tuple[str, ...] = ()
    data: tuple[tuple[Path, str, bool], ...] = ()
    """Path, name, and whether it says where it is to stand."""
    beside: bool = False
    outputs: tuple[OutputOutline, ...] = ()
    runs_on_change: bool = True
    route: tuple[str, str, str | None] | None = None
    """Host, path and proxy."""

    @property
    def port_names(self) -> tuple[str, ...]:
        """The names of its ports."""
        return tuple(port.name for port in self.ports or ())


def uses(kind: object, path: Path, part: Mapping[str, object]) -> tuple[Use, ...]:
    """The components that one refers to, but for `after` and `database`."""
    match kind:
        case "Service" | "Job":
            env = _mapping(part.get("env"))
            found = (_output((*path, "env", name), value) for name, value in env.items())
            return tuple(use for use in found if use is not None)
        case "Route":
            target = _named((*path, "to"), part.get("to"), Sort.TARGET)
            return (target,) if target is not None else ()
        case "Database":
            on = _mapping(part.get("on"))
            made = (
                _named((*path, "on"), on, Sort.SERVER),
                *(_output((*path, "on", key), on.get(key)) for key in ("user", "password")),
            )
            return tuple(use for use in made if use is not None)
        case _:
            return ()


def program(kind: object, path: Path, part: Mapping[str, object]) -> ProgramOutline | None:
    """What a Service, Job or Route says of itself; None for other kinds."""
    if kind == "Route":
        return ProgramOutline(path=path, route=_route(part))
    if kind not in ("Service", "Job"):
        return None
    runtime = _mapping(part.get("runtime"))
    named = [each for each in RUNTIMES if isinstance(runtime.get(each), dict)]
    name: str | None = named[0] if len(named) == 1 else None
    here: Path = (*path, "runtime", name or "")
    own = _mapping(runtime.get(name)) if name is not None else {}
    run = _mapping(part.get("run")).get("on")
    return ProgramOutline(
        path=path,
        runtime=name,
        ports=_ports((*here, "ports"), own.get("ports", [])) if name is not None else None,
        health_port=_health_port(path, _mapping(part.get("health"))),
        env=tuple(_mapping(part.get("env"))),
        data=tuple(
            ((*here, "data", number), text, "path" in item)
            for number, item in _items(own.get("data"))
            if (text := _name(item.get("name"))) is not None
        ),
        beside=part.get("replace") == "beside",
        outputs=tuple(
            OutputOutline(path=(*path, "outputs", number), name=output, keep=item.get("keep") is True)
            for number, item in _items(part.get("outputs"))
            if isinstance(output := item.get("name"), str) and text_rules.output(output) is None
        ),
        runs_on_change=not isinstance(run, list) or "change" in run,
    )


def outputs_of(kind: str | None, program: ProgramOutline | None) -> tuple[str, ...] | None:
    """The outputs of a component; empty where its kind has none, None where that cannot be told."""
    if kind == "Database":
        return tuple(DATABASE_OUTPUTS)
    if kind == "Job" and program is not None:
        return tuple(each.name for each in program.outputs)
    if kind == "Service" and program is not None:
        return service_outputs(program.port_names) if program.ports is not None else None
    return ()


def _output(path: Path, value: object) -> Use | None:
    found = _mapping(value)
    component, output = _name(found.get("from")), found.get("output")
    if component is None or not isinstance(output, str) or text_rules.output(output) is not None:
        return None
    return Use(path=path, component=component, sort=Sort.OUTPUT, name=output)


def _named(path: Path, value: object, sort: Sort) -> Use | None:
    found = _mapping(value)
    component = _name(found.get("from"))
    if component is None:
        return None
    return Use(path=path, component=component, sort=sort, name=_port_name(found.get("port")))


def _health_port(path: Path, health: Mapping[str, object]) -> tuple[Path, str | None] | None:
    for check in ("http", "tcp"):
        if isinstance(health.get(check), dict):
            return (*path, "health", check), _port_name(_mapping(health[check]).get("port"))
    return None


def _route(part: Mapping[str, object]) -> tuple[str, str, str | None] | None:
    host, path = part.get("host"), part.get("path", "/")
    if not isinstance(host, str) or not isinstance(path, str):
        return None
    return host, path, _name(part.get("proxy"))


def _ports(path: Path, value: object) -> tuple[PortOutline, ...] | None:
    if not isinstance(value, list) or len(value) > ITEMS_MAX:
        return None
    found = tuple(_port((*path, number), item) for number, item in enumerate(value))
    return tuple(port for port in found if port is not None) if None not in found else None


def _port(path: Path, item: object) -> PortOutline | None:
    written = {"name": str(item), "port": item} if _is_number(item) else _mapping(item)
    name, number = _name(written.get("name")), written.get("port")
    if name is None or isinstance(number, bool) or not isinstance(number, int | str | None):
        return None
    return PortOutline(path=path, name=name, number=number)


def _port_name(value: object) -> str | None:
    return str(value) if _is_number(value) else _name(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _items(value: object) -> Iterator[tuple[int, Mapping[str, object]]]:
    items: Sequence[object] = value[:ITEMS_MAX] if isinstance(value, list) else ()
    return ((position, item) for position, item in enumerate(items) if isinstance(item, dict))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and text_rules.name(value) is None else None
