"""Declared roles against those of a server: missing ones are made, others told of, none altered."""

from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.diff.model import Action
from reconciler.plan import build, encode
from reconciler.plan.build import Consent
from reconciler.plan.model import DeploymentPlan
from reconciler.plan.steps import CreateRole, StepKind
from reconciler.spec.values import SecretReference
from reconciler.state.desired import DesiredRole
from reconciler.state.live import LiveDatabase, LiveRole, LiveState
from reconciler.state.tracked import TrackedDatabase, TrackedState
from tests.plugins.states import change, database, desired, live_database, module, tracked_database

READER = DesiredRole(name="reader")
ADMIN = DesiredRole(
    name="admin",
    attributes=(("login", True), ("bypassrls", False)),
    member_of=("reader",),
    password=SecretReference(env="ADMIN"),
)


def plan(
    *roles: DesiredRole,
    there: dict[str, LiveRole] | None = None,
    drift: str = "warn",
    allowed: frozenset[str] = frozenset(),
    tracked: TrackedDatabase | None = None,
    live: LiveDatabase | None = None,
) -> DeploymentPlan:
    context = DatabaseContext(versions=Versions(tracking=1, fingerprint_algorithm=1), drift=drift)  # type: ignore[arg-type]
    wanted = desired(module(change("a")), databases=[database(roles=roles, extensions=("citext",))])
    states = (
        TrackedState(databases={"shop": tracked or tracked_database()}),
        LiveState(server_major=18, databases={"shop": live or live_database()}, roles=there or {}),
    )
    diff = compare(wanted, *states, {"shop": context})
    return build.build(wanted, diff, states, consent=Consent(allowed=allowed))


def test_missing_roles_are_made_before_extensions_and_modules() -> None:
    """A step each, after the database is there; the plan comes back from JSON as it went."""
    found = plan(READER, ADMIN, tracked=TrackedDatabase(), live=LiveDatabase())
    assert [step.kind.value for step in found.steps] == [
        "create-database",
        "create-role",
        "create-role",
        "create-extension",
        "deploy-change",
    ]
    assert found.steps[2] == CreateRole(
        id="shop-db/create-role/admin",
        kind=StepKind.CREATE_ROLE,
        component="shop-db",
        identity="role admin",
        database="shop",
        role="admin",
        attributes=("login",),
        member_of=("reader",),
        with_password=True,
    )
    assert encode.deployment_from_json(encode.deployment_to_json(found)) == found
    assert "ADMIN" not in str(encode.deployment_to_json(found))
    rows = [(row.identity, row.action) for row in found.pending]
    assert ("role admin", Action.ADD) in rows


def test_roles_that_are_there_are_adopted() -> None:
    """Nothing is made of what the server has, and what nobody spoke of is no difference."""
    there = {
        "reader": LiveRole(attributes={"login": True, "createdb": True}),
        "admin": LiveRole(attributes={"login": True}, member_of=frozenset({"reader", "more"})),
    }
    found = plan(READER, ADMIN, there=there)
    assert not [step for step in found.steps if isinstance(step, CreateRole)]
    assert found.drift == ()


def test_a_role_that_differs_is_drift_and_left_alone() -> None:
    """Attributes that were spoken of and memberships are compared; the policy says whether it is told."""
    there = {"reader": LiveRole(), "admin": LiveRole(attributes={"bypassrls": True})}
    (row,) = plan(READER, ADMIN, there=there).drift
    assert (row.component, row.identity, row.action) == ("shop-db", "role admin", Action.CHANGED)
    assert row.detail == (
        "login is off, declared on; bypassrls is on, declared off; not a member of 'reader' "
        "(a role that is there is never altered: do it by hand)"
    )
    assert plan(READER, ADMIN, there=there, drift="ignore").drift == ()
    assert not [step for step in plan(READER, ADMIN, there=there, drift="heal").steps if "role" in step.id]


def test_a_superuser_is_told_of_where_attributes_are_declared() -> None:
    """What is declared of it does not hold for it."""
    there = {"reader": LiveRole(superuser=True), "admin": LiveRole(superuser=True)}
    (row,) = plan(READER, ADMIN, there=there).drift
    assert "superuser" in row.detail


def test_privileges_beyond_the_database_need_consent() -> None:
    """Attributes, groups that no component declares, and groups that may do more, declared or not."""
    there = {
        "owner": LiveRole(),
        "boss": LiveRole(superuser=True),
        "maker": LiveRole(attributes={"createdb": True}),
    }
    cases = {
        DesiredRole(name="x", attributes=(("bypassrls", True), ("login", True))): "bypassrls",
        DesiredRole(name="x", member_of=("owner",), outside=("owner",)): "membership of 'owner'",
        DesiredRole(name="x", member_of=("boss",)): "membership of 'boss'",
        DesiredRole(name="x", member_of=("maker",)): "membership of 'maker'",
    }
    for role, gets in cases.items():
        (refused,) = plan(role, there=there).refused
        assert "PRIVILEGED_ROLE" in refused
        assert refused.endswith(f": {gets}")
        assert not plan(role, there=there, allowed=frozenset({"PRIVILEGED_ROLE"})).refused
    assert not plan(DesiredRole(name="x", attributes=(("bypassrls", False),))).refused


def test_a_group_that_nobody_has_blocks() -> None:
    """A role cannot be made a member of what is neither declared nor there, and its modules wait."""
    found = plan(DesiredRole(name="x", member_of=("nobody",), outside=("nobody",)))
    assert found.steps == ()
    assert "'nobody', which the server does not have" in found.blocked[0]


def test_the_digest_knows_roles() -> None:
    """A plan that makes a role is another one than a plan that does not."""
    without = plan(READER, there={"reader": LiveRole()})
    assert plan(READER).base != without.base
    assert plan().base == without.base
