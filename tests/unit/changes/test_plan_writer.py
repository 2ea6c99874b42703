"""Editing plan files: what is new is added, what Sqitch refuses is refused, every other byte stays."""

import re

import pytest

from reconciler.changes import plan_file, plan_writer, sqitch_config
from reconciler.changes.plan_file import Flavor, PlanFile
from reconciler.changes.plan_writer import NewChange, Planned
from reconciler.errors import Conflict, NotFound, PlanFileError

ANN = "Ann Example <ann@example.com>"
WHO = f"2026-01-31T12:00:00Z {ANN}"
HEAD = "%syntax-version=1.0.0\n%project=p\n\n"
PLAN = f"{HEAD}# first\n\n  a  {WHO}  #one\n+b [a]\t{WHO}\n@v1 {WHO}\n"


def read(text: str, flavor: Flavor = Flavor.SQITCH) -> PlanFile:
    return plan_file.parse(text, "p/sqitch.plan", flavor=flavor)


def planned(note: str = "", **more: str) -> Planned:
    return Planned(**{"planner": ANN, "planned_at": "2026-01-31T12:00:00Z", "note": note, **more})


def new(name: str, *requires: str, conflicts: tuple[str, ...] = (), note: str = "") -> NewChange:
    return NewChange(name=name, planned=planned(note), requires=requires, conflicts=conflicts)


def test_a_change_is_appended_as_sqitch_writes_it() -> None:
    """After a tag comes a blank line, after a change none; requirements stand before conflicts."""
    plan = plan_writer.add_change(read(PLAN), new("c", "a", "@v1", "q:x@v2", conflicts=("b",), note="why"))
    assert plan_file.render(plan) == f"{PLAN}\nc [a @v1 q:x@v2 !b] {WHO} # why\n"
    again = plan_writer.add_change(plan, new("d/e"))
    assert plan_file.render(again) == f"{plan_file.render(plan)}d/e {WHO}\n"
    assert [change.name for change in again.changes] == ["a", "b", "c", "d/e"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (HEAD.replace("\n", "\r\n"), f"{HEAD}a {WHO}\n".replace("\n", "\r\n")),
        (f"{HEAD}a {WHO}", f"{HEAD}a {WHO}\nx {WHO}\n"),
        ("%project=p", f"%project=p\n\na {WHO}\n"),
        ("%project=p\n# why\n", f"%project=p\n# why\n\na {WHO}\n"),
        (f"{PLAN}\n", f"{PLAN}\nx {WHO}\n"),
        (f"{PLAN}# end", f"{PLAN}# end\n\nx {WHO}\n"),
    ],
)
def test_line_ends_are_those_of_the_file(before: str, after: str) -> None:
    """What is appended ends as the file's lines do, also where the last line had no end."""
    name = "x" if "\na " in before or " a " in before else "a"
    assert plan_file.render(plan_writer.add_change(read(before), new(name))) == after


@pytest.mark.parametrize("note", ["two\nlines", "a \\ b \\n c", "\r\n x # y \r", "é ☃", "  ", "\\"])
def test_notes_come_back(note: str) -> None:
    """A note is read as it was given, but for blanks around it."""
    changed = plan_writer.add_change(read(PLAN), new("c", note=note))
    tagged = plan_writer.add_tag(changed, "v2", planned(note))
    assert [changed.changes[-1].note, tagged.tags[-1].note] == [note.strip()] * 2
    assert len(tagged.lines) == len(changed.lines) + 1


def test_a_tag_stands_below_its_change() -> None:
    """Without a change the last one is tagged; a tag comes after those that are there."""
    plan = read(PLAN)
    assert plan_file.render(plan_writer.add_tag(plan, "@v2", planned("x"))) == f"{PLAN}@v2 {WHO} # x\n"
    earlier = plan_writer.add_tag(plan, "v0", planned(), change="@HEAD^")
    assert [tag.name for tag in earlier.changes[0].tags] == ["v0"]
    assert plan_file.render(earlier) == PLAN.replace("+b", f"@v0 {WHO}\n+b")


def test_a_tag_stands_below_its_change_also_where_others_name_theirs() -> None:
    """A tag that names its change from further down, as pgpm allows, does not draw others there."""
    text = f"{HEAD}a {WHO}\nb {WHO}\n@v1 a {WHO}\n"
    plan = plan_writer.add_tag(read(text, Flavor.PGPM), "v2", planned(), change="a")
    assert plan_file.render(plan) == text.replace("b 2026", f"@v2 {WHO}\nb 2026")
    assert {tag.name for tag in plan.changes[0].tags} == {"v1", "v2"}


def test_a_rework_keeps_the_older_scripts() -> None:
    """The new instance requires the older one, whose scripts are copied to where they will be looked for."""
    done = plan_writer.rework(read(PLAN), new("a", "b", note="again"))
    assert plan_file.render(done.plan) == f"{PLAN}\na [a@v1 b] {WHO} # again\n"
    assert (done.older.instance, done.change.instance, done.older_name) == ("a@v1", "a", "a@v1")
    assert done.older.script_names[0] == done.older_name
    copies = plan_writer.script_copies(done, sqitch_config.places("m"))
    assert [(copy.source, copy.target) for copy in copies] == [
        ("m/deploy/a.sql", "m/deploy/a@v1.sql"),
        ("m/revert/a.sql", "m/revert/a@v1.sql"),
        ("m/verify/a.sql", "m/verify/a@v1.sql"),
        ("m/deploy/a.sql", "m/revert/a.sql"),
    ]


