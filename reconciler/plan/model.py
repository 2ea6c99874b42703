"""A plan as a value: stages of steps for one deployment, and all deployments of one commit."""

from enum import StrEnum

from reconciler.diff.model import Divergence, DivergencePolicy, Drift, PendingChange
from reconciler.frozen import frozen
from reconciler.plan.hazards import Hazard
from reconciler.plan.steps import AnyStep, CheckGate
from reconciler.state.removal import Removal
from reconciler.state.task import ModuleTask


class Scope(StrEnum):
    """How much of an environment a plan covers."""

    FULL = "full"
    PROVISION_ONLY = "provision-only"


@frozen
class PlanStage:
    """One stage in run order; `skipped` says why nothing runs in it, where that is so."""

    name: str
    steps: tuple[AnyStep, ...]
    skipped: str | None = None


@frozen
class ObjectsAsked:
    """What a person asked of SQL objects: schemas to be built anew, and to leave what fails as it is."""

    redeploy: frozenset[str] = frozenset()
    keep_failed: bool = False


NOTHING_ASKED = ObjectsAsked()


@frozen
class DeploymentPlan:
    """What one operation will do.

    `base` is the digest of the tracked and live state the plan was made from, as far as its steps read or
    touch it; `digest` covers the commit, the scope, the base and every step. `blocked` names what cannot
    go on and why, `refused` the hazards nobody consented to, `held` why no rollout follows by itself;
    `unavailable` says why the deployment could not be read (then nothing else is known); `task` is what a
    person asked of modules in place of everything; `wave` says when its turn is, and nothing of what is done.
    `prune_from`: the deployment left the spec, that commit is the last one with it, and what it deployed
    there is taken back. `warnings` hinder nothing; `asked` is what a person wanted of SQL objects beside.
    """

    name: str
    base: str
    digest: str
    stages: tuple[PlanStage, ...]
    pending: tuple[PendingChange, ...] = ()
    drift: tuple[Drift, ...] = ()
    diverged: tuple[Divergence, ...] = ()
    blocked: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    held: str | None = None
    unavailable: str | None = None
    task: ModuleTask | None = None
    wave: int = 0
    prune_from: str | None = None
    warnings: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    """Components that the spec leaves out of it."""
    asked: ObjectsAsked = NOTHING_ASKED
    scope: Scope = Scope.FULL
    left_out: tuple[str, ...] = ()
    """Components that a provision-only plan leaves to another."""
    kept_outputs: tuple[str, ...] = ()
    """Outputs that steps need and that are kept from before, as `component.name`."""
    wanted_outputs: tuple[str, ...] = ()
    """Outputs that steps make and that no step needs: for who is as it should be already, or to be kept."""
    removal: Removal | None = None
    """The environment left its source, and a person removes what it deployed here."""

    @property
    def told_diverged(self) -> tuple[Divergence, ...]:
        """What counts as diverged; what policy allows is shown, and does not count."""
        return tuple(row for row in self.diverged if row.policy is not DivergencePolicy.ALLOW)

    @property
    def steps(self) -> tuple[AnyStep, ...]:
        """All steps in run order."""
        return tuple(step for stage in self.stages for step in stage.steps)

    @property
    def gated(self) -> bool:
        """Whether it ends with the question of a gate."""
        return any(isinstance(step, CheckGate) for step in self.steps)

    @property
    def hazards(self) -> tuple[Hazard, ...]:
        """All hazards in run order."""
        return tuple(hazard for step in self.steps for hazard in step.hazards)


@frozen
class LeftDeployment:
    """A deployment that the environment had and the commit does not: what becomes of it, and why.

    `leaves`: it would leave with this commit; else it left before. `prune`: what it deployed is taken back,
    by the plan of that name. `declared_at` is the last commit known to have it.
    """

    name: str
    leaves: bool
    prune: bool
    detail: str
    declared_at: str | None = None
    server: str | None = None
    databases: tuple[str, ...] = ()


@frozen
class Plan:
    """What one commit will do to one environment, over the deployments asked for.

    `left` are deployments that the commit does not have; those that are taken back are among `deployments`.
    """

    environment: str
    commit: str
    scope: Scope
    digest: str
    deployments: tuple[DeploymentPlan, ...]
    left: tuple[LeftDeployment, ...] = ()

    @property
    def in_sync(self) -> bool:
        """Nothing is pending anywhere; drift does not change it, an unreadable deployment does."""
        return all(
            not deployment.pending and not deployment.blocked and deployment.unavailable is None
            for deployment in self.deployments
        )
