"""Plan files: Sqitch's ids and classification, nothing lost, every problem at once."""

from pathlib import Path

import pytest

from reconciler.changes import plan_file
from reconciler.changes.plan_file import Flavor, PlanFile
from reconciler.errors import PlanFileError

CASES = Path(__file__).parents[2] / "cases" / "plan_file"
WHO = "2026-01-31T12:00:00Z Ann Example <ann@example.com>"
HEAD = "%syntax-version=1.0.0\n%project=p\n\n"


def golden(plan: PlanFile) -> list[str]:
    """Write changes, tags and script names as the golden files have them."""
    lines: list[str] = []
    for change in plan.changes:
        lines.append(f"change {change.id} {change.name}")
        lines += [f"tag {tag.id} {tag.name}" for tag in change.tags]
        if change.instance != change.name:
            lines.append("rework " + " ".join("@" + name.rsplit("@", 1)[1] for name in change.script_names))
    return lines


def problems_of(text: str, flavor: Flavor = Flavor.SQITCH) -> list[str]:
    """Return the problems of a plan as text, without file name."""
    with pytest.raises(PlanFileError) as caught:
        plan_file.parse(text, "sqitch.plan", flavor=flavor)
    return [str(problem).removeprefix("sqitch.plan:") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("name", "flavor"),
    [("rework", Flavor.SQITCH), ("spacing", Flavor.SQITCH), ("pgpm", Flavor.PGPM)],
)
def test_ids_are_those_of_sqitch(name: str, flavor: Flavor) -> None:
    """Ids of changes and tags, and the order of script names, equal what sqitch 1.3.1 itself computed."""
    text = (CASES / f"{name}.plan").read_bytes().decode()
    expected = (CASES / f"{name}.ids").read_text(encoding="utf-8").splitlines()
    assert golden(plan_file.parse(text, name, flavor=flavor)) == expected