def test_a_rework_is_named_for_the_last_tagged_change() -> None:
    """As in Sqitch: of several tags since, the first one of the last tagged change."""
    text = f"{PLAN}c {WHO}\n@v2 {WHO}\n@v3 {WHO}\n"
    done = plan_writer.rework(read(text), new("a"))
    assert done.change.requires == ("a@v2",)
    assert (done.older.instance, done.older.script_names) == ("a@v1", ("a@v2", "a@v3", "a@v1"))


def test_scripts_of_reworks_may_stand_elsewhere() -> None:
    """`reworked_dir` of sqitch.conf says where the copies go."""
    places = sqitch_config.places("m", {"core.reworked_dir": "old", "core.extension": "ddl"})
    copies = plan_writer.script_copies(plan_writer.rework(read(PLAN), new("a")), places)
    assert (copies[0].source, copies[0].target) == ("m/deploy/a.ddl", "m/old/deploy/a@v1.ddl")


@pytest.mark.parametrize("flavor", list(Flavor))
def test_what_is_there_is_not_added_again(flavor: Flavor) -> None:
    """Names are taken once; a rework wants a change, and a tag in between."""
    plan = read(PLAN.replace("+", ""), flavor)
    with pytest.raises(Conflict, match=r"'a' to .*plan: it is there already"):
        plan_writer.add_change(plan, new("a"))
    with pytest.raises(Conflict, match=r"'@v1' to .*plan: it is there already"):
        plan_writer.add_tag(plan, "v1", planned())
    with pytest.raises(NotFound, match=r"'c' of .*plan: it is not there"):
        plan_writer.rework(plan, new("c"))
    with pytest.raises(Conflict, match="no tag stands between"):
        plan_writer.rework(plan_writer.add_change(plan, new("c")), new("c"))
    with pytest.raises(Conflict, match="there is no change to put it on"):
        plan_writer.add_tag(read(HEAD, flavor), "v1", planned())
    with pytest.raises(NotFound, match="no 'nosuch'"):
        plan_writer.add_tag(plan, "v2", planned(), change="nosuch")


REFUSED = [
    (new("-a"), "invalid change name '-a'"),
    (new("a b"), "invalid change name 'a b'"),
    (new("c@v1"), "invalid change name"),
    (new("HEAD"), "'HEAD' is a reserved name"),
    (new("ab" * 20), "could be confused with the id of a change"),
    (new("c", "zz"), "unknown change 'zz' required by change 'c'"),
    (new("c", "c"), "change 'c' cannot require itself"),
    (new("c", "a", "a"), "duplicate dependency 'a'"),
    (new("c", "a] 2026"), "'a] 2026' is not a valid dependency"),
    (new("c", "!a"), "'!a' is not a valid dependency"),
    (new("c", conflicts=("!a",)), "'!!a' is not a valid dependency"),
    (new("c", ""), "'' is not a valid dependency"),
    (NewChange(name="c", planned=planned(planner="Ann")), "'Ann' cannot stand in a plan file as a planner"),
    (NewChange(name="c", planned=planned(planner="A # B <a@x>")), "as a planner"),
    (NewChange(name="c", planned=planned(planner="[A] <a@x>")), "as a planner"),
    (NewChange(name="c", planned=planned(planner="A <a@x>\nb")), "as a planner"),
    (NewChange(name="c", planned=planned(planned_at="2026-02-30T12:00:00Z")), "is no timestamp"),
    (NewChange(name="c", planned=planned(planned_at="2026-01-31 12:00")), "is no timestamp"),
]


@pytest.mark.parametrize(("change", "problem"), REFUSED)
@pytest.mark.parametrize("flavor", list(Flavor))
def test_what_sqitch_refuses_is_not_written(change: NewChange, problem: str, flavor: Flavor) -> None:
    """Also into a plan file of pgpm nothing is written that Sqitch would not read."""
    with pytest.raises(PlanFileError, match=re.escape(problem)):
        plan_writer.add_change(read(PLAN.replace("+", ""), flavor), change)


@pytest.mark.parametrize("name", ["v/1", "HEAD", "-v", "v 1", ""])
def test_bad_tags_are_not_written(name: str) -> None:
    """A tag's name follows Sqitch's rules."""
    with pytest.raises(PlanFileError):
        plan_writer.add_tag(read(PLAN), name, planned())


def test_a_plan_is_begun() -> None:
    """A new plan file has its pragmas, and takes its first change."""
    plan = plan_writer.begin("p", "sqitch.plan", flavor=Flavor.SQITCH, uri="https://example.com/p")
    assert plan_file.render(plan) == "%syntax-version=1.0.0\n%project=p\n%uri=https://example.com/p\n\n"
    assert plan_file.render(plan_writer.add_change(plan, new("a"))).endswith(f"/p\n\na {WHO}\n")
    for project, uri in [("p q", None), ("p", "a\nb"), ("p # q", None), ("p\n%uri=x", None)]:
        with pytest.raises(PlanFileError):
            plan_writer.begin(project, "sqitch.plan", flavor=Flavor.SQITCH, uri=uri)
