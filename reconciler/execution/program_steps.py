"""Carry out one step of services, jobs, routes and outputs; which there are was decided by the plan."""

from reconciler.execution import access, jobs, routes, services
from reconciler.execution.course import Journal
from reconciler.execution.resources import Resources
from reconciler.plan.steps import (
    ConsumeOutputs,
    DropDatabase,
    ForgetJob,
    PrepareProgram,
    ProvideAccess,
    RemoveRoute,
    RemoveService,
    RollService,
    RunJob,
    SetRoute,
)

ProgramStep = (
    ProvideAccess
    | PrepareProgram
    | RollService
    | RunJob
    | SetRoute
    | RemoveRoute
    | RemoveService
    | ForgetJob
    | DropDatabase
    | ConsumeOutputs
)
PROGRAM_STEPS = (
    ProvideAccess,
    PrepareProgram,
    RollService,
    RunJob,
    SetRoute,
    RemoveRoute,
    RemoveService,
    ForgetJob,
    DropDatabase,
    ConsumeOutputs,
)


async def carry_out(step: ProgramStep, resources: Resources, journal: Journal) -> None:
    """Do what the step says; raises what it failed with, PermanentError where trying again cannot help."""
    match step:
        case PrepareProgram():
            await services.prepare(step, resources)
        case RollService():
            await services.roll(step, resources)
        case RemoveService():
            await services.remove(step, resources)
        case RunJob():
            await jobs.run_job(step, resources, journal)
        case ForgetJob():
            await jobs.forget(step, resources)
        case SetRoute():
            await routes.set_route(step, resources)
        case RemoveRoute():
            await routes.remove_route(step, resources)
        case ConsumeOutputs():
            await jobs.consume(step, resources)
        case ProvideAccess() | DropDatabase():
            await access.carry_out(step, resources)
