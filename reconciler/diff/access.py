"""Compare the roles that others get into a database with, and the outputs of them, with what is there."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from reconciler.catalog.identifier import quote_identifier
from reconciler.diff.databases import DatabaseContext
from reconciler.diff.model import Action, DatabaseDiff, DatabaseNeed, Drift
from reconciler.state.access import Whose
from reconciler.state.live import LiveRole
from reconciler.state.programs import DesiredAccess
from reconciler.state.roles import PRIVILEGED
from reconciler.state.tracked import TrackedOutput

NO_KEY = (
    "the passwords of its roles are kept encrypted, and the settings name no key for that: make one with "
    "`reconciler secret keygen` and name it under `secrets.age_keys`"
)
_MADE_ANEW = frozenset({DatabaseNeed.CREATE, DatabaseNeed.RECREATE, DatabaseNeed.ADOPT_COPY})


def with_access(
    part: DatabaseDiff,
    outputs: Mapping[str, TrackedOutput],
    live: Mapping[str, LiveRole],
    whose: Whose,
    context: DatabaseContext,
) -> DatabaseDiff:
    """Add to the diff of a database why its roles are to be made, what stands against it, and what drifted.

    `live` has those of its roles that the server has.
    """
    access = part.desired.access
    if access is None:
        return part
    drift = tuple(_differs(part, access, live)) if context.drift != "ignore" else ()
    why = _why(part, access, outputs, live)
    if why is None and drift and context.drift == "heal":
        why = "its roles were altered by hand, and drift is healed"
    if why is None:
        return replace(part, drift=(*part.drift, *drift))
    blocked = () if context.can_seal else (NO_KEY,)
    blocked = (*blocked, *_in_the_way(part, access, live, whose))
    return replace(part, access=why, drift=(*part.drift, *drift), blocked=(*part.blocked, *blocked))


def _why(
    part: DatabaseDiff,
    access: DesiredAccess,
    outputs: Mapping[str, TrackedOutput],
    live: Mapping[str, LiveRole],
) -> str | None:
    """What is missing of it, in a few words; None where all of it is there."""
    if part.need in _MADE_ANEW:
        return "its database is made anew"
    kept = [outputs.get(f"{part.desired.component}.{name}") for name in access.outputs]
    missing = [role for role in (access.owner, access.reader) if role not in live]
    if missing and any(kept):
        return f"role '{missing[0]}' is not on the server any more"
    if missing:
        return f"role '{missing[0]}' is not on the server"
    if not all(kept):
        first = next(name for name, one in zip(access.outputs, kept, strict=True) if one is None)
        return f"output '{first}' is not kept yet"
    if any(one is not None and one.inputs_hash != access.inputs_hash for one in kept):
        return "what its outputs are made from changed"
    return None


def _in_the_way(
    part: DatabaseDiff, access: DesiredAccess, live: Mapping[str, LiveRole], whose: Whose
) -> Iterable[str]:
    """Roles of these names that are somebody else's: their passwords and grants are not ours to change."""
    declared = {role.name for role in part.desired.roles}
    for field, name in (("owner", access.owner), ("reader", access.reader)):
        if name in declared:
            yield f"role '{name}' is its `{field}` and stands under `roles:` too: take it out there"
        elif name in live and live[name].comment != whose.mark:
            mark = whose.mark.replace("'", "''")
            yield (
                f"role '{name}' is on the server and was not made for this database: name another one with "
                f"`{field}:`, or hand it over, which changes its password: COMMENT ON ROLE "
                f"{quote_identifier(name)} IS '{mark}'"
            )


def _differs(part: DatabaseDiff, access: DesiredAccess, live: Mapping[str, LiveRole]) -> Iterable[Drift]:
    for name in (access.owner, access.reader):
        there = live.get(name)
        if there is None:
            continue
        words = ["it is a superuser"] if there.superuser else []
        words += [f"{one} is on" for one in sorted(PRIVILEGED) if there.attributes.get(one)]
        if not there.attributes.get("login", True):
            words.append("login is off")
        if words:
            yield Drift(
                component=part.desired.component,
                identity=f"role {name}",
                action=Action.CHANGED,
                detail=f"{', '.join(words)}; it was made with a login and nothing else",
            )
