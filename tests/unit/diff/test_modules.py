"""Plan files against what is recorded as deployed."""

import dataclasses

from reconciler.diff import modules
from reconciler.diff.model import DivergencePolicy, DivergenceSort, ModuleDiff
from reconciler.spec.components import DivergenceSpec
from tests.plugins.states import change, module, tracked_of


def sorts(found: ModuleDiff) -> list[tuple[str, str, str]]:
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


def test_a_plan_without_changes_needs_nothing() -> None:
    """A module may be declared before anything is written for it."""
    found = modules.compare(module(), None)
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
    policy = {**modules.DEFAULT_POLICY, DivergenceSort.EDITED: DivergencePolicy.FAIL}
    found = modules.compare(module(a, b), tracked_of(a, a="create table x()"), policy=policy)
    assert found.blocked


def test_renamed_change_takes_its_new_name_and_is_not_run() -> None:
    """The same script in the same place under another name is one change, whose record is renamed."""
    a, b, c = (change(name) for name in "abc")
    other = change("x", text=b.deploy.text, change_id="d" * 40)
    found = modules.compare(module(a, other, c), tracked_of(a, b, c))
    assert sorts(found) == [("change x", "renamed", "warn")]
    assert [(one.change_id, one.name, one.change.name) for one in found.renames] == [(b.change_id, "b", "x")]
    assert (found.deploy, found.blocked) == ((), ())
    assert [(row.identity, row.action.value) for row in found.pending] == [("change x", "change")]


def test_names_that_changed_places_are_two_renames() -> None:
    """Two changes that swapped names keep their places; neither is run again."""
    a, b = change("a"), change("b")
    swapped = (
        change("b", text=a.deploy.text, change_id="1" * 40),
        change("a", text=b.deploy.text, change_id="2" * 40),
    )
    found = modules.compare(module(*swapped), tracked_of(a, b))
    assert [sort for _name, sort, _policy in sorts(found)] == ["renamed", "renamed"]
    assert found.deploy == ()


def test_edit_and_copy_of_the_old_script_is_an_edit() -> None:
    """Who edits a change and adds its old text under a new name behind it edited one and added one."""
    a = change("a")
    edited = change("a", text="create table other()")
    again = change("again", text=a.deploy.text)
    found = modules.compare(module(edited, again), tracked_of(a))
    assert sorts(found) == [("change a", "edited", "warn")]
    assert [one.name for one in found.deploy] == ["again"]


def test_rework_is_recognised_after_an_edited_note() -> None:
    """Ids move and a change is reworked at once: the deployed instance is the older one."""
    deployed = change("a", text="select 1", tags=["v1"])
    older = change("a@v1", text="select 1", change_id="1" * 40, tags=["v1"])
    newer = change("a", text="select 2", change_id="2" * 40)
    found = modules.compare(module(older, newer), tracked_of(deployed))
    assert found.diverged == ()
    assert [one.name for one in found.deploy] == ["a"]


def test_rework_back_to_an_older_script_is_pending() -> None:
    """A rework whose script is that of the first instance is still to be run."""
    deployed = change("a", text="select 1", tags=["v1"])
    older = change("a@v1", text="select 1", change_id="1" * 40, tags=["v1"])
    newer = change("a", text="select 1", change_id="2" * 40)
    found = modules.compare(module(older, newer), tracked_of(deployed))
    assert found.diverged == ()
    assert [one.change_id for one in found.deploy] == ["2" * 40]


def test_inserted_change_is_deployed_late_where_policy_lets_it() -> None:
    """It is pending, named as late, and goes on telling that it was inserted."""
    a, b, c = (change(name) for name in "abc")
    found = modules.compare(module(a, c, b, divergence={"inserted": "warn"}), tracked_of(a, b))
    assert sorts(found) == [("change c", "inserted", "warn")]
    assert [row.reason for row in found.pending] == [
        "not deployed; late: it stands before the deployed change 'b'"
    ]
    assert found.late == {c.change_id: "b"}


def test_moved_change_makes_nothing_else_inserted() -> None:
    """What is new stands before a moved change only because that was moved; it is pending like any other."""
    a, b, c, d = (change(name) for name in "abcd")
    found = modules.compare(module(b, c, d, a, divergence={"reordered": "warn"}), tracked_of(a, b, c))
    assert sorts(found) == [("change a", "reordered", "warn")]
    assert ([one.name for one in found.deploy], found.late) == (["d"], {})


def test_tag_is_recorded_on_the_change_as_it_is_known() -> None:
    """A tag gained together with an edited note goes to the deployed change, whose id is the old one."""
    a = change("a")
    moved = change("a", change_id="f" * 40, tags=["v1"])
    found = modules.compare(module(moved), tracked_of(a))
    assert [tag for _change, tag in found.tags] == ["v1"]
    assert found.recorded_ids == {"f" * 40: a.change_id}


def test_defaults_of_the_spec_are_those_of_the_comparison() -> None:
    """What a spec leaves out means the same in the schema that people read and in what decides."""
    shown = DivergenceSpec().model_dump()
    assert {DivergenceSort(sort): policy for sort, policy in shown.items()} == {
        sort: policy.value for sort, policy in modules.DEFAULT_POLICY.items() if sort.value in shown
    }


def test_edit_of_an_included_file_is_an_edit() -> None:
    """The script itself is the same to the byte; other values of its variables are none."""
    before, after = (dataclasses.replace(change("a"), parse_hash=f"psql1:{number}") for number in (1, 2))
    recorded = tracked_of(change("a"))
    recorded = dataclasses.replace(
        recorded, changes=(dataclasses.replace(recorded.changes[0], parse_hash="psql1:1"),)
    )
    assert sorts(modules.compare(module(before), recorded)) == []
    assert sorts(modules.compare(module(after), recorded)) == [("change a", "edited", "warn")]
