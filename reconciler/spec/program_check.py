"""Checks of services, jobs and routes against each other and the rest of a spec; every problem, by path."""

from collections.abc import Iterator, Mapping, Sequence

from reconciler.spec import variables
from reconciler.spec.outline import ComponentOutline, DeploymentOutline, Outline
from reconciler.spec.problems import Finding
from reconciler.spec.program_outline import ProgramOutline, Sort, Use, outputs_of
from reconciler.spec.programs import variable_of
from reconciler.spec.variables import BadVariable
from reconciler.spec.words import Path, did_you_mean, path_text, shown, with_article

ON_THE_MACHINE = ("process", "systemd")
"""Runtimes whose ports are those of the machine."""
JOB_OUTPUT = "JOB_OUTPUT"
_WHAT = {Sort.SERVER: "a database lives on", Sort.TARGET: "a route leads to"}


def check_programs(outline: Outline) -> Iterator[Finding]:
    """Find what is wrong with programs; names that are not sound themselves are left out."""
    parts: dict[str, ComponentOutline] = {}
    for part in outline.components:
        if part.name is not None:
            parts.setdefault(part.name, part)
    servers = {use.component for part in outline.components for use in part.uses if use.sort is Sort.SERVER}
    order: dict[str | None, int] = {}
    for position, (_path, name) in enumerate(outline.stages):
        order.setdefault(name, position)
    for part in outline.components:
        for use in part.uses:
            yield from _use(part, use, parts, order)
        if part.program is not None:
            yield from _own(part, part.program)
            yield from _replacing(part, part.program, is_server=part.name in servers)
    yield from _unconsumed(outline)
    yield from _in_deployments(outline)


def _use(
    part: ComponentOutline, use: Use, parts: Mapping[str, ComponentOutline], order: Mapping[str | None, int]
) -> Iterator[Finding]:
    other = parts.get(use.component)
    if use.component == part.name:
        yield Finding(use.path, f"component '{use.component}' refers to itself", "name another one")
    elif other is None:
        known = [name for name, each in parts.items() if _fits(each, use) and name != part.name]
        what = "Service components" if use.sort is not Sort.OUTPUT else "components with outputs"
        hint = did_you_mean(use.component, known, what)
        yield Finding(use.path, f"unknown component '{use.component}'", hint)
    elif use.sort is Sort.OUTPUT:
        yield from _output(use, other)
    elif other.kind != "Service":
        message = f"{_WHAT[use.sort]} a Service, and '{use.component}' is {with_article(other.kind or '')}"
        known = [name for name, each in parts.items() if each.kind == "Service"]
        yield Finding(use.path, message, did_you_mean(use.component, known, "Service components"))
    else:
        yield from _port(use.path, use.name, other)
    if (
        other is not None
        and _fits(other, use)
        and order.get(other.stage, -1) > order.get(part.stage, len(order))
    ):
        yield Finding(
            use.path,
            f"component '{use.component}' is in stage '{other.stage}', after stage '{part.stage}'",
            "a component uses what the same or an earlier stage makes",
        )


def _fits(part: ComponentOutline, use: Use) -> bool:
    if use.sort is Sort.OUTPUT:
        return part.kind in ("Database", "Service", "Job")
    return part.kind == "Service"


def _output(use: Use, other: ComponentOutline) -> Iterator[Finding]:
    known = outputs_of(other.kind, other.program)
    if known is None or other.kind is None:
        return
    if use.name not in known:
        message = f"component '{use.component}' has no output '{use.name}'"
        kind_has_none = other.kind in ("Module", "Objects", "Route")
        hint = f"{with_article(other.kind)} has none" if kind_has_none else None
        yield Finding(use.path, message, hint or did_you_mean(use.name or "", known, "outputs of it"))
    elif other.kind == "Job" and other.program is not None and not other.program.runs_on_change:
        message = (
            f"job '{use.component}' does not run on change, so that nothing makes its outputs in a rollout"
        )
        yield Finding(use.path, message, "add `change` to its `run.on`")


def _port(path: Path, name: str | None, other: ComponentOutline) -> Iterator[Finding]:
    """A port of a service is named, or is the only one."""
    program = other.program
    if program is None or program.ports is None:
        return
    known = program.port_names
    if name is not None and name not in known:
        hint = did_you_mean(name, known, "ports of it")
        yield Finding(path, f"service '{other.name}' has no port '{name}'", hint)
    elif name is None and len(known) != 1:
        what = "no port" if not known else f"{len(known)} ports"
        hint = "name one with `port`" if known else "declare it under `ports` of its runtime"
        yield Finding(path, f"service '{other.name}' has {what}, and none is named here", hint)


def _own(part: ComponentOutline, program: ProgramOutline) -> Iterator[Finding]:
    """What a program says of its own ports, folders, variables and outputs."""
    if program.health_port is not None:
        path, name = program.health_port
        yield from _port(path, name, part)
    told: dict[str, str] = {JOB_OUTPUT: "the file for its outputs"} if part.kind == "Job" else {}
    for port in program.ports or ():
        yield from _tell(told, port.path, "PORT", port.name, "port")
        if program.runtime == "container" and port.number is None:
            hint = "say with `port` which it is in the container"
            yield Finding(port.path, f"port '{port.name}' has no number", hint)
    yield from _data(program, told)
    for name in program.env:
        if name in told:
            message = f"variable '{name}' tells the program of {told[name]}"
            yield Finding((*program.path, "env", name), message, "name it another way", at_key=True)
    seen: set[str] = set()
    for output in program.outputs:
        if output.name in seen:
            yield Finding((*output.path, "name"), f"duplicate output '{output.name}'", "name it once")
        seen.add(output.name)


