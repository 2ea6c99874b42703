"""Targets that a person gives to a deploy, beside the one that the spec has."""

import pytest

from reconciler.errors import Refused
from reconciler.planner.tasks import check_target, narrows
from reconciler.state.desired import DesiredState
from reconciler.state.task import ModuleTask, TaskVerb
from tests.plugins.states import change, desired, module

A, B, C = (change(name) for name in "abc")
SPEC = desired(module(A, B, target="b", beyond_target=((C.change_id, "c"),)))


def to(target: str | None) -> ModuleTask:
    return ModuleTask(verb=TaskVerb.DEPLOY, module="shop", to=target)


def chosen(*names: str) -> DesiredState:
    return desired(module(*(change(name) for name in names), target=names[-1]))


def test_a_target_beyond_the_one_of_the_spec_is_refused() -> None:
    """The next pass would call what was deployed diverged; the message says where to move the target."""
    with pytest.raises(
        Refused, match="'c' lies beyond 'b', to which the spec deploys module 'shop'"
    ) as caught:
        check_target([SPEC], [chosen("a", "b", "c")], to("c"))
    assert caught.value.hint == "move `to:` in the spec"
    for names in ("a", "ab"):
        check_target([SPEC], [chosen(*names)], to(names[-1]))


def test_a_target_before_the_one_of_the_spec_is_held() -> None:
    """Passes would go on from there by themselves; at the spec's own target, or without one, they may."""
    assert narrows([SPEC], [chosen("a")], to("a"))
    assert not narrows([SPEC], [chosen("a", "b")], to("b"))
    assert not narrows([SPEC], [SPEC], to(None))
