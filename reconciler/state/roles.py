"""The roles that databases of one deployment declare: what each has to be, those that others need first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from reconciler.errors import Problem, SpecError
from reconciler.spec.components import DatabaseSpec, RoleSpec
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.desired import DesiredRole
from reconciler.state.order import Cycle, topological

ATTRIBUTES = ("login", "bypassrls", "createdb", "createrole", "replication")
PRIVILEGED = frozenset({"bypassrls", "createdb", "createrole", "replication"})
"""Attributes that reach beyond a database; who may write a spec may not have them."""


def desired_roles(spec: EnvironmentSpec) -> dict[str, tuple[DesiredRole, ...]]:
    """Return the roles of each Database component, as one deployment sees the spec; members come last.

    Roles are the server's: what two databases of one say has to agree, and a name alone says nothing of it.
    Raises SpecError with everything wrong, at places in the spec.
    """
    problems: list[Problem] = []
    found: dict[str, tuple[DesiredRole, ...]] = {}
    servers: dict[str | None, list[tuple[int, DatabaseSpec]]] = {}
    for position, part in enumerate(spec.components):
        if isinstance(part, DatabaseSpec):
            server = part.on.service if part.on is not None else None
            servers.setdefault(server, []).append((position, part))
    for parts in servers.values():
        found |= _of_server(parts, problems)
    if problems:
        raise SpecError(problems)
    return found


def _of_server(
    parts: Sequence[tuple[int, DatabaseSpec]], problems: list[Problem]
) -> dict[str, tuple[DesiredRole, ...]]:
    said: dict[str, tuple[DesiredRole, str]] = {}
    named: dict[str, list[str]] = {}
    places: dict[str, str] = {}
    for position, part in parts:
        place = f"spec.components[{position}].roles"
        places[part.name] = place
        named[part.name] = [role.name for role in part.roles]
        for role in part.roles:
            problems += _say(role, (part.name, place), said)
        problems += _twice(named[part.name], place)
    roles = {name: role for name, (role, _component) in said.items()}
    found = {}
    for component, names in named.items():
        try:
            found[component] = _ordered(names, roles)
        except Cycle as cycle:
            message = f"roles are members of each other: {' -> '.join(cycle.path)}"
            problems.append(Problem(path=places[component], message=message, hint="take one out of memberOf"))
    return found


def _say(
    role: RoleSpec, where: tuple[str, str], said: dict[str, tuple[DesiredRole, str]]
) -> Iterable[Problem]:
    component, place = where
    desired = _desired(role)
    other, other_component = said.get(role.name, (DesiredRole(name=role.name), component))
    if other == DesiredRole(name=role.name):
        said[role.name] = (desired, component)
    elif desired not in (other, DesiredRole(name=role.name)):
        message = f"role '{role.name}' is declared in another way by component '{other_component}'"
        hint = "a role is the server's: say what it is once, and elsewhere give its name alone"
        yield Problem(path=place, message=message, hint=hint)


def _desired(role: RoleSpec) -> DesiredRole:
    given = {name: getattr(role, name) for name in ATTRIBUTES}
    return DesiredRole(
        name=role.name,
        attributes=tuple((name, value) for name, value in given.items() if value is not None),
        member_of=tuple(sorted(set(role.member_of))),
        password=role.password,
    )


def _twice(names: Sequence[str], place: str) -> Iterable[Problem]:
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield Problem(path=place, message=f"role '{name}' is declared twice", hint="leave one out")


def _ordered(names: Sequence[str], roles: Mapping[str, DesiredRole]) -> tuple[DesiredRole, ...]:
    """Roles with those that they are members of, which come first; hazards are told of what is left."""
    wanted, pending = dict.fromkeys(names), list(names)
    while pending:
        for group in roles[pending.pop()].member_of:
            if group in roles and group not in wanted:
                wanted[group] = None
                pending.append(group)
    order = topological(list(wanted), {name: roles[name].member_of for name in wanted})
    return tuple(
        replace(roles[name], outside=tuple(group for group in roles[name].member_of if group not in roles))
        for name in order
    )
