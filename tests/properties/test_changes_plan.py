"""Laws of plan files: written back as read, and never an error of another kind."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from reconciler.changes import control_file, plan_file, reference, specifier, sqitch_config
from reconciler.changes.module import read_module
from reconciler.changes.plan_file import Flavor
from reconciler.errors import Conflict, NotFound, PlanFileError

FLAVORS = st.sampled_from(list(Flavor))
BLANKS = st.sampled_from([" ", "  ", "\t"])
NAMES = st.sampled_from(["a", "b", "users/add", "été", "x_1", "a-b"])
DEPENDENCIES = st.sampled_from(["a", "b", "@v1", "a@v1", "!a", "q:a", "q:@v1", "0" * 40, "p:b"])
DATES = st.sampled_from(["2026-01-31T12:00:00Z", "1999-12-31T23:59:59Z"])
PLANNERS = st.sampled_from(["Ann <a@x>", "Zoë  Q <z@x>"])
NOTES = st.sampled_from(["", "# note", " # a # b", "\t#\\n", "   "])
FRAGMENTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["%project=p", "%uri=http://X", "\n", "\r\n", "\n\n", "@v1", "[", "]", "a ", "<x>", "#", "+", "-"]
    ),
    DATES,
    PLANNERS,
    DEPENDENCIES,
)


@st.composite
def lines(draw: st.DrawFn) -> str:
    """Draw a line that may stand in a plan."""
    kind = draw(st.sampled_from(["change", "change", "tag", "blank", "comment"]))
    if kind in ("blank", "comment"):
        return "" if kind == "blank" else "# " + draw(st.sampled_from(["x", "é"]))
    gap = draw(BLANKS)
    tail = gap.join([draw(DATES), draw(PLANNERS)]) + draw(NOTES)
    if kind == "tag":
        return f"@{draw(st.sampled_from(['v1', 'v2', 'v3']))}{gap}{tail}"
    dependencies = draw(st.lists(DEPENDENCIES, max_size=2, unique=True))
    bracket = f"[{gap.join(dependencies)}]{gap}" if dependencies else ""
    return draw(st.sampled_from(["", " ", "+"])) + draw(NAMES) + gap + bracket + tail


@st.composite
def plans(draw: st.DrawFn) -> str:
    """Draw the text of a plan that is often good."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    body = draw(st.lists(lines(), max_size=8))
    return end.join(["%syntax-version=1.0.0", "%project=p", "", *body]) + draw(st.sampled_from(["", end]))


@given(text=plans(), flavor=FLAVORS)
def test_a_plan_is_written_as_it_was_read(text: str, flavor: Flavor) -> None:
    """Rendering gives the same bytes, reading those the same plan, and every name is unique."""
    with suppress(PlanFileError):
        plan = plan_file.parse(text, "p", flavor=flavor)
        assert plan_file.render(plan) == text
        assert plan_file.parse(plan_file.render(plan), "p", flavor=flavor) == plan
        instances = [change.instance for change in plan.changes]
        assert len(set(instances)) == len(instances)
        for index, change in enumerate(plan.changes):
            assert specifier.target_index(plan, change.id) == index
            assert specifier.target_index(plan, f"@ROOT~{index}") == index
            assert specifier.target_index(plan, f"@HEAD^{len(plan.changes) - 1 - index}") == index
            only = specifier.qualified_name(specifier.instances_of(plan), index)
            assert specifier.target_index(plan, only) == index
            if instances.count(change.instance) == 1 and "@" in change.instance:
                assert specifier.target_index(plan, change.instance) == index


@given(fragments=st.lists(FRAGMENTS, max_size=25), flavor=FLAVORS)
def test_any_text_is_a_plan_or_a_plan_file_error(fragments: list[str], flavor: Flavor) -> None:
    """No text makes the reader fail in any other way, and each problem says where."""
    text, problems = "".join(fragments), None
    try:
        assert plan_file.render(plan_file.parse(text, "p", flavor=flavor)) == text
    except PlanFileError as error:
        problems = error.problems
    assert problems is None or (problems and all(each.file == "p" and each.message for each in problems))


@given(text=st.text(max_size=200))
def test_any_text_is_a_control_file_or_an_error(text: str) -> None:
    """Control files and configurations fail in one way only."""
    with suppress(PlanFileError):
        control_file.parse(text, "a.control")
    with suppress(PlanFileError):
        sqitch_config.places("m", sqitch_config.parse(f"[core]\n{text}", "sqitch.conf"))


@given(content=st.binary(max_size=200), conf=st.binary(max_size=60), control=st.binary(max_size=60))
def test_any_bytes_are_a_module_or_an_error(content: bytes, conf: bytes, control: bytes) -> None:
    """What stands in a repository never fails in another way."""
    files = {
        "m/sqitch.plan": b"%project=p\n\na 2026-01-31T12:00:00Z Ann <a@x>\n" + content,
        "m/sqitch.conf": conf,
        "m/p.control": control,
        "m/deploy/a.sql": content,
    }
    with suppress(PlanFileError):
        assert read_module("m", files).project == "p"


@given(to=st.text(max_size=20), text=plans())
def test_any_target_is_found_or_refused(to: str, text: str) -> None:
    """A target is a change of the plan or one of two errors."""
    with suppress(PlanFileError, NotFound, Conflict):
        plan = plan_file.parse(text, "p", flavor=Flavor.SQITCH)
        assert -1 <= specifier.target_index(plan, to) < len(plan.changes)
        reference.parse(to)
