"""Narrow a desired state to its resources, before anything is planned: databases, what is in them, and jobs.

Services and routes merely use them, but for the services that a resource cannot be provisioned without.
"""

from dataclasses import replace

from reconciler.spec.values import OutputReference
from reconciler.state.desired import DesiredState, LeftOut
from reconciler.state.programs import DesiredJob, DesiredPrograms, DesiredServer, DesiredService


def narrowed(desired: DesiredState) -> DesiredState:
    """The same without what only uses resources; outputs that this would have consumed go to the sink.

    A job stays, unless it needs a service that is left out and nobody who stays needs the job.
    """
    own = desired.programs
    stays = _staying(desired)
    services = tuple(part for part in own.services if part.component in stays)
    jobs = tuple(part for part in own.jobs if part.component in stays)
    gone: list[DesiredService | DesiredJob] = [
        *(part for part in own.services if part.component not in stays),
        *(part for part in own.jobs if part.component not in stays),
    ]
    makers = {part.component for part in desired.databases} | stays
    sink = {
        reference
        for part in gone
        if not part.skip
        for reference in part.program.consumes
        if reference.component in makers
    }
    left_out = [LeftOut(component=part.component, stage=part.stage) for part in gone]
    left_out += [LeftOut(component=part.component, stage=part.stage) for part in own.routes]
    places = {name: place for place, name in enumerate(desired.stages)}
    return replace(
        desired,
        programs=DesiredPrograms(
            services=services,
            jobs=jobs,
            sink=tuple(sorted(sink, key=lambda each: (each.component, each.output))),
        ),
        provision_only=True,
        left_out=tuple(sorted(left_out, key=lambda each: (places[each.stage], each.component))),
    )


def _staying(desired: DesiredState) -> frozenset[str]:
    """The services and jobs that stay."""
    needs = {part.component: _needs(part) for part in desired.programs.services}
    needs |= {part.component: _needs(part) for part in desired.programs.jobs}
    stays: set[str] = set()
    pending = [name for part in desired.databases if part.on is not None for name in _server_needs(part.on)]
    while pending:
        name = pending.pop()
        if name in needs and name not in stays:
            stays.add(name)
            pending += needs[name]
    users: dict[str, list[str]] = {}
    for name, makers in needs.items():
        for maker in makers:
            users.setdefault(maker, []).append(name)
    goes: set[str] = set()
    pending = [part.component for part in desired.programs.services if part.component not in stays]
    while pending:
        name = pending.pop()
        if name not in goes and name not in stays:
            goes.add(name)
            pending += users.get(name, ())
    return frozenset(stays | (needs.keys() - goes))


def _needs(part: DesiredService | DesiredJob) -> tuple[str, ...]:
    return tuple(reference.component for reference in part.program.consumes)


def _server_needs(on: DesiredServer) -> tuple[str, ...]:
    """The components without which nobody gets into a server: the service, and who makes its password."""
    values = (on.user, on.password)
    return (on.service, *(value.component for value in values if isinstance(value, OutputReference)))
