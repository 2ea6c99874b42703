"""Plans deployments from their three states; what a pass, a dry run and a worker share.

Nothing here writes anywhere. What the plan is, is decided by `diff` and `plan`; here it is only fetched.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import reconciler.plan.build as plan_build
from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.diff.model import Diff
from reconciler.diff.settling import settled
from reconciler.diff.skipping import left_out, without_skips, without_stopped
from reconciler.errors import (
    NotFound,
    Problem,
    ReconcilerError,
    Refused,
    SpecError,
    TemporaryError,
)
from reconciler.events import Event, SnapshotRead
from reconciler.frozen import frozen
from reconciler.plan.build import Consent
from reconciler.plan.hazards import HazardCode
from reconciler.plan.model import NOTHING_ASKED, DeploymentPlan, ObjectsAsked, Scope
from reconciler.plan.removal import build_removal
from reconciler.planner import tasks
from reconciler.planner.commits import Commits
from reconciler.planner.contexts import program_context, runs_otherwise
from reconciler.planner.left import Namesake, claiming, namesakes, sound_spec
from reconciler.planner.objects import ObjectsLook, with_objects
from reconciler.planner.reads import StateReader
from reconciler.planner.servers import (
    NOTHING_RUNS,
    ProgramsRecord,
    Servers,
    find_servers,
    on_services,
    services_of,
)
from reconciler.planner.view import Parsing, Resolving, Restrict, SourceView
from reconciler.postgres.connection import Connection, Connections, Dsn
from reconciler.snapshot.probe import ALGORITHM
from reconciler.source.repository import Repository
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.values import SecretReference
from reconciler.spec.variables import for_deployment
from reconciler.state.contents import Remembered
from reconciler.state.desired import DesiredState
from reconciler.state.left import left_state
from reconciler.state.live import LivePrograms, LiveState
from reconciler.state.provisioning import narrowed as narrowed_to_resources
from reconciler.state.registry import Registry, RegistryKind
from reconciler.state.removal import Removal
from reconciler.state.servers import server_name
from reconciler.state.task import ModuleTask, TaskVerb, find_module, narrowed
from reconciler.state.tracked import Revertible, TrackedPrograms, TrackedState
from reconciler.tracking.install import TRACKING_VERSION

VERSIONS = Versions(tracking=TRACKING_VERSION, fingerprint_algorithm=ALGORITHM)
THREADS = 2
DEPLOYMENTS_AHEAD = 4
"""Deployments that are read before it is known what they should be."""
POSTED = "<posted>"

_Done = TypeVar("_Done")


@frozen
class PlannerLimits:
    """Limits of reading, in seconds and counts."""

    read_timeout_s: float = 60.0
    deployments_in_parallel: int = 8
    databases_in_parallel: int = 4
    full_read_interval_s: float = 600.0


@frozen
class Known:
    """What a planner knows of beside its sources and databases.

    `contents` are modules as they were resolved before, `programs` the record of services and what runs of
    them. `can_seal`: the settings name a key that passwords can be kept with.
    """

    contents: Remembered | None = None
    programs: ProgramsRecord | None = None
    can_seal: bool = True


@frozen
class PlanRequest:
    """How to plan one deployment.

    `gate_due`: the gate of its wave was not passed when it was asked last.
    `intended` names databases whose creation was begun; `made` tells, when asked, those that operations made
    or adopted before; `resuming` is true for the operation that left base lines moving; `allow_hazards` is
    consent beyond the spec's policy. What was read of a server or a database since `not_before` (monotonic)
    may serve; None reads anew. `task` is asked of modules in place of everything, `only` the ids of the
    changes that were shown to be reverted. `forced` are schemas of SQL objects that are built anew in any
    case, which `operation` does once; with `keep_failed`, what was made stays where staging fails. Not
    `due_reads`: catalogs that are only to be read in full because it was long ago are left to a look for
    drift.
    """

    scope: Scope = Scope.FULL
    intended: frozenset[str] = frozenset()
    made: Callable[[], Awaitable[frozenset[str]]] | None = None
    resuming: bool = False
    allow_hazards: frozenset[str] = frozenset()
    held: str | None = None
    not_before: float | None = None
    task: ModuleTask | None = None
    only: frozenset[str] | None = None
    gate_due: bool = False
    due_reads: bool = True
    forced: frozenset[str] = frozenset()
    operation: str | None = None
    keep_failed: bool = False
    unfollowed: frozenset[str] = frozenset()
    """Services that the commit which is followed does not declare: nobody connects to them for a look."""
    removal: Removal | None = None
    """The environment is to be removed, and nothing else is planned."""
    insist: bool = False
    """A person asked: what drifted of services is put back however often it was."""
    healing: frozenset[str] = frozenset()
    """Components that the recorded plan puts back."""
    ran: frozenset[str] = frozenset()
    """Jobs which this operation ran to their end already."""


@frozen
class Assessment:
    """A deployment's plan with what it was made from; all of that is None where it could not be read.

    `running` is what runs of it. `allowed` are the hazards that somebody consented to, by policy or for this
    rollout.
    """

    desired: DesiredState
    plan: DeploymentPlan
    tracked: TrackedState | None
    diff: Diff | None
    allowed: frozenset[str] = frozenset()
    running: LivePrograms | None = None


def unread(desired: DesiredState, why: str) -> Assessment:
    """What there is to say of a deployment that could not be read."""
    plan = plan_build.unavailable(desired, why)
    return Assessment(desired=desired, plan=plan, tracked=None, diff=None)


class Planner:
    """Plans deployments. What it holds, all within bounds, only spares it to read or parse a thing twice."""

    def __init__(
        self,
        *,
        sources: Mapping[str, Repository],
        paths: Mapping[str, str],
        restrict: Restrict | None = None,
        connections: Connections,
        resolve_secret: Callable[[SecretReference], str],
        limits: PlannerLimits,
        emit: Callable[[Event], None],
        known: Known | None = None,
    ) -> None:
        known = known or Known()
        self._parsing = Parsing(restrict=restrict or (lambda _source, parsed: parsed))
        self._resolving = Resolving(remembered=known.contents)
        self._resolve_secret = resolve_secret
        self._connections = connections
        self._limits = limits
        self._emit = emit
        self._programs = known.programs
        self._can_seal = known.can_seal
        self._commits = Commits(sources, paths, self._parsing, self._in_thread)
        self._reader = StateReader(
            connections,
            databases_in_parallel=limits.databases_in_parallel,
            full_read_interval_s=limits.full_read_interval_s,
            service_timeout_s=limits.read_timeout_s / 2,
        )
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="planner")

    def dsn(self, desired: DesiredState) -> Dsn:
        """The connection string of a deployment; raises NotFound without quoting anything of it.

        What only provisions has narrower credentials where the spec gives some.
        """
        narrower = desired.provision_postgres if desired.provision_only else None
        return Dsn(self._resolve_secret(narrower or desired.postgres))

    async def dsn_of(self, desired: DesiredState, database: str) -> Dsn:
        """The connection string of the server that a database of a deployment lives on.

        Raises TemporaryError where it lives on a service of which nobody knows where it is just now.
        """
        if all(part.on is None for part in desired.databases if part.database == database):
            return self.dsn(desired)
        return (await self.servers(desired)).of(desired, database)

    async def place_of(self, desired: DesiredState, database: str) -> tuple[str, Dsn]:
        """What the server of a database is called in records, and how to get there."""
        on = next((part.on for part in desired.databases if part.database == database), None)
        dsn = await self.dsn_of(desired, database)
        return (server_name(on) if on is not None else dsn.server), dsn

    async def servers(
        self,
        desired: DesiredState,
        known: tuple[TrackedPrograms, LivePrograms] | None = None,
        *,
        unfollowed: frozenset[str] = frozenset(),
    ) -> Servers:
        """Where all databases of a deployment are; `known`: what was read of its services already.

        Those on `unfollowed` services are not looked for where one of these was applied.
        """
        own = self.dsn(desired)
        if not on_services(desired):
            return Servers(own=own)
        if self._programs is None:
            return Servers(own=own, silent=dict.fromkeys(services_of(desired), NOTHING_RUNS))
        return await find_servers(
            desired,
            own,
            known or await self._programs.read(desired),
            secret=self._resolve_secret,
            output=partial(self._programs.output, desired),
            unfollowed=unfollowed,
        )

    def secret(self, reference: SecretReference) -> str:
        """A secret that a spec refers to; raises NotFound without quoting anything of it."""
        return self._resolve_secret(reference)

    async def spare(self, dsn: Dsn, database: str) -> Connection | None:
        """A connection that served to read a database, for whoever writes to it next, where one is idle."""
        return await self._connections.take_out(dsn, database=database, role="fence")

    async def view(self, source: str, commit: str) -> SourceView:
        """A commit, read and parsed once; fetched first where another daemon was quicker to have it."""
        return await self._commits.view(source, commit)

    def known_view(self, source: str, commit: str) -> SourceView | None:
        """A commit that was read before and is still in memory."""
        return self._commits.known(source, commit)

    async def files(self, source: str, commit: str, paths: Sequence[str]) -> Mapping[str, bytes]:
        """Some files of a commit; those it has not are left out."""
        return await self._commits.files(source, commit, paths)

    async def _in_thread(self, work: Callable[..., _Done], *args: Any) -> _Done:
        """Do what only computes in threads of our own: those of others may all be waiting for something."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def desired(
        self, view: SourceView, environment: str, *, task: ModuleTask | None = None
    ) -> tuple[EnvironmentSpec, list[DesiredState]]:
        """Spec and desired states of an environment, in rollout order; narrowed to what a task is about.

        Raises NotFound where the commit does not declare it, SpecError with everything wrong in it.
        """
        spec, states = await self._whole(view, environment)
        if task is None or task.verb is TaskVerb.REVERT:
            return spec, states
        return spec, await self._in_thread(self._narrowed, view, spec, states, task)

    def _narrowed(
        self, view: SourceView, spec: EnvironmentSpec, states: Sequence[DesiredState], task: ModuleTask
    ) -> list[DesiredState]:
        chosen = states
        if task.to is not None and task.module is not None:
            component = find_module(states[0], task.module).component
            try:
                chosen = self._resolving.unkept(view, spec, target=(component, task.to))
            except SpecError as error:
                # Without the target all of it could be resolved.
                problem = error.problems[0]
                raise NotFound(f"module '{component}': {problem.message}", hint=problem.hint) from error
            tasks.check_target(states, chosen, task)
        return [narrowed(state, task) for state in chosen]

    async def _whole(self, view: SourceView, environment: str) -> tuple[EnvironmentSpec, list[DesiredState]]:
        spec = sound_spec(view, environment)
        known = self._resolving.known(view, spec)
        if known is not None:
            return spec, known
        return spec, await self._in_thread(self._resolving.states, view, spec)

    async def left(
        self, view: SourceView, environment: str, deployment: str, declared_at: str
    ) -> DesiredState:
        """What is to be of a deployment that a commit does not have, by the last commit that has it.

        Raises NotFound where that commit cannot be found any more, or does not have it either, and Refused
        where it is not in the history of the other: what a branch lost that was set back did not leave.
        """
        before = sound_spec(await self.view(view.source, declared_at), environment)
        if not await self._commits.descends(view, declared_at):
            raise Refused(f"it is not in the history of commit {view.commit[:12]}")
        return left_state(before, deployment, commit=view.commit, declared_at=declared_at)

    async def check_unclaimed(
        self, view: SourceView, spec: EnvironmentSpec, left: DesiredState, *, head: SourceView | None = None
    ) -> tuple[Namesake, ...]:
        """Raise Refused where a deployment of the commit has a database of one that left: it is in use.

        `spec` is the one that it left, of the commit or posted. Gives those that have one of the same name on
        servers that are called otherwise. `head`: the commit that is followed, where the view is of another
        that nobody need have agreed to: only what stands there too is resolved for other environments.
        """
        at = (view, head)
        found = await self._in_thread(namesakes, at, spec, left, self._resolve_secret)
        claimed = claiming(found, self.dsn(left).server)
        if claimed is not None:
            raise Refused(claimed.claim)
        return found

    async def check_elsewhere(
        self, left: DesiredState, found: Sequence[Namesake], *, not_before: float | None
    ) -> None:
        """Raise Refused where one of these has the very database, by another name of its server.

        Raises too where one of them cannot be read: nobody knows then.
        """
        if not found:
            return
        mine = await self._identities(self.dsn(left), left, not_before)
        slots = asyncio.Semaphore(self._limits.deployments_in_parallel)

        async def check(each: Namesake) -> None:
            assert each.dsn is not None
            async with slots:
                try:
                    theirs = await self._identities(each.dsn, left, not_before)
                except ReconcilerError as error:
                    # What is wrong there may be another environment's own business.
                    raise TemporaryError(
                        f"nobody knows whether {each.claim}: its server cannot be read"
                    ) from error
            if theirs[each.database] is not None and theirs[each.database] == mine[each.database]:
                raise Refused(each.claim)

        await asyncio.gather(*(check(each) for each in found))

    async def check_left(self, view: SourceView, left: DesiredState) -> None:
        """Raise Refused where a commit has a deployment that left another, or has its databases.

        SpecError or NotFound where nobody can say.
        """
        spec = sound_spec(view, left.environment)
        if any(place.name == left.deployment for place in spec.deployments):
            raise Refused(f"commit {view.commit[:12]} has deployment '{left.deployment}' again")
        if not spec.policy.prune:
            raise Refused(f"policy.prune is off at commit {view.commit[:12]}")
        found = await self.check_unclaimed(view, spec, left)
        await self.check_elsewhere(left, found, not_before=None)

    async def _identities(
        self, dsn: Dsn, desired: DesiredState, not_before: float | None
    ) -> dict[str, tuple[str, int] | None]:
        """Which databases those of these names on a server really are, whatever the server is called."""
        own = replace(desired, databases=tuple(part for part in desired.databases if part.on is None))
        try:
            async with asyncio.timeout(self._limits.read_timeout_s):
                _tracked, live = await self._reader.read(Servers(own=dsn), own, not_before=not_before)
        except TimeoutError as error:
            raise TemporaryError("nobody knows whose its databases are: reading took too long") from error
        return {
            name: (there.identity.system_identifier, there.identity.database_oid) if there.identity else None
            for name, there in live.databases.items()
        }

    async def posted(
        self, view: SourceView, environment: str, text: bytes
    ) -> tuple[EnvironmentSpec, list[DesiredState]]:
        """An environment as it would be if `text` were its document, beside the files of a commit.

        Raises SpecError with everything wrong in it, at places in the file `<posted>`.
        """
        return await self._in_thread(self._posted, view, environment, text)

    def _posted(
        self, view: SourceView, environment: str, text: bytes
    ) -> tuple[EnvironmentSpec, list[DesiredState]]:
        parsed = self._parsing.posted(view.source, text, file=POSTED, files=view.tree.file)
        problems = [problem for each in parsed for problem in each.problems]
        if len(parsed) != 1:
            message = f"a posted text is exactly one document, and this has {len(parsed)}"
            problems.append(Problem(file=POSTED, message=message))
        if any(each.name not in (None, environment) for each in parsed):
            message = f"must be '{environment}', the environment it is posted to"
            problems.append(Problem(file=POSTED, path="metadata.name", message=message))
        spec = parsed[0].spec if parsed else None
        if problems or spec is None:
            raise SpecError(problems)
        try:
            return spec, self._resolving.unkept(view, spec)
        except SpecError as error:
            raise SpecError(parsed[0].placed(error.problems)) from error

    async def read_ahead(self, view: SourceView, environment: str, deployment: str | None) -> None:
        """Read the databases of an environment while what it should be is still made of its modules.

        It is only about time: what cannot be read now, is told to whoever plans.
        """
        parsed = view.environments.get(environment)
        if parsed is None or parsed.spec is None or parsed.problems:
            return
        names = [place.name for place in parsed.spec.deployments if deployment in (None, place.name)]
        await asyncio.gather(*(self._read_ahead(parsed.spec, name) for name in names[:DEPLOYMENTS_AHEAD]))

    async def _read_ahead(self, spec: EnvironmentSpec, deployment: str) -> None:
        with suppress(ReconcilerError, TimeoutError):
            own = for_deployment(spec, deployment)
            dsn = Dsn(self._resolve_secret(own.deployments[0].postgres.dsn))
            names = [part.database for part in own.databases if part.on is None]
            async with asyncio.timeout(self._limits.read_timeout_s):
                await self._reader.read_ahead(dsn, names)

    async def runs_otherwise(
        self, spec: EnvironmentSpec, desired: DesiredState, *, not_before: float | None
    ) -> bool:
        """Whether its services, jobs and routes are not as they should; no database is read for that."""
        if self._programs is None:
            return False
        if Scope(spec.policy.scope) is Scope.PROVISION_ONLY:
            desired = narrowed_to_resources(desired)
        async with asyncio.timeout(self._limits.read_timeout_s):
            tracked, live = await self._programs.read(desired, not_before=not_before)
        return runs_otherwise(spec, desired, tracked, live)

    async def assess(self, spec: EnvironmentSpec, desired: DesiredState, request: PlanRequest) -> Assessment:
        """Read the states of one deployment and plan it; one that cannot be read says so in its plan."""
        if request.scope is Scope.PROVISION_ONLY:
            desired = narrowed_to_resources(desired)
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.read_timeout_s):
                servers, tracked, live = await self._states(desired, request)
        except (ReconcilerError, TimeoutError) as error:
            why = str(error) or f"reading it took longer than {self._limits.read_timeout_s:g} s"
            return unread(desired, why)
        self._emit(
            SnapshotRead(
                environment=desired.environment,
                deployment=desired.deployment,
                duration_s=time.monotonic() - began,
                full=any(database.catalog is not None for database in live.databases.values()),
            )
        )
        gone = [name for name, database in live.databases.items() if not database.exists]
        made = await request.made() if gone and request.made is not None else frozenset()
        allowed = frozenset(spec.policy.allow_hazards) | request.allow_hazards
        if request.removal is not None:
            plan = build_removal(desired, (tracked, live), request.removal, allowed, ran=request.ran)
            return Assessment(desired=desired, plan=plan, tracked=tracked, diff=None, allowed=allowed)
        contexts = {
            database.database: DatabaseContext(
                versions=VERSIONS,
                drift=spec.policy.drift,
                intended=database.database in request.intended,
                made=database.database in made,
                resuming=request.resuming,
                adopt_copies=HazardCode.ADOPTS_DATABASE_COPY.value in allowed,
                can_seal=self._can_seal,
            )
            for database in desired.databases
        }
        if request.task is not None or desired.prune_from is not None:
            desired = without_skips(desired)
        diff = compare(desired, tracked, live, contexts, program_context(spec, tracked.programs, request))
        try:
            diff = await self._with_reverts(spec, (desired, tracked), diff, (request, allowed), servers)
            if _has_objects(desired, tracked) and request.task is None:
                look = self._objects_look(desired, request, servers, prune=spec.policy.prune)
                diff = await with_objects(desired, (tracked, live), diff, look)
        except ReconcilerError as error:
            return unread(desired, str(error))
        diff = without_stopped(settled(diff, desired, tracked.programs), tracked.programs)
        diff = left_out(diff)
        plan = plan_build.build(
            desired,
            diff,
            (tracked, live),
            scope=request.scope,
            consent=Consent(allowed=allowed),
            held=request.held,
            task=request.task,
            gate_due=request.gate_due,
        )
        asked = ObjectsAsked(redeploy=request.forced, keep_failed=request.keep_failed)
        plan = replace(plan, asked=asked) if asked != NOTHING_ASKED else plan
        return Assessment(
            desired=desired, plan=plan, tracked=tracked, diff=diff, allowed=allowed, running=live.programs
        )

    async def _states(
        self, desired: DesiredState, request: PlanRequest
    ) -> tuple[Servers, TrackedState, LiveState]:
        """Read all there is; what runs first, for databases may live on it."""
        running = TrackedPrograms(), LivePrograms()
        if self._programs is not None:
            running = await self._programs.read(desired, not_before=request.not_before)
        servers = await self.servers(desired, running, unfollowed=request.unfollowed)
        tracked, live = await self._reader.read(
            servers, desired, not_before=request.not_before, due_too=request.due_reads
        )
        return servers, replace(tracked, programs=running[0]), replace(live, programs=running[1])

    def _objects_look(
        self, desired: DesiredState, request: PlanRequest, servers: Servers, *, prune: bool
    ) -> ObjectsLook:
        return ObjectsLook(
            prune=prune,
            forced=request.forced,
            operation=request.operation,
            borrow=lambda database: self._reader.borrowing(servers.of(desired, database), database),
            compute=self._in_thread,
        )

    async def _with_reverts(
        self,
        spec: EnvironmentSpec,
        states: tuple[DesiredState, TrackedState],
        diff: Diff,
        asked: tuple[PlanRequest, frozenset[str]],
        servers: Servers,
    ) -> Diff:
        """Add what is taken back: what a person asked for, or what left the spec."""
        request, allowed = asked

        async def read(database: str) -> Mapping[str, Revertible]:
            return await self._reader.revertible(servers.of(states[0], database), database)

        if states[0].prune_from is not None:
            return await tasks.pruning(states, diff, read)
        if request.task is not None and request.task.verb is TaskVerb.REVERT:
            return await tasks.reverting(states, diff, request.task, request.only, read)
        if request.task is not None and request.task.verb is TaskVerb.ADOPT:

            async def look(database: str, kind: RegistryKind, schema: str | None) -> Registry | None:
                return await self._reader.registry(servers.of(states[0], database), database, kind, schema)

            return await tasks.adopting(states[1], diff, request.task, look)
        if request.task is not None:
            return tasks.deploying(diff, request.task)
        return await tasks.with_left_behind(states, diff, prune=spec.policy.prune, allowed=allowed, read=read)


def _has_objects(desired: DesiredState, tracked: TrackedState) -> bool:
    """Whether a deployment has SQL objects, or may have had; one that left itself keeps them."""
    if desired.prune_from is not None:
        return False
    return bool(desired.objects) or any(there.objects for there in tracked.databases.values())
