"""Topological order."""

import pytest

from reconciler.state.order import Cycle, topological


def test_requirements_come_first_and_else_the_order_given_stays() -> None:
    """Only what must move moves."""
    assert topological(["a", "b", "c"], {"a": ["c"]}) == ("c", "a", "b")
    assert topological(["x", "y"], {}) == ("x", "y")


def test_cycle_is_named_in_full() -> None:
    """Every member stands in the message, in order."""
    with pytest.raises(Cycle) as caught:
        topological(["a", "b", "c"], {"a": ["b"], "b": ["c"], "c": ["a"]})
    assert caught.value.path == ("a", "b", "c", "a")


def test_unknown_requirements_are_left_aside_and_long_chains_are_no_matter() -> None:
    """Five thousand in a row do not exhaust the stack."""
    names = [str(number) for number in range(5000)]
    requires = {str(number): [str(number + 1)] for number in range(5000)}
    assert topological(names, requires) == tuple(reversed(names))
