"""Which deployed changes are verified, and by which scripts."""

from dataclasses import replace

import pytest

from reconciler.changes.script import Script
from reconciler.diff.verifiable import to_verify
from reconciler.errors import NotFound
from reconciler.execution.verify import prepare
from reconciler.state.desired import DesiredChange
from tests.plugins.states import change, module, tracked_of


def with_verify(name: str, text: str = "select 1") -> DesiredChange:
    return replace(change(name), verify=Script(f"modules/shop/verify/{name}.sql", text))


A, B, C = with_verify("a"), change("b"), with_verify("c")


@pytest.mark.parametrize(
    ("first", "last", "names"),
    [(None, None, "abc"), (None, "b", "ab"), ("b", None, "bc"), ("b", "b", "b"), ("@ROOT~", "HEAD", "bc")],
)
def test_both_ends_are_verified_too(first: str | None, last: str | None, names: str) -> None:
    """From one deployed change to another, both included, in the order of deployment."""
    found = to_verify(module(A, B, C, change("d")), tracked_of(A, B, C), first=first, last=last)
    assert "".join(row.change for row in found) == names


def test_what_is_not_deployed_is_no_end() -> None:
    """A name that leads nowhere never means everything."""
    with pytest.raises(NotFound, match="'d' is not deployed"):
        to_verify(module(A, B, C, change("d")), tracked_of(A, B, C), last="d")


def test_a_missing_script_is_told_and_fails_nothing() -> None:
    """Of a change that left the plan the stored script counts; who has none is only named."""
    ready = prepare(to_verify(module(A, B), tracked_of(A, B, C)), {C.change_id: "select 3"})
    assert [one.change for one in ready.wanted] == ["a", "c"]
    assert (ready.without_script, ready.broken) == (("b",), ())


def test_a_script_that_cannot_be_read_fails_alone() -> None:
    """What would escape its transaction is a failure of that change; the others are run."""
    ready = prepare(to_verify(module(A, with_verify("b", "\nvacuum t")), tracked_of(A, B)), {})
    assert [one.change for one in ready.wanted] == ["a"]
    assert [(row.change, row.file, row.line) for row in ready.broken] == [
        ("b", "modules/shop/verify/b.sql", 2)
    ]
