"""What is deployed, found by what people and requirements write."""

import pytest

from reconciler.diff.deployed import index_of, required_index
from reconciler.errors import Conflict
from reconciler.state.tracked import TrackedChange

DEPLOYED = tuple(
    TrackedChange(
        change_id=letter * 40, name=name, script_hash=None, parse_hash=None, position=number, tags=tags
    )
    for number, (letter, name, tags) in enumerate(
        [
            ("a", "x@v1", ()),
            ("b", "y", ("v1",)),
            ("c", "x@v2", ("v2", "v3")),
            ("d", "x", ()),
            ("e", "z@v9", ()),
        ]
    )
)


@pytest.mark.parametrize(
    ("to", "place"),
    [
        ("y", 1),
        ("@v1", 1),
        ("@v1^", 0),
        ("@HEAD^2", 2),
        ("@HEAD^^", 2),
        ("@ROOT~", 1),
        ("x@v1", 0),
        ("x@v3", 2),
        ("x@HEAD", 3),
        ("p:y~2", 3),
        ("b" * 40, 1),
        ("z@v9", 4),
        ("@ROOT^", None),
        ("nosuch", None),
        ("q:y", None),
        ("", None),
    ],
)
def test_a_specifier_means_a_deployed_change(to: str, place: int | None) -> None:
    """The same forms as in a plan file, in the order of deployment."""
    assert index_of(DEPLOYED, "p", to) == place


def test_a_bare_name_of_several_is_refused_where_a_person_writes_it() -> None:
    """A person says which; a requirement means the newest."""
    with pytest.raises(Conflict, match="say which: x@HEAD, x@v2, x@v1"):
        index_of(DEPLOYED, "p", "x")
    assert [required_index(DEPLOYED, "p", need) for need in ("x", "x@v1", "@v2", "w", "!", "z")] == [
        3,
        0,
        2,
        None,
        None,
        4,
    ]
