"""The YAML reader gives back what was written, wherever it stands; variables and places keep their laws."""

import json
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.spec.parse import parse_file
from reconciler.spec.variables import BadVariable, faults, substitute
from reconciler.spec.yaml_text import FILE_BYTES_MAX, PROBLEMS_MAX, load

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cn", "Cs", "Zl", "Zp")), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXTS, below, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_json_is_read_as_written(value: Any) -> None:
    """JSON is YAML: every value written as JSON comes back as it was."""
    loaded = load("f.yaml", json.dumps(value, ensure_ascii=False).encode())
    assert loaded.problems == ()
    assert [document.plain() for document in loaded.documents] == [value]


@given(
    st.recursive(
        TEXTS,
        lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXTS, below, max_size=4),
        max_leaves=20,
    ),
    st.sampled_from(['"', "'"]),
)
def test_what_another_writer_quotes_is_read_as_written(value: Any, style: str) -> None:
    """Block style, folding and quoting by another program change nothing."""
    text = yaml.safe_dump(value, allow_unicode=True, default_style=style)
    loaded = load("f.yaml", text.encode())
    assert loaded.problems == ()
    assert [document.plain() for document in loaded.documents] == [value]


@given(
    st.lists(
        st.sampled_from([*list("[]{}:,-?&*!|>'\"%@`#ab \n\t"), "---\n", "&a ", "*a ", ": ", "- "]),
        max_size=200,
    )
)
@settings(max_examples=300)
def test_yaml_like_text_never_raises(pieces: list[str]) -> None:
    """Text of indicators gives documents or problems, at places inside the text."""
    text = "".join(pieces)
    loaded = load("f.yaml", text.encode())
    assert len(loaded.problems) <= PROBLEMS_MAX + 2
    for problem in loaded.problems:
        assert problem.line is None or 1 <= problem.line <= text.count("\n") + 2
    for document in loaded.documents:
        document.plain()


@given(
    st.sampled_from(["[", "{", "- ", "? ", "{a: ", "&a [", "!x ", "\n ", "'", "*a "]), st.integers(1, 200_000)
)
@settings(max_examples=30, deadline=None)
def test_repeated_indicators_end_soon(unit: str, times: int) -> None:
    """However often one construct is repeated, reading ends and is told in few problems."""
    content = (unit * times).encode()[:FILE_BYTES_MAX]
    assert len(load("f.yaml", content).problems) <= PROBLEMS_MAX + 2


@given(st.text("ab${}", max_size=30), st.text("ab${}", max_size=5), st.text("ab${}", max_size=5))
def test_substitution_raises_exactly_where_it_finds_faults(text: str, a: str, b: str) -> None:
    """A string without faults has a result, and one with faults has none."""
    values = {"a": a, "b": b}
    try:
        substitute(text, values)
    except BadVariable:
        assert faults(text, values)
    else:
        assert not faults(text, values)


@given(st.text("ab${} ", max_size=30))
def test_any_text_can_be_written_literally(text: str) -> None:
    """With every `${` doubled, a string means itself."""
    escaped = text.replace("${", "$${")
    assert substitute(escaped, {}) == text


SECRET = "sw0rdfish-XyZ"
PLACES = st.sampled_from(
    ["metadata: {name: *s}", "kind: *s", "apiVersion: *s", "spec: *s", "extra: *s", "*s : 1", "a: *t"]
)


@given(st.permutations([0, 1, 2]), PLACES, st.booleans())
def test_no_alias_carries_a_secret_into_a_problem(order: list[int], use: str, quoted: bool) -> None:
    """Wherever an alias takes what stands under `dsn`, no problem shows it."""
    secret = f'"{SECRET}"' if quoted else SECRET
    lines = [f"x: {{postgres: {{dsn: &s {secret}}}}}", "y: 1", use]
    text = "\n".join([lines[0], *(lines[number] for number in order if number)])
    problems = [problem for item in parse_file("f.yaml", text.encode()) for problem in item.problems]
    assert problems
    assert SECRET not in "".join(map(str, problems))
