"""Which outputs a deployment consumes, and the version each has by the spec alone; no value is known here."""

import hashlib
import json
from collections.abc import Iterable, Mapping

from reconciler.spec.values import OutputReference
from reconciler.state.desired import DesiredState
from reconciler.state.programs import DesiredProgram, RuntimeName


def service_version(program: DesiredProgram, definition_hash: str) -> str:
    """The version of the outputs of a service.

    Where its runtime chooses a port, every other instance may have another one.
    """
    chosen = program.runtime is RuntimeName.CONTAINER or any(port.number is None for port in program.ports)
    if chosen:
        return definition_hash
    ports = sorted((port.name, port.number) for port in program.ports)
    return hashlib.sha256(json.dumps(["service", ports]).encode()).hexdigest()


def versions(desired: DesiredState) -> dict[str, str]:
    """What the outputs of each component that has any are kept under."""
    found = {part.component: part.access.inputs_hash for part in desired.databases if part.access is not None}
    for service in desired.programs.services:
        found[service.component] = service_version(service.program, service.definition_hash)
    found.update((job.component, job.inputs_hash) for job in desired.programs.jobs)
    return found


def consumed(desired: DesiredState) -> Mapping[str, tuple[str, ...]]:
    """The names of outputs that somebody consumes or that are to be kept, by component, sorted.

    Nobody asks for what only skipped components consume.
    """
    found: dict[str, set[str]] = {}
    for reference in _references(desired):
        found.setdefault(reference.component, set()).add(reference.output)
    for job in desired.programs.jobs:
        found.setdefault(job.component, set()).update(output.name for output in job.outputs)
    for database in desired.databases:
        if database.access is not None:
            found.setdefault(database.component, set()).update(database.access.outputs)
    return {component: tuple(sorted(names)) for component, names in found.items()}


def _references(desired: DesiredState) -> Iterable[OutputReference]:
    own = desired.programs
    programs = [part.program for part in own.services if not part.skip]
    programs += [part.program for part in own.jobs if not part.skip]
    for program in programs:
        yield from program.consumes
    for database in desired.databases:
        if database.on is not None:
            wanted = (database.on.user, database.on.password)
            yield from (value for value in wanted if isinstance(value, OutputReference))
    yield from own.sink