def _data(program: ProgramOutline, told: dict[str, str]) -> Iterator[Finding]:
    for path, name, has_place in program.data:
        yield from _tell(told, path, "DATA", name, "folder")
        if program.runtime == "container" and not has_place:
            hint = "say with `path` where it stands in the container"
            yield Finding(path, f"folder '{name}' has no path", hint)
        elif program.runtime in ON_THE_MACHINE and has_place:
            hint = f"leave it out: the program is told where it is as {variable_of('DATA', name)}"
            yield Finding((*path, "path"), "only a container has a place for a folder", hint)


def _tell(told: dict[str, str], path: Path, prefix: str, name: str, what: str) -> Iterator[Finding]:
    variable = variable_of(prefix, name)
    if variable in told:
        message = f"{what} '{name}' is told to the program as {variable}, and so is {told[variable]}"
        yield Finding(path, message, "name one of them another way")
    told.setdefault(variable, f"{what} '{name}'")


def _replacing(part: ComponentOutline, program: ProgramOutline, *, is_server: bool) -> Iterator[Finding]:
    """Two instances side by side must not share what is one; and what is kept must outlive an instance."""
    if is_server and program.runtime == "container" and not program.data:
        message = f"databases live on '{part.name}', and would go with its container"
        yield Finding(program.path, message, "add `data` with the folder that PostgreSQL keeps them in")
    if not program.beside:
        return
    fixed = [port.name for port in program.ports or () if port.number is not None]
    if program.data:
        why = f"it has data ('{program.data[0][1]}')"
    elif is_server:
        why = "a database lives on it"
    elif program.runtime in ON_THE_MACHINE and fixed:
        why = f"port '{fixed[0]}' has a number of its own, which only one of them can have"
    else:
        return
    message = f"two instances of '{part.name}' cannot run side by side: {why}"
    yield Finding((*program.path, "replace"), message, "write in-place, or leave it out")


def _unconsumed(outline: Outline) -> Iterator[Finding]:
    """Every output that a job declares is consumed or kept."""
    consumed = {
        (use.component, use.name)
        for part in outline.components
        for use in part.uses
        if use.sort is Sort.OUTPUT
    }
    for part in outline.components:
        for output in part.program.outputs if part.program is not None else ():
            if not output.keep and (part.name, output.name) not in consumed:
                yield Finding(
                    output.path,
                    f"no component consumes output '{output.name}' of job '{part.name}'",
                    "write keep: true to keep it all the same, or leave it out",
                )


def _in_deployments(outline: Outline) -> Iterator[Finding]:
    """No two routes of a deployment are for the same requests, and no two services take the same port."""
    parts = [part for part in outline.components if part.program is not None]
    varies = any("${" in text for part in parts if part.program is not None for text in _texts(part.program))
    told: set[Path] = set()
    for place in outline.deployments if varies else outline.deployments[:1]:
        values = variables.values_for(
            outline.name or "", place.name or "", outline.variables, place.variables
        )
        first: dict[tuple[object, ...], tuple[Path, str]] = {}
        for part in parts:
            for path, key, what in _taken(part, values):
                other = first.setdefault(key, (path, part.name or ""))
                if other[0] == path or path in told:
                    continue
                told.add(path)
                yield _twice(path, what, other, place if varies else None)


def _texts(program: ProgramOutline) -> Iterator[str]:
    yield from (port.number for port in program.ports or () if isinstance(port.number, str))
    yield from program.route[:2] if program.route is not None else ()


def _taken(
    part: ComponentOutline, values: Mapping[str, str]
) -> Iterator[tuple[Path, tuple[object, ...], str]]:
    """What only one component of a deployment can have: where it says so, what it is, and in words."""
    program = part.program
    if program is None:
        return
    if program.route is not None:
        host, path, proxy = program.route
        try:
            host, path = variables.substitute(host, values), variables.substitute(path, values)
        except BadVariable:
            return
        whole = path.rstrip("/") or "/"
        yield (*program.path, "host"), ("route", host, whole, proxy), f"requests for {shown(host + whole)} go"
    if program.runtime not in ON_THE_MACHINE:
        return
    for port in program.ports or ():
        number = _number(port.number, values)
        if number is not None:
            yield port.path, ("port", number), f"port {number} of the machine is taken"


def _number(written: int | str | None, values: Mapping[str, str]) -> int | None:
    if not isinstance(written, str):
        return written
    try:
        text = variables.substitute(written, values)
    except BadVariable:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else None


def _twice(path: Path, what: str, other: tuple[Path, str], place: DeploymentOutline | None) -> Finding:
    where = f" in deployment '{place.name}'" if place is not None and place.name else ""
    hint = f"the other one is {path_text(_component_of(other[0]))}"
    return Finding(path, f"{what} by '{other[1]}' already{where}", hint)


def _component_of(path: Sequence[str | int]) -> Path:
    return tuple(path[:3])
