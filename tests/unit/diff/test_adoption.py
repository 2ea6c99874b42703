"""What of another tool's registry is recorded, and what is refused."""

from hashlib import sha256

import pytest

from reconciler.diff import adoption
from reconciler.diff.adoption import Sought
from reconciler.diff.model import DatabaseDiff, DatabaseNeed, ModuleDiff
from reconciler.state.desired import DesiredChange, DesiredModule
from reconciler.state.registry import Registry, RegistryChange, RegistryKind
from reconciler.state.tracked import TrackedModule
from tests.plugins.states import change, database, module, tracked_of

SQITCH, PGPM = RegistryKind.SQITCH, RegistryKind.PGPM


def row(one: DesiredChange, **more: object) -> RegistryChange:
    """As Sqitch records a change."""
    values: dict[str, object] = {
        "project": "shop",
        "change_id": one.change_id,
        "name": one.name.split("@")[0],
        "script_hash": one.script_hash,
        "deployed_at": "2026-01-01 00:00:00+00",
        "tags": tuple(tag for _id, tag in one.tags),
        **more,
    }
    return RegistryChange(**values)  # type: ignore[arg-type]


def adopted(
    desired: DesiredModule,
    *rows: RegistryChange,
    kind: RegistryKind = SQITCH,
    recorded: TrackedModule | None = None,
    one: bool = True,
    need: DatabaseNeed | None = None,
) -> ModuleDiff:
    registry = Registry(kind=kind, schema="theirs", projects=("shop",), changes=rows)
    owner = DatabaseDiff(desired=database(), need=need, reason="it is gone")
    sought = Sought(kind=kind, schema=None, one=one)
    return adoption.adopt(ModuleDiff(desired=desired), owner, recorded, registry, sought)


def names(found: ModuleDiff) -> list[str]:
    return [each.name for each in found.deploy]


def test_what_the_registry_has_is_recorded_in_its_order() -> None:
    """With its ids, hashes and times; what it lacks stays pending, and another project's is none of ours."""
    a, b, c = change("a"), change("b"), change("c")
    found = adopted(module(a, b, c), row(b), row(a, deployed_at="later"), row(c, project="other"))
    assert names(found) == ["b", "a"]
    assert (found.adopted[a.change_id].deployed_at, found.adopted[a.change_id].script_hash) == (
        "later",
        a.script_hash,
    )
    assert found.blocked == ()
    assert "theirs" in found.pending[0].reason


def test_what_is_recorded_already_is_left_alone() -> None:
    """Also where its id moved since, because a note was edited."""
    a, b = change("a"), change("b")
    assert names(adopted(module(a, b), row(a), row(b), recorded=tracked_of(a, b))) == []
    moved = row(a, change_id="f" * 40)
    assert names(adopted(module(a, b), moved, row(b), recorded=tracked_of(a))) == ["b"]


def test_an_edited_script_keeps_the_hash_that_was_deployed() -> None:
    """An id that moved is recorded as the registry has it; an older Sqitch knew no hash at all."""
    a, b, c = change("a"), change("b"), change("c")
    found = adopted(
        module(a, b, c),
        row(a, script_hash="e" * 40),
        row(b, change_id="f" * 40),
        row(c, script_hash=c.change_id),
    )
    assert found.adopted[a.change_id].script_hash == "e" * 40
    assert found.adopted[b.change_id].recorded_id == "f" * 40
    assert found.adopted[c.change_id].script_hash == c.script_hash


def test_hashes_of_pgpm_are_compared_with_the_files() -> None:
    """The same bytes are the same script under our hash; others stay what they are, and are told."""
    a, b = change("a"), change("b")
    digest = sha256(a.deploy.text.encode()).hexdigest()
    found = adopted(
        module(a, b),
        row(a, change_id="1" * 64, script_hash=digest),
        row(b, change_id="2" * 64, script_hash="3" * 64),
        kind=PGPM,
    )
    assert found.adopted[a.change_id].script_hash == a.script_hash
    assert found.adopted[b.change_id].script_hash == "3" * 64
    assert found.adopted[b.change_id].recorded_id == b.change_id
    assert [each.identity for each in found.diverged] == ["change b"]


def test_a_change_that_the_plan_lacks_is_refused_or_told() -> None:
    """By the module's own policy; with a warning, the others are taken over without it."""
    a, gone = change("a"), change("gone")
    refused = adopted(module(a), row(a), row(gone))
    assert names(refused) == []
    assert "change gone (deployed, but not in the plan file" in refused.blocked[0]
    told = adopted(module(a, divergence={"missing": "warn"}), row(a), row(gone))
    assert (names(told), told.blocked) == (["a"], ())
    assert [each.identity for each in told.diverged] == ["change gone"]


def test_a_target_before_what_is_deployed_is_refused() -> None:
    """What lies beyond it would be forgotten."""
    a, b = change("a"), change("b")
    found = adopted(module(a, target="a", beyond_target=((b.change_id, b.name),)), row(a), row(b))
    assert "target a lies before it" in found.blocked[0]


def test_what_is_not_there_is_refused() -> None:
    """A database, a registry, a project; a project only where it was asked for by name."""
    a = change("a")
    assert "cannot be written to" in adopted(module(a), need=DatabaseNeed.CREATE).blocked[0]
    other = module(a, project="other")
    assert "has no project 'other'; it has: 'shop'" in adopted(other).blocked[0]
    assert adopted(other, one=False).blocked == ()
    sought = Sought(kind=SQITCH, schema=None, one=False)
    owner = DatabaseDiff(desired=database())
    none = adoption.adopt(ModuleDiff(desired=module(a)), owner, None, None, sought)
    assert "there is no sqitch registry of database 'shop'" in none.blocked[0]


@pytest.mark.parametrize("kind", list(RegistryKind))
def test_an_empty_registry_leaves_nothing_to_do(kind: RegistryKind) -> None:
    """It knows the project, and nothing of it is deployed."""
    found = adopted(module(change("a")), kind=kind)
    assert (found.deploy, found.blocked) == ((), ())
