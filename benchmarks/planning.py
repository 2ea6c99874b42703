"""Planning of 5,000 components from their three states: compare, lay the steps, account for the outputs.

It reads nothing and connects nowhere; what counts is processor time, and the limit is one second.
"""

import argparse
import hashlib
import time
from collections.abc import Callable, Sequence

from benchmarks.meters import tell_seconds
from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.diff.programs import ProgramContext
from reconciler.plan.build import build
from reconciler.plan.check import check
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.plan.programs import produced
from reconciler.plan.steps import RollService, RunJob
from reconciler.spec.values import OutputReference, SecretReference
from reconciler.state.desired import DesiredDatabase, DesiredState
from reconciler.state.live import LiveInstance, LivePrograms, LiveRoute, LiveState
from reconciler.state.programs import (
    DesiredJob,
    DesiredOutput,
    DesiredPort,
    DesiredProgram,
    DesiredPrograms,
    DesiredRoute,
    DesiredService,
    RuntimeName,
)
from reconciler.state.programs_json import kind_of, to_json
from reconciler.state.provisioning import narrowed
from reconciler.state.tracked import TrackedComponent, TrackedOutput, TrackedPrograms, TrackedState

QUICK = ["--components", "1000", "--rounds", "3"]
LIMIT_S = 1.0
STAGES = ("databases", "jobs", "services", "more", "routes")
CONTEXT = DatabaseContext(versions=Versions(tracking=1, fingerprint_algorithm=1), drift="warn")
States = tuple[TrackedState, LiveState]


def hashed(*said: object) -> str:
    return hashlib.sha256(repr(said).encode()).hexdigest()


def program(uses: Sequence[str]) -> DesiredProgram:
    """One with twenty variables, some of which are outputs of others."""
    env = [(f"VARIABLE_{number}", f"value {number}") for number in range(20 - len(uses))]
    taken = [OutputReference(component=name.split(".")[0], output=name.split(".")[1]) for name in uses]
    return DesiredProgram(
        runtime=RuntimeName.PROCESS,
        argv=("bin/service", "--all"),
        ports=(DesiredPort(name="http"),),
        env=(*env, *((f"TAKEN_{number}", each) for number, each in enumerate(taken))),
    )


