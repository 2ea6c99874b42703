"""Keeps in mind when deployments were read, and finds those that a look may leave out; it decides nothing."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from reconciler.control.environments import DeploymentObservation
from reconciler.control.facts import Facts, NewestOperation, read_newest
from reconciler.planner.planner import Planner
from reconciler.planner.view import SourceView
from reconciler.reconcile.assess import Assessor
from reconciler.reconcile.findings import UnderWay
from reconciler.reconcile.left_out import APPLIED, Ground, left_out
from reconciler.spec.environment import EnvironmentSpec


class Sparing:
    """Finds what need not be read again.

    What it keeps is of this process: after a restart, every deployment is read once.
    """

    def __init__(self, *, planner: Planner, assessor: Assessor) -> None:
        self._planner = planner
        self._assessor = assessor
        self._read_at: dict[str, dict[str, datetime]] = {}

    def forget(self, environment: str) -> None:
        """Others pass over an environment now."""
        self._read_at.pop(environment, None)

    def note(self, environment: str, deployments: Iterable[str], left: Collection[str], at: datetime) -> None:
        """Deployments were found as they are since `at`; of those `left` alone, what was known still is."""
        before = self._read_at.get(environment, {})
        kept = {name: before[name] for name in left if name in before}
        self._read_at[environment] = {**kept, **dict.fromkeys(deployments, at)}

    async def find(
        self,
        facts: Facts | None,
        spec: EnvironmentSpec,
        view: SourceView,
        under_way: UnderWay,
        asked: Collection[str],
    ) -> dict[str, DeploymentObservation]:
        """What is known of the deployments that need no look; `asked` are looked at in any case."""
        if facts is None:
            return {}
        names = {place.name for place in spec.deployments}
        commits = {row["applied_commit"] for row in facts.deployments.values()} - {None}
        alike = self._alike(spec.name, view, commits)
        newest: Mapping[str, NewestOperation] = {}
        if view.commit in commits or any(alike.values()):
            async with self._assessor.connection() as connection:
                newest = await read_newest(connection, spec.name)
            done = {each.commit for each in newest.values() if each.state in APPLIED}
            alike |= self._alike(spec.name, view, done - alike.keys())
        ground = Ground(
            commit=view.commit,
            under_way=under_way,
            alike=alike,
            newest=newest,
            read_at=self._read_at.get(spec.name, {}),
            asked=asked,
        )
        return {name: known for name, known in left_out(facts, ground).items() if name in names}

    def _alike(
        self, environment: str, view: SourceView, commits: Collection[str]
    ) -> dict[str, Collection[str]]:
        """The deployments that commits make from the same; a commit that is not in memory is like none."""
        found: dict[str, Collection[str]] = {}
        for commit in commits:
            before = self._planner.known_view(view.source, commit) if commit != view.commit else None
            if before is not None:
                found[commit] = view.alike(before, environment)
        return found
