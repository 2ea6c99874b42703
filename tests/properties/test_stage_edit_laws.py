"""Edits of stages that are taken back leave the bytes as they were, and no comment is ever lost."""

import re
from collections import Counter

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reconciler.errors import PermanentError
from reconciler.spec.editing import (
    Beside,
    CreateStage,
    DeleteStage,
    Edit,
    EditStage,
    MoveComponents,
    SkipComponents,
    SpecFile,
    edited,
    spec_of,
)

NAMES = ("a", "data", "b2", "x-y.z", "s3")
IN_QUOTES = ("true", "1.0", "null", "0x1f", "on")
COMMENTS = st.sampled_from(["", "", "# one", "  # two: [a]", "#", "# é 😀", "# - {name: no}"])
TEXTS = st.text(st.sampled_from(list("ab:#,'\"{}[]&*!|> -é😀\\")), min_size=1, max_size=12)


def quoted(name: str, quote: str) -> str:
    return f"{quote}{name}{quote}"


@st.composite
def specs(draw: st.DrawFn) -> tuple[str, list[str], list[str]]:
    """A spec in one of many layouts, with its stages and components."""
    quote = draw(st.sampled_from(["", "'", '"']))
    known = st.sampled_from(NAMES if not quote else (*NAMES, *IN_QUOTES))
    names = draw(st.lists(known, min_size=2, max_size=4, unique=True))
    parts = [f"c{number}" for number in range(draw(st.integers(1, 3)))]
    lead = " " * draw(st.sampled_from([0, 2, 4]))
    dash = draw(st.sampled_from(["- ", "-   "]))
    within = " " * len(dash)
    lines = ["apiVersion: reconciler/v1", "kind: Environment", "metadata: {name: shop}", "spec:"]
    lines += ["  deployments: [{name: eu, postgres: {dsn: {env: EU}}}]"]

    def note(indent: str) -> list[str]:
        comment = draw(COMMENTS)
        return [f"{indent}{comment}"] if comment or draw(st.booleans()) else []

    def behind() -> str:
        comment = draw(COMMENTS)
        return f" {comment}" if comment else ""

    if draw(st.booleans()):
        items = [f"{{name: {quoted(name, quote)}}}" for name in names]
        parting = draw(st.sampled_from([", ", ",", ",\n      ", " ,  "]))
        lines += [f"  stages: [{parting.join(items)}]{behind()}"]
    else:
        lines += [f"  stages:{behind()}"]
        for name in names:
            lines += note(f"  {lead}")
            value = quoted(name, quote)
            if draw(st.booleans()):
                lines += [f"  {lead}{dash}{{name: {value}}}{behind()}"]
            else:
                lines += [f"  {lead}{dash}name: {value}{behind()}"]
                if draw(st.booleans()):
                    lines += [
                        f"  {lead}{within}description: '{draw(st.sampled_from(['what', 'a b']))}'{behind()}"
                    ]
    lines += [*note("  "), "  components:"]
    for part in parts:
        stage = quoted(draw(st.sampled_from(names)), quote)
        lines += note(f"  {lead}")
        if draw(st.booleans()):
            lines += [
                f"  {lead}- {{name: {part}, stage: {stage}, kind: Database, database: {part}}}{behind()}"
            ]
        else:
            lines += [f"  {lead}- name: {part}{behind()}", f"  {lead}  stage: {stage}{behind()}"]
            lines += [f"  {lead}  kind: Database", f"  {lead}  database: {part}"]
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return newline.join(lines) + draw(st.sampled_from([newline, "", f"{newline}# end"])), names, parts


def after(content: bytes, edit: Edit) -> bytes:
    return edited(SpecFile(name="f.yaml", content=content), "shop", edit)


def comments(content: bytes) -> Counter[str]:
    return Counter(re.findall(r"(?:^|\s)(#[^\r\n]*)", content.decode()))


def sound(content: bytes, count: int) -> None:
    assert len(spec_of(SpecFile(name="f.yaml", content=content), "shop").stages) == count


@given(specs(), st.data())
@settings(max_examples=30, deadline=None)
def test_edits_that_are_taken_back_leave_the_bytes(
    spec: tuple[str, list[str], list[str]], data: st.DataObject
) -> None:
    """Adding, renaming, moving and filling a stage, each taken back: the same bytes, and comments stay."""
    text, names, parts = spec
    content = text.encode()
    one, other = data.draw(st.permutations(names))[:2]
    place = Beside(stage=other, after=data.draw(st.booleans()))
    index = names.index(one)
    home = Beside(stage=names[index - 1], after=True) if index else Beside(stage=names[1], after=False)
    part = data.draw(st.sampled_from(parts))
    stage = next(
        each.stage or "" for each in spec_of(SpecFile(name="f.yaml", content=content), "shop").components
        if each.name == part
    )  # fmt: skip
    pairs: list[tuple[Edit, Edit, int]] = [
        (
            CreateStage(
                name="new",
                description=data.draw(st.none() | TEXTS.map(lambda text: text.replace("#", "+"))),
                place=place,
            ),
            DeleteStage(name="new"),
            1,
        ),
        (EditStage(name=one, new_name="new"), EditStage(name="new", new_name=one), 0),
        (EditStage(name=one, place=place), EditStage(name=one, place=home), 0),
        (SkipComponents(names=(part,), skip=True), SkipComponents(names=(part,), skip=False), 0),
        (MoveComponents(names=(part,), stage=other), MoveComponents(names=(part,), stage=stage), 0),
    ]
    for edit, back, more in pairs:
        made = after(content, edit)
        sound(made, len(names) + more)
        assert not comments(content) - comments(made), edit
        assert after(made, back) == content, edit


@given(specs(), TEXTS)
@settings(max_examples=25, deadline=None)
def test_any_description_is_read_as_written(spec: tuple[str, list[str], list[str]], text: str) -> None:
    """Whatever a stage is described with comes back, and clearing it leaves no trace where there was none."""
    content, name = spec[0].encode(), spec[1][-1]
    assume(text.strip())
    described = after(content, EditStage(name=name, description=text))
    found = spec_of(SpecFile(name="f.yaml", content=described), "shop").stages[-1]
    assert (found.name, found.description) == (name, text)
    before = spec_of(SpecFile(name="f.yaml", content=content), "shop").stages[-1].description
    cleared = after(described, EditStage(name=name, description=""))
    assert before is not None or cleared == content
    assert not comments(content) - comments(after(described, EditStage(name=name, description=before or "")))


@given(st.text(st.sampled_from(list("[]{}:,-?&*#|'\" \nab")), max_size=60))
@settings(max_examples=100, deadline=None)
def test_an_edit_of_any_text_is_sound_or_refused(stages: str) -> None:
    """However stages are written, what comes out of an edit parses and has the new one; else nothing does."""
    text = (
        "apiVersion: reconciler/v1\nkind: Environment\nmetadata: {name: shop}\nspec:\n"
        "  deployments: [{name: eu, postgres: {dsn: {env: EU}}}]\n  components: []\n"
        f"  stages: [{{name: a, description: {stages}}}, {{name: b}}]\n"
    )
    try:
        made = after(text.encode(), CreateStage(name="new", place=Beside(stage="a", after=False)))
    except PermanentError:
        return
    assert spec_of(SpecFile(name="f.yaml", content=made), "shop").stages[0].name == "new"