def wanted(components: int, *, changed: int = 0) -> DesiredState:
    """A spec: of a hundred components one database, nine jobs, eighty services and ten routes."""
    databases, jobs, services, routes = [], [], [], []
    for block in range(components // 100):
        databases.append(DesiredDatabase(component=f"db{block}", stage="databases", database=f"db{block}"))
        for number in range(9):
            own = program(())
            jobs.append(
                DesiredJob(
                    component=f"job{block}-{number}",
                    stage="jobs",
                    program=own,
                    inputs_hash=hashed("job", block, number),
                    outputs=(DesiredOutput(name="token"),),
                )
            )
        for number in range(80):
            uses = [f"job{block}-{number % 9}.token"]
            uses += [f"service{block}-{number - 1}.port"] if number else []
            version = 1 if block * 80 + number >= changed else 2
            services.append(
                DesiredService(
                    component=f"service{block}-{number}",
                    stage="services" if number < 40 else "more",
                    program=program(uses),
                    definition_hash=hashed("service", block, number, version),
                )
            )
        routes += [
            DesiredRoute(
                component=f"route{block}-{number}",
                stage="routes",
                host=f"{block}-{number}.example.com",
                path="/",
                service=f"service{block}-{number * 8}",
                port="http",
                definition_hash=hashed("route", block, number),
            )
            for number in range(10)
        ]
    return DesiredState(
        environment="bench",
        deployment="eu",
        commit="c" * 40,
        postgres=SecretReference(env="BENCH"),
        stages=STAGES,
        databases=tuple(databases),
        modules=(),
        programs=DesiredPrograms(services=tuple(services), jobs=tuple(jobs), routes=tuple(routes)),
    )


def there(spec: DesiredState, plan: DeploymentPlan) -> States:
    """What there is once the plan was carried out."""
    own = spec.programs
    components: dict[str, TrackedComponent] = {}
    parts: list[DesiredService | DesiredJob | DesiredRoute] = [*own.services, *own.jobs, *own.routes]
    for part in parts:
        made_of = part.inputs_hash if isinstance(part, DesiredJob) else part.definition_hash
        components[part.component] = TrackedComponent(
            component=part.component,
            kind=kind_of(part),
            stage=part.stage,
            definition_hash=made_of,
            definition=to_json(part),
            instance=part.instance if isinstance(part, DesiredService) else None,
        )
    kept = {}
    for step in plan.steps:
        made_of = step.outputs_hash if isinstance(step, RollService) else ""
        made_of = step.inputs_hash if isinstance(step, RunJob) else made_of
        for name in produced(step):
            output = name.removeprefix(f"{step.component}.")
            kept[name] = TrackedOutput(component=step.component, name=output, inputs_hash=made_of)
    instances = {
        part.component: (
            LiveInstance(instance=part.instance, state="healthy", endpoints=(("http", "127.0.0.1", 80),)),
        )
        for part in own.services
    }
    routes = {
        part.component: LiveRoute(host=part.host, path=part.path, to="127.0.0.1:80") for part in own.routes
    }
    tracked = TrackedPrograms(
        components=components,
        outputs=kept,
        jobs={part.component: part.inputs_hash for part in own.jobs},
        started=True,
    )
    return (
        TrackedState(databases={}, programs=tracked),
        LiveState(server_major=18, databases={}, programs=LivePrograms(instances=instances, routes=routes)),
    )


def planned(spec: DesiredState, states: States, scope: Scope = Scope.FULL) -> DeploymentPlan:
    """All that is done between reading the states and carrying out the plan."""
    spec = narrowed(spec) if scope is Scope.PROVISION_ONLY else spec
    contexts = {part.database: CONTEXT for part in spec.databases}
    diff = compare(spec, *states, contexts, ProgramContext())
    plan = build(spec, diff, states, scope=scope)
    problems = check(plan)
    if problems or plan.blocked:
        raise RuntimeError(f"the plan is not sound: {problems[:1] or plan.blocked[:1]}")
    return plan


def rounds_of(what: str, make: Callable[[], DeploymentPlan], steps: int | None, rounds: int) -> bool:
    """Measure one way to plan; says whether it is within the limit."""
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        plan = make()
        taken.append(time.process_time() - began)
        if steps is not None and len(plan.steps) != steps:
            raise RuntimeError(f"{what}: {len(plan.steps)} steps in place of {steps}")
    tell_seconds(what, taken, limit=LIMIT_S, at="worst")
    return max(taken) <= LIMIT_S


async def main(arguments: Sequence[str] | None = None) -> int:
    """Plan everything, nothing, a tenth of the services, and resources alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--components", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    spec = wanted(options.components)
    nothing = TrackedState(databases={}), LiveState(server_major=18, databases={})
    first = planned(spec, nothing)
    states = there(spec, first)
    tenth = len(spec.programs.services) // 10
    changed = wanted(options.components, changed=tenth)
    print(f"planning {len(spec.components)} components, {len(first.steps)} steps, processor time")
    databases = len(spec.databases)
    ways: tuple[tuple[str, Callable[[], DeploymentPlan], int | None], ...] = (
        ("everything is to be done", lambda: planned(spec, nothing), len(first.steps)),
        ("a tenth of the services changed", lambda: planned(changed, states), 2 * tenth + databases),
        ("no service changed", lambda: planned(spec, states), databases),
        ("resources alone", lambda: planned(spec, nothing, Scope.PROVISION_ONLY), None),
    )
    within = [rounds_of(what, make, steps, options.rounds) for what, make, steps in ways]
    return 0 if all(within) else 1
