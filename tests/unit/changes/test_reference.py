"""References to changes: taken apart, or nothing."""

import pytest

from reconciler.changes import reference
from reconciler.changes.reference import Reference


@pytest.mark.parametrize("text", ["a:b:c", ":a", "a@", "a@b@c", "-a", "@v1@v2"])
def test_malformed_references_are_none(text: str) -> None:
    """What is not well-formed is not guessed at."""
    assert reference.parse(text) is None


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("a", Reference(name="a")),
        ("@v1", Reference(tag="v1")),
        ("a/b@v1", Reference(name="a/b", tag="v1")),
        ("q:a@v1", Reference(project="q", name="a", tag="v1")),
        ("q:@v1", Reference(project="q", tag="v1")),
        ("q:" + "ab" * 20, Reference(project="q", id="ab" * 20)),
    ],
)
def test_each_form_is_taken_apart(text: str, parsed: Reference) -> None:
    """Project, name, tag and id are what they look like."""
    assert reference.parse(text) == parsed
