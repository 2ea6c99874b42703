"""A reconciler that lives in memory: real values, no database; what the edges are tested against."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.daemon.edge import Edge
from reconciler.daemon.edge import server as make_server
from reconciler.daemon.tls import Certificates
from reconciler.diff.model import Action, Drift, PendingChange
from reconciler.errors import Conflict, NotFound, ReconcilerError
from reconciler.plan.model import NOTHING_ASKED, DeploymentPlan, ObjectsAsked, Plan, PlanStage, Scope
from reconciler.plan.steps import DeployChange, StepKind
from reconciler.rollout.states import OperationState, RolloutState
from reconciler.rollout.status import (
    Condition,
    DeploymentStatus,
    EnvironmentStatus,
    EventRecord,
    JobStatus,
    OperationStatus,
    OutputStatus,
    RequestStatus,
    RolloutStatus,
    StepStatus,
)
from reconciler.state.module_requests import LogRequest, VerifyRequest
from reconciler.state.task import ModuleTask
from reconciler.web.access import Token
from reconciler.web.app import create_app
from reconciler.web.limits import RequestLimits
from reconciler.web.webhooks import Webhook

AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def environment(name: str = "production", **changed: Any) -> EnvironmentStatus:
    status = EnvironmentStatus(
        name=name,
        source="platform",
        path=f"environments/{name}.yaml",
        head_commit=COMMIT,
        head_commit_at=AT,
        observed_commit=COMMIT,
        applied_commit=COMMIT,
        applied_at=AT + timedelta(seconds=1),
        suspended=False,
        suspended_reason=None,
        last_pass_at=AT + timedelta(seconds=2),
        error=None,
        deployments=(deployment(),),
        conditions=(
            Condition(type="Ready", status=True, reason="InSync", message="in sync", since=AT),
            Condition(type="Stalled", status=False, reason="No", message="", since=AT),
        ),
    )
    return replace(status, **changed)


def deployment(name: str = "eu", **changed: Any) -> DeploymentStatus:
    status = DeploymentStatus(
        name=name,
        applied_commit=COMMIT,
        pending=0,
        drift=0,
        diverged=0,
        held=None,
        unavailable=None,
        operation=None,
        state=None,
    )
    return replace(status, **changed)


def rollout(number: int = 1, state: str = "completed", **changed: Any) -> RolloutStatus:
    over = state in {"completed", "failed", "cancelled", "superseded"}
    status = RolloutStatus(
        id=f"00000000-0000-4000-8000-{number:012d}",
        environment="production",
        commit=COMMIT,
        scope="full",
        state=RolloutState(state),
        reason="commit",
        requested_by="reconciler",
        created_at=AT,
        finished_at=AT + timedelta(seconds=3) if over else None,
        operations=(operation(state),),
    )
    return replace(status, **changed)


def operation(state: str = "completed", **changed: Any) -> OperationStatus:
    status = OperationStatus(
        id="10000000-0000-4000-8000-000000000001",
        deployment="eu",
        state=OperationState(state),
        attempts=1,
        plan_digest="sha256:" + "1" * 64,
        reason=None,
        error=None,
        next_attempt_at=None,
        started_at=AT,
        finished_at=None,
        worker="w1",
        steps=(
            StepStatus(
                id="s1",
                ordinal=0,
                stage="migrations",
                kind="deploy-change",
                component="shop-schema",
                identity="change orders",
                state="done" if state == "completed" else "pending",
            ),
        ),
    )
    return replace(status, **changed)


def plan(*, pending: bool = True, drift: bool = False, unavailable: str | None = None) -> Plan:
    step = DeployChange(
        id="s1",
        kind=StepKind.DEPLOY_CHANGE,
        component="shop-schema",
        identity="change orders",
        database="shop",
        project="shop",
        change_id="c1",
        change="orders",
        script="modules/shop/deploy/orders.sql",
        script_hash="h1",
        transaction="change",
    )
    change = PendingChange(
        component="shop-schema", identity="change orders", action=Action.ADD, reason="in the plan file"
    )
    moved = Drift(
        component="shop-db", identity="index shop.orders_idx", action=Action.REMOVED, detail="it is gone"
    )
    one = DeploymentPlan(
        name="eu",
        base="sha256:" + "2" * 64,
        digest="sha256:" + "3" * 64,
        stages=(PlanStage(name="migrations", steps=(step,) if pending else ()),),
        pending=(change,) if pending else (),
        drift=(moved,) if drift else (),
        unavailable=unavailable,
    )
    return Plan(
        environment="production",
        commit=COMMIT,
        scope=Scope.FULL,
        digest="sha256:" + "4" * 64,
        deployments=(one,),
    )


@dataclass
class MemoryService:
    """Holds what it is given; `calls` keeps what was asked, `fails` makes every call raise."""

    known: dict[str, EnvironmentStatus] = field(default_factory=lambda: {"production": environment()})
    history: list[RolloutStatus] = field(default_factory=lambda: [rollout()])
    happened: list[EventRecord] = field(default_factory=list)
    next_plan: Plan = field(default_factory=plan)
    next_apply: RolloutStatus | None = field(default_factory=lambda: rollout(2, "pending"))
    is_ready: tuple[bool, str] = (True, "ready")
    fails: Exception | None = None
    kept_outputs: tuple[OutputStatus, ...] = ()
    known_jobs: tuple[JobStatus, ...] = ()
    hold: asyncio.Event | None = None
    deliveries: set[tuple[str, str | None]] = field(default_factory=set)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def happen(self, kind: str, environment: str = "production", message: str = "it happened") -> None:
        self.happened.append(
            EventRecord(
                id=len(self.happened) + 1,
                at=AT,
                kind=kind,
                environment=environment,
                deployment=None,
                rollout=None,
                operation=None,
                message=message,
                data={"n": len(self.happened)},
            )
        )

    async def _called(self, what: str, **given: Any) -> None:
        self.calls.append((what, given))
        if self.hold is not None:
            await self.hold.wait()
        if self.fails is not None:
            raise self.fails

    async def environments(self) -> tuple[EnvironmentStatus, ...]:
        await self._called("environments")
        return tuple(self.known.values())

    async def environment(self, name: str) -> EnvironmentStatus:
        await self._called("environment", name=name)
        if name not in self.known:
            raise NotFound(f"there is no environment '{name}'", hint="did you mean 'production'?")
        return self.known[name]

    async def outputs(self, name: str, *, deployment: str | None = None) -> tuple[OutputStatus, ...]:
        await self._called("outputs", name=name, deployment=deployment)
        return self.kept_outputs

    async def jobs(self, name: str) -> tuple[JobStatus, ...]:
        await self._called("jobs", name=name)
        return self.known_jobs

    async def preview(
        self,
        name: str,
        *,
        ref: str | None = None,
        deployment: str | None = None,
        scope: str | None = None,
        posted: bytes | None = None,
        redeploy: frozenset[str] = frozenset(),
    ) -> Plan:
        asked = {"name": name, "ref": ref, "deployment": deployment, "scope": scope}
        beside = {"posted": posted, "redeploy": redeploy}
        await self._called("preview", **asked, **{name: value for name, value in beside.items() if value})
        await self.environment(name)
        return self.next_plan

    async def apply(
        self,
        name: str,
        *,
        ref: str | None = None,
        deployment: str | None = None,
        scope: str | None = None,
        reason: str,
        requested_by: str,
        allow_hazards: frozenset[str] = frozenset(),
        objects: ObjectsAsked = NOTHING_ASKED,
    ) -> RolloutStatus | None:
        await self._called(
            "apply",
            name=name,
            ref=ref,
            deployment=deployment,
            scope=scope,
            reason=reason,
            requested_by=requested_by,
            allow_hazards=allow_hazards,
            **({"objects": objects} if objects != NOTHING_ASKED else {}),
        )
        await self.environment(name)
        if self.next_apply is not None:
            self.history.insert(0, self.next_apply)
        return self.next_apply

    async def preview_module(
        self,
        name: str,
        task: ModuleTask,
        *,
        deployment: str | None = None,
        allow_hazards: frozenset[str] = frozenset(),
    ) -> Plan:
        await self._called(
            "preview_module", name=name, task=task, deployment=deployment, allow_hazards=allow_hazards
        )
        await self.environment(name)
        return self.next_plan

    async def run_module(
        self,
        name: str,
        task: ModuleTask,
        *,
        deployment: str | None = None,
        reason: str,
        requested_by: str,
        allow_hazards: frozenset[str] = frozenset(),
    ) -> RolloutStatus | None:
        await self._called(
            "run_module",
            name=name,
            task=task,
            deployment=deployment,
            reason=reason,
            requested_by=requested_by,
            allow_hazards=allow_hazards,
        )
        await self.environment(name)
        if self.next_apply is not None:
            self.history.insert(0, self.next_apply)
        return self.next_apply

    async def rollouts(self, name: str, *, limit: int = 20) -> tuple[RolloutStatus, ...]:
        await self._called("rollouts", name=name, limit=limit)
        await self.environment(name)
        return tuple(self.history[:limit])

    async def rollout(self, rollout: str, /) -> RolloutStatus:
        await self._called("rollout", rollout=rollout)
        for status in self.history:
            if status.id == rollout:
                return status
        raise NotFound(f"there is no rollout '{rollout}'")

    async def request(
        self,
        rollout: str,
        verb: str,
        *,
        deployment: str | None,
        requested_by: str,
        reason: str = "",
        digest: str | None = None,
    ) -> RequestStatus:
        asked = {"deployment": deployment, "requested_by": requested_by, "reason": reason, "digest": digest}
        await self._called("request", rollout=rollout, verb=verb, **asked)
        about = await self.rollout(rollout)
        if verb == "cancel" and about.finished_at is not None:
            raise Conflict("the rollout is over")
        return RequestStatus(
            id="r1",
            rollout=rollout,
            deployment=deployment,
            verb=verb,
            state="completed",
            reason=None,
            requested_by=requested_by,
            created_at=AT,
            resolved_at=AT,
            why=reason or None,
            digest=digest,
        )

    async def forget(self, name: str, deployment: str, *, reason: str, requested_by: str) -> None:
        asked = {"deployment": deployment, "reason": reason, "requested_by": requested_by}
        await self._called("forget", name=name, **asked)
        status = await self.environment(name)
        if deployment not in {row.name for row in status.left}:
            raise NotFound(f"no deployment '{deployment}' left environment '{name}'", hint="none did")
        self.known[name] = replace(status, left=tuple(row for row in status.left if row.name != deployment))

    async def suspend(self, name: str, *, reason: str, requested_by: str) -> None:
        await self._called("suspend", name=name, reason=reason, requested_by=requested_by)
        status = await self.environment(name)
        self.known[name] = replace(status, suspended=True, suspended_reason=reason)

    async def resume(self, name: str, *, requested_by: str) -> None:
        await self._called("resume", name=name, requested_by=requested_by)
        status = await self.environment(name)
        self.known[name] = replace(status, suspended=False, suspended_reason=None)

    async def reconcile(self, name: str, *, requested_by: str) -> None:
        await self._called("reconcile", name=name, requested_by=requested_by)
        await self.environment(name)

    async def delivered(self, source: str, *, delivery: str | None) -> bool:
        await self._called("delivered", source=source, delivery=delivery)
        fresh = delivery is None or (source, delivery) not in self.deliveries
        self.deliveries |= {(source, delivery)}
        return fresh

    async def events(
        self,
        *,
        environment: str | None = None,
        rollout: str | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> tuple[EventRecord, ...]:
        await self._called("events", environment=environment, after=after, limit=limit)
        rows = [
            row
            for row in self.happened
            if row.id > (after or 0) and (environment is None or row.environment == environment)
        ]
        return tuple(rows[:limit] if after is not None else rows[-limit:])

    async def module_status(
        self, name: str, *, deployment: str | None = None, module: str | None = None
    ) -> dict[str, Any]:
        await self._called("module_status", name=name, deployment=deployment, module=module)
        row = {
            "component": "shop-schema",
            "project": "shop",
            "database": "shop",
            "target": None,
            "state": "pending",
            "deployed": 3,
            "last": "orders",
            "tag": "v1.0.0",
            "pending": ["change prices"],
            "blocked": [],
            "diverged": [],
        }
        place = {"name": "eu", "unavailable": None, "modules": [row]}
        return {"environment": name, "commit": COMMIT, "deployments": [place]}

    async def module_log(
        self, name: str, request: LogRequest, *, deployment: str | None = None
    ) -> dict[str, Any]:
        await self._called("module_log", name=name, deployment=deployment, **asdict(request))
        rows = [{"deployment": "eu", "database": "shop", "events": [{"event": "deploy", "change": "orders"}]}]
        return {"environment": name, "commit": COMMIT, "databases": rows}

    async def module_verify(
        self, name: str, request: VerifyRequest, *, deployment: str | None = None
    ) -> dict[str, Any]:
        await self._called("module_verify", name=name, deployment=deployment, **asdict(request))
        failed = {
            "change": "orders",
            "message": 'relation "orders" does not exist',
            "sqlstate": "42P01",
            "file": "modules/shop/verify/orders.sql",
            "line": 2,
        }
        row = {
            "component": "shop-schema",
            "project": "shop",
            "database": "shop",
            "deployed": 3,
            "passed": 1,
            "failed": [failed],
            "unverified": [],
            "without_script": ["prices"],
        }
        place = {"name": "eu", "unavailable": None, "modules": [row]}
        return {"environment": name, "commit": COMMIT, "ok": False, "deployments": [place]}

    async def ready(self) -> tuple[bool, str]:
        if isinstance(self.fails, ReconcilerError):
            return False, str(self.fails)
        return self.is_ready


async def no_metrics() -> bytes:
    return b"# nothing\n"


@contextmanager
def serving(
    service: MemoryService,
    *,
    tokens: Sequence[Token] = (),
    webhooks: Sequence[Webhook] = (),
    limits: RequestLimits | None = None,
    certificates: Certificates | None = None,
) -> Iterator[str]:
    """The HTTP API over a real socket, in a thread; gives its URL."""
    bounds = limits if limits is not None else RequestLimits()
    app = create_app(service, metrics_text=no_metrics, tokens=tokens, webhooks=webhooks, limits=bounds)
    opened = Edge(
        host="127.0.0.1",
        port=0,
        tokens=tuple(tokens),
        webhooks=tuple(webhooks),
        limits=bounds,
        certificates=certificates,
    )
    server = make_server(app, opened)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.005)
    assert server.started
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"{'https' if certificates else 'http'}://127.0.0.1:{port}"
    finally:
        app.state.stopping.set()
        server.servers[0].get_loop().call_soon_threadsafe(server.end)
        thread.join(timeout=20)
        assert not thread.is_alive()
