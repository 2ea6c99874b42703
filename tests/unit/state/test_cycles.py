"""Modules and changes that require each other, over several plan files."""

import pytest

from reconciler.state.cycles import find_cycle
from reconciler.state.desired import DesiredModule
from tests.plugins.states import change, module


def named(project: str, changes: dict[str, list[str]], **more: object) -> DesiredModule:
    made = (
        change(f"{name}", requires=needs, tags=[f"{name}-tag"], change_id=f"{project}:{name}")
        for name, needs in changes.items()
    )
    return module(*made, component=project, project=project, **more)


@pytest.mark.parametrize(
    ("modules", "path"),
    [
        ([named("a", {"a1": ["b:b1"]}), named("b", {"b1": []})], None),
        ([named("a", {"a1": ["b:b1"], "a2": []}), named("b", {"b1": [], "b2": ["a:a2"]})], None),
        ([named("a", {"a1": ["b:b1"]}), named("b", {"b1": ["a:a1"]})], "a:a1 b:b1 a:a1"),
        (
            [named("a", {"a1": ["b:@b2-tag"]}), named("b", {"b1": ["a:a1@a1-tag"], "b2": []})],
            "a:a1 b:b2 b:b1 a:a1",
        ),
        (
            [
                named("a", {"a1": [], "a2": ["b:b1"]}),
                named("b", {"b1": ["c:c2"]}),
                named("c", {"c1": ["a:a2"], "c2": []}),
            ],
            "a:a2 b:b1 c:c2 c:c1 a:a2",
        ),
        (
            [
                named("a", {"a1": []}, requires_modules=("b",)),
                named("b", {"b1": []}, requires_modules=("c",)),
                named("c", {"c1": []}, requires_modules=("a",)),
            ],
            "a b c a",
        ),
        ([named("a", {"a1": []}, requires_modules=("a",))], "a a"),
        (
            [named("a", {"a1": []}, requires_modules=("b",)), named("b", {"b1": [], "b2": ["a:a1"]})],
            "a b b:b2 a:a1 a",
        ),
        ([named("a", {"a1": ["b:b1"]}), named("b", {"b1": ["a:a1"]}, database="other")], None),
        ([named("a", {"a1": ["b:nosuch", "gone:x", "[", "a:a1"]}), named("b", {"b1": ["a:a1"]})], None),
        ([named("a", {}, requires_modules=("b",)), named("b", {})], None),
    ],
)
def test_cycles_over_plan_files_are_named_in_full(modules: list[DesiredModule], path: str | None) -> None:
    """Every change and module of the circle stands in it, and what is only interleaved is none."""
    assert find_cycle(modules) == (None if path is None else tuple(path.split()))


def test_long_modules_are_no_matter() -> None:
    """Thousands of changes that each require one of another module are searched without recursion."""
    many = range(2000)
    a = named("a", {f"a{n}": [f"b:b{n}"] for n in many})
    b = named("b", {f"b{n}": [f"a:a{n - 1}"] if n else [] for n in many})
    assert find_cycle([a, b]) is None
