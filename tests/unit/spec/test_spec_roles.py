"""Roles of a Database in a spec: how they may be written, and what is refused before anything is read."""

import pytest

from reconciler.errors import SpecError
from reconciler.spec.parse import ParsedEnvironment, parse_file
from reconciler.spec.values import SecretReference
from reconciler.state.desired import DesiredRole
from reconciler.state.resolve import resolve

HEAD = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  deployments:
    - {name: eu, postgres: {dsn: {env: EU}}}
  components:
"""


def parsed(*roles: str) -> ParsedEnvironment:
    """An environment with a Database for each list of roles."""
    rows = (
        f"    - {{name: db{number}, kind: Database, database: db{number}, roles: {each}}}\n"
        for number, each in enumerate(roles)
    )
    (found,) = parse_file("environments/shop.yaml", (HEAD + "".join(rows)).encode())
    return found


def roles(*lists: str) -> list[list[DesiredRole]]:
    environment = parsed(*lists)
    assert environment.spec is not None, environment.problems
    return [list(part.roles) for part in resolve(environment.spec, "eu", "c" * 40, {}).databases]


def told(environment: ParsedEnvironment) -> list[str]:
    if environment.spec is None:
        return [str(problem) for problem in environment.problems]
    with pytest.raises(SpecError) as caught:
        resolve(environment.spec, "eu", "c" * 40, {})
    return [str(problem) for problem in environment.placed(caught.value.problems)]


def test_a_name_and_a_mapping_say_what_a_role_is() -> None:
    """A name alone says nothing of a role; a mapping says what it writes, and groups come before members."""
    (found,) = roles(
        "[{name: '${deployment}_admin', login: true, createdb: false, memberOf: [authenticated, pg_monitor],"
        " password: {env: ADMIN}}, authenticated]"
    )
    assert found == [
        DesiredRole(name="authenticated"),
        DesiredRole(
            name="eu_admin",
            attributes=(("login", True), ("createdb", False)),
            member_of=("authenticated", "pg_monitor"),
            password=SecretReference(env="ADMIN"),
            outside=("pg_monitor",),
        ),
    ]


def test_databases_share_what_is_said_of_a_role() -> None:
    """A role that is only named here is what another component says; the groups it needs come with it."""
    first, second = roles("[reader]", "[{name: reader, login: true, memberOf: [all]}, all]")
    assert [role.name for role in first] == ["all", "reader"]
    assert first == second


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (("[{name: a, login: true}]", "[{name: a, login: false}]"), "role 'a' is declared in another way"),
        (("[a, a]",), "role 'a' is declared twice"),
        (("[{name: a, memberOf: [b]}, {name: b, memberOf: [a]}]",), "a -> b -> a"),
        (("[pg_mine]",), "the server or this program keeps"),
        (("[reconciler_tracking]",), "the server or this program keeps"),
        (("[{name: a, memberOf: [reconciler_tracking]}]",), "no role that a spec can make another a member"),
        (("[{name: a, superuser: true}]",), "unknown key 'superuser'"),
        (("[{name: a, password: {env: X}}]",), "may not log in"),
        (("[{name: a, login: true, password: {env: RECONCILER_X}}]",), "the daemon's own"),
        (("[7]",), "must be"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(lists: tuple[str, ...], message: str) -> None:
    """Roles that contradict each other, that are not ours, or that no spec may make."""
    found = told(parsed(*lists))
    assert len(found) == 1
    assert message in found[0]
    assert found[0].startswith("environments/shop.yaml:")


def test_a_password_in_the_clear_is_never_repeated() -> None:
    """What stands where a reference should is refused, and no message shows it."""
    for password in ("hunter22hunter", "{env: hunter22hunter, more: 1}", "'hunter22${hunter'"):
        found = parsed(f"[{{name: a, login: true, password: {password}}}]")
        assert found.spec is None
        assert "hunter" not in " ".join(told(found))
