"""Plan files against what is recorded as deployed."""

import dataclasses

from reconciler.diff import modules
from reconciler.diff.model import DivergenceSort
from tests.plugins.states import change, module, tracked_of


def sorts(found: modules.ModuleDiff) -> list[tuple[str, str, str]]:
    return [(row.identity, row.sort.value, row.policy.value) for row in found.diverged]


def test_nothing_deployed_is_all_pending() -> None:
    """On an empty database every change of the plan is pending, in plan order."""
    found = modules.compare(module(change("a"), change("b")), None)
    assert [row.identity for row in found.pending] == ["change a", "change b"]
    assert found.diverged == ()


def test_all_deployed_is_in_sync() -> None:
    """The same changes with the same scripts leave nothing to do."""
    a, b = change("a"), change("b")
    found = modules.compare(module(a, b), tracked_of(a, b))
    assert (found.pending, found.diverged, found.blocked) == ((), (), ())


def test_only_the_delta_is_pending() -> None:
    """A change at the end of the plan is the only pending one."""
    a, b = change("a"), change("b")
    found = modules.compare(module(a, b), tracked_of(a))
    assert [one.name for one in found.deploy] == ["b"]


def test_edited_script_warns_and_does_not_block() -> None:
    """Another meaning under a deployed name is named, and the rest goes on."""
    a, b = change("a"), change("b")
    found = modules.compare(module(a, b), tracked_of(a, a="create table other()"))
    assert sorts(found) == [("change a", "edited", "warn")]
    assert [one.name for one in found.deploy] == ["b"]
    assert found.blocked == ()


def test_layout_only_edit_is_in_sync() -> None:
    """A reformatted script is no divergence."""
    a = change("a", text="create  table a ( )")
    found = modules.compare(module(a), tracked_of(a, a="create table a()"))
    assert found.diverged == ()


def test_note_edit_moves_ids_and_needs_nothing() -> None:
    """Ids move when a note is edited; name and script are enough to recognise the change."""
    a, b = change("a"), change("b")
    moved = [dataclasses.replace(one, change_id="f" * 39 + str(n)) for n, one in enumerate((a, b))]
    found = modules.compare(module(*moved), tracked_of(a, b))
    assert (found.pending, found.diverged) == ((), ())


def test_missing_inserted_and_reordered_block() -> None:
    """A deployed change that left the plan, one before deployed ones, and another order: each is named."""
    a, b, c, d = (change(name) for name in "abcd")
    missing = modules.compare(module(b, c), tracked_of(a, b))
    assert sorts(missing) == [("change a", "missing", "fail")]
    inserted = modules.compare(module(a, d, b), tracked_of(a, b))
    assert sorts(inserted) == [("change d", "inserted", "fail")]
    reordered = modules.compare(module(b, c, a), tracked_of(a, b, c))
    assert sorts(reordered) == [("change a", "reordered", "fail")]
    assert all(found.blocked for found in (missing, inserted, reordered))


def test_target_behind_is_ahead() -> None:
    """A target before what is deployed is refused; it asks for a revert, which deploying is not."""
    a, b = change("a"), change("b")
    found = modules.compare(module(a, target="a", beyond_target=((b.change_id, b.name),)), tracked_of(a, b))
    assert sorts(found) == [("change b", "ahead", "fail")]
    assert found.pending == ()


def test_rework_keeps_both_instances() -> None:
    """After a rework the deployed instance is `name@tag` by its id, and the new one is pending."""
    old = change("a", tags=["v1"])
    reworked = dataclasses.replace(old, name="a@v1")
    new = change("a", change_id="e" * 40, text="create table a2()")
    found = modules.compare(module(reworked, new), tracked_of(old))
    assert [one.change_id for one in found.deploy] == [new.change_id]
    assert found.diverged == ()


def test_tag_added_later_is_pending() -> None:
    """A tag the plan gained on a deployed change is recorded on the next pass."""
    a = change("a")
    tagged = dataclasses.replace(a, tags=(("t" * 40, "v1"),))
    found = modules.compare(module(tagged), tracked_of(a))
    assert [row.identity for row in found.pending] == ["tag @v1"]


def test_policy_can_be_other_than_the_default() -> None:
    """The policy per sort decides whether a divergence blocks."""
    a, b = change("a"), change("b")
    policy = {**modules.DEFAULT_POLICY, DivergenceSort.EDITED: modules.DivergencePolicy.FAIL}
    found = modules.compare(module(a, b), tracked_of(a, a="create table x()"), policy=policy)
    assert found.blocked
