"""Says which deployments of an environment a look may leave out: pure functions, which read nothing.

A commit that changes a few of a thousand deployments, and the end of a rollout, cost what they touch.
"""

from collections.abc import Collection, Mapping
from dataclasses import field
from datetime import datetime
from typing import Any

from reconciler.control.environments import DeploymentObservation
from reconciler.control.facts import Facts, NewestOperation
from reconciler.frozen import frozen
from reconciler.reconcile.findings import UnderWay
from reconciler.rollout.states import OperationState

APPLIED = frozenset({OperationState.COMPLETED, OperationState.REVERT_WINDOW})
"""States of an operation whose deployment carries its commit."""


@frozen
class Ground:
    """What a look goes by at a commit, beside the facts.

    `alike`: by commit, the deployments that it makes from the same as this one. `newest`: the operation of
    each deployment that was recorded last. `read_at`: from when on what was read of a deployment held, by the
    clock of the control database. `asked` are to be looked at in any case.
    """

    commit: str
    under_way: UnderWay
    alike: Mapping[str, Collection[str]]
    newest: Mapping[str, NewestOperation]
    read_at: Mapping[str, datetime]
    asked: Collection[str] = field(default_factory=frozenset)

    def is_of(self, commit: str | None, deployment: str) -> bool:
        """Whether a commit makes a deployment from the same as the one looked at."""
        return commit == self.commit or (commit is not None and deployment in self.alike.get(commit, ()))


def left_out(facts: Facts | None, ground: Ground) -> dict[str, DeploymentObservation]:
    """What is known of the deployments that need no look at a commit, by name.

    That is what is in sync with a commit that makes it from the same, and what an operation brings to this
    very commit: its worker reads it.
    """
    if facts is None or facts.row["orphaned"]:
        return {}
    under_way = ground.under_way
    coming = under_way.deployments.get(ground.commit, frozenset()) - under_way.waiting.keys()
    unsure = {*ground.asked, *under_way.everywhere, *facts.row["held"]}
    unsure |= {deployment for deployment, _database in facts.row["intents"]}
    found: dict[str, DeploymentObservation] = {}
    for name, row in facts.deployments.items():
        if name in coming and name not in ground.asked:
            found[name] = DeploymentObservation(name=name, as_known=True)
        elif name not in unsure and _is_settled(row) and _still_holds(name, row, ground):
            found[name] = DeploymentObservation(name=name, in_sync=True)
    return found


def _is_settled(row: Mapping[str, Any]) -> bool:
    """Whether nothing was found, or left to be done or to another rollout, on a deployment."""
    if any(row[count] for count in ("pending", "drift", "diverged")):
        return False
    return all(row[why] is None for why in ("held", "unavailable", "blocked", "provisioned_commit"))


def _still_holds(name: str, row: Mapping[str, Any], ground: Ground) -> bool:
    """Whether what the row says is of this commit, and no operation came between.

    One that completed at a commit like this one says the same; of any other that ended since the deployment
    was read, nobody knows what it left.
    """
    if not ground.is_of(row["applied_commit"], name):
        return False
    newest, read_at = ground.newest.get(name), ground.read_at.get(name)
    if newest is None:
        return read_at is not None
    if newest.state in APPLIED and ground.is_of(newest.commit, name):
        return True
    return read_at is not None and newest.finished_at is not None and newest.finished_at < read_at
