"""When the roles that others get into a database with are made, and what stands against it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.diff.model import DatabaseDiff, Diff
from reconciler.diff.requirements import awaited
from reconciler.spec.values import OutputReference
from reconciler.state.access import Whose
from reconciler.state.desired import DesiredDatabase
from reconciler.state.live import LiveRole, LiveState
from reconciler.state.programs import DesiredAccess, DesiredServer
from reconciler.state.tracked import TrackedDatabase, TrackedOutput, TrackedPrograms, TrackedState
from tests.plugins.states import (
    base_line,
    change,
    database,
    desired,
    live_database,
    module,
    tracked_database,
)

ACCESS = DesiredAccess(
    owner="shop_owner", reader="shop_reader", outputs=("password", "url"), inputs_hash="new"
)
WHOSE = Whose(environment="production", deployment="eu", database="shop")
OURS = LiveRole(attributes={"login": True}, comment=WHOSE.mark)
BOTH = {"shop_owner": OURS, "shop_reader": OURS}
KEPT = {
    f"shop-db.{name}": TrackedOutput(component="shop-db", name=name, inputs_hash="new")
    for name in ACCESS.outputs
}
CONTEXT = DatabaseContext(versions=Versions(tracking=1, fingerprint_algorithm=1), drift="warn")


def look(
    *,
    part: DesiredDatabase | None = None,
    roles: Mapping[str, LiveRole] = BOTH,
    outputs: Mapping[str, TrackedOutput] = KEPT,
    context: DatabaseContext = CONTEXT,
    exists: bool = True,
) -> DatabaseDiff:
    wanted = desired(databases=[part or database(access=ACCESS)])
    tracked = tracked_database(base_line=base_line()) if exists else TrackedDatabase()
    live = live_database(exists=exists)
    states = (
        TrackedState(databases={"shop": tracked}, programs=TrackedPrograms(outputs=outputs)),
        LiveState(server_major=18, databases={"shop": live}, roles=roles),
    )
    return compare(wanted, *states, {"shop": context}).databases[0]


def test_what_is_there_and_kept_is_not_made_again() -> None:
    """Both roles on the server and all outputs kept under the wanted hash: there is nothing to do."""
    assert not look().works
    assert not look().drift


@pytest.mark.parametrize(
    ("roles", "outputs", "why"),
    [
        ({}, {}, "role 'shop_owner' is not on the server"),
        ({"shop_owner": OURS}, KEPT, "role 'shop_reader' is not on the server any more"),
        (BOTH, {"shop-db.url": KEPT["shop-db.url"]}, "output 'password' is not kept yet"),
        (
            BOTH,
            {**KEPT, "shop-db.url": replace(KEPT["shop-db.url"], inputs_hash="old")},
            "what its outputs are made from changed",
        ),
    ],
    ids=["first", "dropped", "one-more-output", "other-inputs"],
)
def test_what_is_missing_is_made(
    roles: Mapping[str, LiveRole], outputs: Mapping[str, TrackedOutput], why: str
) -> None:
    """A role that is not there, an output that is not kept and one made from something else are each told."""
    part = look(roles=roles, outputs=outputs)
    assert part.access == why
    assert not part.blocked
    assert [row.identity for row in part.pending] == ["access to database shop"]


def test_a_database_that_is_made_gets_its_roles() -> None:
    """Roles and outputs from before say nothing of a database that is not there."""
    assert look(exists=False).access == "its database is made anew"


def test_a_role_of_somebody_else_is_left_alone() -> None:
    """A role of the name that was not made for this database blocks it, and is told how to hand over."""
    part = look(roles={**BOTH, "shop_owner": replace(OURS, comment="mine")}, outputs={})
    (why,) = part.blocked
    assert "role 'shop_owner' is on the server and was not made for this database" in why
    assert f"COMMENT ON ROLE shop_owner IS '{WHOSE.mark.replace(chr(39), chr(39) * 2)}'" in why


def test_nothing_blocks_where_nothing_is_to_be_made() -> None:
    """A comment that was changed, or a key that is gone, hinders nobody who needs nothing."""
    noted = {name: replace(OURS, comment=None) for name in BOTH}
    assert not look(roles=noted, context=replace(CONTEXT, can_seal=False)).blocked


def test_passwords_need_a_key() -> None:
    """Without a key in the settings nothing is made, and people are told which setting is missing."""
    part = look(roles={}, outputs={}, context=replace(CONTEXT, can_seal=False))
    assert "secrets.age_keys" in part.blocked[0]


def test_powers_given_by_hand_are_drift() -> None:
    """What was given to a role of ours by hand is told, and taken back only where drift is healed."""
    roles = {**BOTH, "shop_owner": replace(OURS, attributes={"login": False, "createdb": True})}
    part = look(roles=roles)
    assert [row.detail for row in part.drift] == [
        "createdb is on, login is off; it was made with a login and nothing else"
    ]
    assert not part.works
    assert look(roles=roles, context=replace(CONTEXT, drift="heal")).access is not None


def on_service(live: LiveState) -> Diff:
    server = DesiredServer(service="pg", port="5432", user="postgres")
    wanted = desired(module(change("a")), databases=[database(on=server, access=ACCESS)])
    return compare(wanted, TrackedState(databases={}), live, {"shop": CONTEXT})


def test_a_service_never_applied_means_that_its_database_is_absent() -> None:
    """It is made with all that is in it, and nobody asks another server for roles or extensions."""
    elsewhere = {"shop_owner": replace(OURS, comment="another's")}
    diff = on_service(LiveState(server_major=18, databases={}, roles=elsewhere))
    assert diff.databases[0].need == "create"
    assert diff.databases[0].access is not None
    assert not diff.blocked
    assert [one.name for one in diff.modules[0].deploy] == ["a"]


def test_a_service_that_does_not_answer_means_that_nobody_knows() -> None:
    """Nothing is planned in its database, nor of the modules in it, and it is told why."""
    live = LiveState(server_major=18, databases={}, servers={"pg": None}, silent={"pg": "no route to host"})
    diff = on_service(live)
    assert not diff.pending
    assert diff.databases[0].blocked == (
        "nobody knows what is in it: service 'pg', on which it lives: no route to host",
    )
    assert diff.modules[0].blocked


def test_a_database_comes_after_what_it_stands_on() -> None:
    """Its service, and who makes what the daemon signs in with, also inside of one stage."""
    secret = OutputReference(component="keys", output="pg")
    server = DesiredServer(service="pg", port="5432", user="postgres", password=secret)
    part = DatabaseDiff(desired=database(on=server, after=("x",)))
    assert awaited(part) == ("x", "pg", "keys")
    assert awaited(DatabaseDiff(desired=database())) == ()
