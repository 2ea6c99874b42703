"""Compare the roles that a database declares with those of its server; none is ever altered."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from reconciler.diff.model import Action, DatabaseDiff, Drift
from reconciler.state.desired import DesiredRole
from reconciler.state.live import LiveRole
from reconciler.state.roles import PRIVILEGED


def with_roles(
    part: DatabaseDiff, live: Mapping[str, LiveRole], *, drift: bool, known: bool = True
) -> DatabaseDiff:
    """Add to the diff of a database which roles are missing, and which are not what they are declared to be.

    `live` has every declared role that the server has, and of those that they are to be members of; not
    `known`: there is no such server yet.
    """
    declared = {role.name for role in part.desired.roles}
    missing = tuple(_with_powers(role, live) for role in part.desired.roles if role.name not in live)
    blocked = tuple(
        f"role '{role.name}' is to be a member of '{group}', which the server does not have; declare it "
        "under `roles:` too, or make it by hand"
        for role in missing
        for group in role.member_of
        if known and group not in live and group not in declared
    )
    told = [row for role in part.desired.roles if role.name in live for row in _differs(part, role, live)]
    return replace(
        part,
        roles=missing,
        drift=(*part.drift, *told) if drift else part.drift,
        blocked=(*part.blocked, *blocked),
    )


def _with_powers(role: DesiredRole, live: Mapping[str, LiveRole]) -> DesiredRole:
    """Count groups that may do more than a spec should give among those from outside, declared or not."""
    powerful = (
        group
        for group in role.member_of
        if group in live
        and (live[group].superuser or any(live[group].attributes.get(name) for name in PRIVILEGED))
    )
    return replace(role, outside=tuple(dict.fromkeys((*role.outside, *powerful))))


def _differs(part: DatabaseDiff, role: DesiredRole, live: Mapping[str, LiveRole]) -> Iterable[Drift]:
    there = live[role.name]
    words = [
        f"{name} is {'on' if there.attributes.get(name) else 'off'}, declared {'on' if wanted else 'off'}"
        for name, wanted in role.attributes
        if there.attributes.get(name, False) is not wanted
    ]
    # What a superuser may do is not told by attributes.
    if there.superuser:
        words = ["it is a superuser, which no spec declares"] if role.attributes else []
    words += [f"not a member of '{group}'" for group in role.member_of if group not in there.member_of]
    if words:
        yield Drift(
            component=part.desired.component,
            identity=f"role {role.name}",
            action=Action.CHANGED,
            detail=f"{'; '.join(words)} (a role that is there is never altered: do it by hand)",
        )