@pytest.mark.parametrize("name", ["rework", "spacing", "pgpm"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_nothing_is_lost(name: str, ending: str) -> None:
    """A plan is written back byte for byte, and its line ends do not change its ids."""
    flavor = Flavor.PGPM if name == "pgpm" else Flavor.SQITCH
    text = (CASES / f"{name}.plan").read_bytes().decode()
    other = text.replace("\n", ending).removesuffix(ending)
    plan = plan_file.parse(other, name, flavor=flavor)
    assert plan_file.render(plan) == other
    assert golden(plan) == golden(plan_file.parse(text, name, flavor=flavor))


def test_a_reworked_change_has_instances() -> None:
    """The newest instance keeps the name; an older one is named for the first tag after it."""
    plan = plan_file.parse((CASES / "rework.plan").read_text(encoding="utf-8"), "p", flavor=Flavor.SQITCH)
    instances = [change.instance for change in plan.changes if change.name == "accounts/login"]
    assert instances == ["accounts/login@v1.0", "accounts/login@v1.1", "accounts/login"]
    assert [tag.name for tag in plan.tags] == ["v1.0", "v1.1", "v1.1-fix"]


def test_the_fields_of_a_change() -> None:
    """Note, planner, date and dependencies come as the line has them."""
    plan = plan_file.parse((CASES / "rework.plan").read_text(encoding="utf-8"), "p", flavor=Flavor.SQITCH)
    login = plan.changes[2]
    assert login.note == "two lines:\nand a \\ backslash"
    assert (login.planned_at, login.planner) == ("2024-03-02T10:00:00Z", "Tomas Example <tomas@example.com>")
    assert (login.requires, login.conflicts, login.line) == (("accounts/users",), ("legacy_login",), 8)
    assert (plan.project, plan.uri) == ("shop", "https://Git.Example.com:443/shop database/")


@pytest.mark.parametrize("note", ["<e@x># note", "<e@x> #note", "<e@x> # note", "<e@x>#note   "])
def test_a_note_needs_no_blanks(note: str) -> None:
    """Blanks around the sign of a note do not matter."""
    plan = plan_file.parse(f"{HEAD}a 2026-01-31T12:00:00Z Ann {note}\n", "p", flavor=Flavor.SQITCH)
    assert plan.changes[0].note == "note"


ACCEPTED_BY_BOTH = [
    HEAD.replace("=", " = ") + f"a {WHO}\n",
    f"%project=p\n\na {WHO}\n",
    f"{HEAD}  a {WHO}\n",
    f"{HEAD}a {WHO}\n@v1 {WHO}\na [a] {WHO}\n",
    f"{HEAD}b {WHO}\na [!b other:c other:@v1 {'0' * 40}] {WHO}\n",
    HEAD,
]


@pytest.mark.parametrize("text", ACCEPTED_BY_BOTH)
@pytest.mark.parametrize("flavor", list(Flavor))
def test_good_plans_are_read(text: str, flavor: Flavor) -> None:
    """What Sqitch accepts is read, whosever plan file it is."""
    assert plan_file.parse(text, "p", flavor=flavor).project == "p"


ONLY_SQITCH_REFUSES = [
    (f"%project=p\na {WHO}\n", "2: invalid pragma; a blank line must come between pragmas and changes"),
    (f"{HEAD}a\n", "4: missing timestamp and planner name and email"),
    (f"{HEAD}a 2026-01-31T12:00:00Z\n", "4: missing planner name and email"),
    (f"{HEAD}a [] {WHO}\n", "4: empty dependencies"),
    (f"{HEAD}b {WHO}\na [b b] {WHO}\n", "5: duplicate dependency 'b'"),
    (f"{HEAD}HEAD {WHO}\n", "4: 'HEAD' is a reserved name"),
    (f"{HEAD}{'ab' * 20} {WHO}\n", f"4: '{'ab' * 20}' could be confused with the id of a change"),
]


@pytest.mark.parametrize(("text", "problem"), ONLY_SQITCH_REFUSES)
def test_what_only_sqitch_refuses(text: str, problem: str) -> None:
    """A sqitch.plan is read as strictly as Sqitch does; a pgpm.plan as pgpm does."""
    assert problems_of(text)[0].startswith(problem)
    assert plan_file.parse(text, "p", flavor=Flavor.PGPM).project == "p"


REFUSED = [
    (f"a {WHO}\n\n", "missing %project pragma"),
    (f"%project=a:b\n\na {WHO}\n", "1: invalid project name 'a:b'"),
    (f"{HEAD}a 2026-01-31T12:00:00+02:00 Ann <a@x>\n", "timestamp"),
    (f"{HEAD}a 2026-02-30T12:00:00Z Ann <a@x>\n", "4: there is no such time as 2026-02-30T12:00:00Z"),
    (f"{HEAD}a [a] {WHO}\n", "4: change 'a' cannot require itself"),
    (
        f"{HEAD}a [b] {WHO}\nb {WHO}\n",
        "4: change 'a' planned 1 change before required change 'b' (move 'a' down 1 line)",
    ),
    (f"{HEAD}a [zz] {WHO}\n", "4: unknown change 'zz' required by change 'a'"),
    (f"{HEAD}user {WHO}\na [users] {WHO}\n", "(did you mean 'user'?)"),
    (f"{HEAD}a {WHO}\na {WHO}\n", "5: change 'a' duplicates earlier declaration on line 4"),
    (f"{HEAD}a {WHO}\n@v1 {WHO}\n@v1 {WHO}\n", "6: tag 'v1' duplicates earlier declaration on line 5"),
    (f"{HEAD}@v1 {WHO}\n", "4: tag 'v1' declared without a preceding change"),
    (f"{HEAD}a {WHO}\n@v/x {WHO}\n", "5: tag 'v/x' contains the illegal character '/'"),
    (f"{HEAD}a 2026-01-31T12:00:00Z Ann <a@x> [b]\n", "4:"),
    (f"{HEAD}a [@v9] {WHO}\n", "4: unknown change '@v9' required by change 'a'"),
    (f"{HEAD}a [b@v1] {WHO}\nb {WHO}\n@v1 {WHO}\n", "4: change 'a' is planned before the required 'b@v1'"),
    (f"{HEAD}b {WHO}\na [b,] {WHO}\n", "5: 'b,' is not a valid dependency"),
    (f"{HEAD}a: {WHO}\n", "4: invalid change name"),
    (f"{HEAD}a/1 {WHO}\n", "4: invalid change name"),
    (f"{HEAD}a [b {WHO}\n", "4: the dependencies are not closed"),
    (f"{HEAD}a {WHO} and more\n", "4:"),
]


@pytest.mark.parametrize(("text", "problem"), REFUSED)
@pytest.mark.parametrize("flavor", list(Flavor))
def test_what_can_never_run_is_refused(text: str, problem: str, flavor: Flavor) -> None:
    """A plan that cannot be carried out is refused in either flavor, with line and hint."""
    assert problem in " ".join(problems_of(text, flavor))


def test_tags_have_no_dependencies() -> None:
    """Only pgpm lets a tag name its change, and nobody lets it have dependencies."""
    assert problems_of(f"{HEAD}a {WHO}\n@v1 [a] {WHO}\n") == [
        "5: tags may not specify dependencies (a tag is on the change above it)"
    ]
    assert problems_of(f"{HEAD}a {WHO}\n@v1 nosuch {WHO}\n", Flavor.PGPM) == [
        "5: tag 'v1' names the unknown change 'nosuch' (move it below that change, or correct the name)"
    ]


def test_all_problems_come_at_once_in_order_of_lines() -> None:
    """Every broken line is reported, not only the first."""
    text = f"{HEAD}a [b] {WHO}\n-q- {WHO}\nb\nc [a] {WHO}\nc {WHO}\n"
    lines = [problem.split(":")[0] for problem in problems_of(text)]
    assert lines == ["4", "5", "6", "8"]


def test_problems_are_bounded() -> None:
    """A file of nothing but errors gives a list one can read."""
    found = problems_of(HEAD + "?\n" * 5_000)
    assert len(found) == 201
    assert found[-1].endswith("and 4800 more problems")


def test_a_plan_is_bounded() -> None:
    """A plan beyond the limit is refused before it is read."""
    assert "more than the limit" in problems_of("#" * (plan_file.PLAN_MAX + 1))[0]


def test_a_rework_may_require_an_instance_between_two_tags() -> None:
    """`a@v1` is found also after `a` has come again."""
    text = f"{HEAD}a {WHO}\n@v1 {WHO}\na [a@v1] {WHO}\n@v2 {WHO}\nb [a@v1 a@v2] {WHO}\n"
    assert [change.instance for change in plan_file.parse(text, "p", flavor=Flavor.SQITCH).changes] == [
        "a@v1",
        "a",
        "b",
    ]
