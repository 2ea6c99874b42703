"""`@frozen` makes what the library makes of a frozen dataclass with slots and keywords, only later."""

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from typing import Generic, TypeVar

import pytest
from typing_extensions import override

from reconciler.frozen import frozen

T = TypeVar("T")


@frozen
class Ours:
    """A value."""

    name: str
    rows: tuple[int, ...] = ()
    seen: dict[str, int] = field(default_factory=dict, compare=False)
    secret: str | None = field(default=None, repr=False)

    @property
    def first(self) -> int:
        """Its own property."""
        return self.rows[0]


@frozen
class More(Ours):
    """One that has more."""

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    """The same by the library."""

    name: str
    rows: tuple[int, ...] = ()
    seen: dict[str, int] = field(default_factory=dict, compare=False)
    secret: str | None = field(default=None, repr=False)


@frozen
class Nothing:
    """One without fields."""


@frozen
class Box(Generic[T]):
    """A value of another."""

    content: T


@frozen
class Own:
    """One with methods of its own in the place of those that are shared."""

    name: str

    @override
    def __repr__(self) -> str:
        return "own"

    @override
    def __hash__(self) -> int:
        return 7


def test_it_shows_and_compares_as_the_library_does() -> None:
    """Fields that are not shown or not compared are left out; another class is never equal."""
    ours, theirs = Ours(name="a", rows=(1,), secret="s"), Theirs(name="a", rows=(1,), secret="s")
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours == Ours(name="a", rows=(1,), seen={"b": 1}, secret="s")
    assert ours != Ours(name="a", rows=(2,), secret="s")
    assert object() not in (ours, theirs)
    assert len({ours, Ours(name="a", rows=(1,), secret="s"), replace(ours, name="b")}) == 2
    assert (Nothing() == Nothing(), len({Nothing(), Nothing()})) == (True, 1)


def test_it_takes_keywords_and_defaults() -> None:
    """What is missing, too much or no keyword is a TypeError; each object gets its own default."""
    one, other = Ours(name="a"), Ours(name="b")
    one.seen["x"] = 1
    assert (other.seen, other.rows, one.first if one.rows else None) == ({}, (), None)
    for wrong in ({}, {"name": "a", "other": 1}):
        with pytest.raises(TypeError):
            Ours(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Ours("a")  # type: ignore[call-arg]


def test_it_is_frozen_and_has_slots() -> None:
    """Nothing of it can be set, taken away or added."""
    value = Ours(name="a")
    for name in ("name", "other"):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, "b")
    with pytest.raises(FrozenInstanceError):
        del value.name
    assert not hasattr(value, "__dict__")


def test_it_is_a_dataclass_to_others() -> None:
    """`fields`, `replace` and `asdict` work, and copies and pickles are equal."""
    value = More(name="a", rows=(1, 2), size=3)
    assert [each.name for each in fields(value)] == ["name", "rows", "seen", "secret", "size"]
    assert asdict(replace(value, size=4))["size"] == 4
    assert copy.copy(value) == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value
    assert isinstance(value, Ours)
    assert Box(content=value).content is value


def test_what_a_class_defines_itself_stays() -> None:
    """Only what is missing is put in."""
    value = Own(name="a")
    assert (repr(value), hash(value), value == Own(name="a")) == ("own", 7, True)
    assert Nothing.__doc__ == "One without fields."
