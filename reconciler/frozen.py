"""`@frozen`: a dataclass that is frozen, has slots and takes keywords only, and costs little to define.

A command defines hundreds of such classes and makes objects of a few. The library writes and compiles six
methods for each when it is defined, which was a seventh of what a command took that only looks; here a class
gets its `__init__` when its first object is made, and shares the rest with all others. To everybody else they
are dataclasses: `fields`, `replace`, `asdict` and type checkers know them. It knows no class in particular.
"""

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make a class of values; what it defines itself stays."""
    own = set(vars(cls))
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # else the library would look for the signature
    made: Any = dataclass(cls, init=False, repr=False, eq=False, slots=True, kw_only=True)
    for name, method in _SHARED.items():
        if name not in own:
            setattr(made, name, method)
    compared = [each.name for each in fields(made) if each.compare]
    made.__compared__ = staticmethod(attrgetter(*compared) if compared else _nothing)
    if "__init__" not in own:
        made.__init__ = _first_init(made)
    found: type[T] = made
    return found


def _nothing(_value: object) -> tuple[()]:
    return ()


def _first_init(made: Any) -> Callable[..., None]:
    def __init__(self: object, /, **given: object) -> None:  # noqa: N807 - it is one
        made.__init__ = _init(made)
        made.__init__(self, **given)

    return __init__


def _init(made: Any) -> Callable[..., None]:
    """Write and compile what sets the fields, as the library does."""
    known: dict[str, Any] = {"set_": object.__setattr__, "MISSING": MISSING}
    takes, sets = [], []
    for each in fields(made):
        name, default = each.name, f"default_{each.name}"
        value = name
        if each.default is not MISSING:
            known[default] = each.default
            takes.append(f"{name}={default}")
        elif each.default_factory is not MISSING:
            known[default] = each.default_factory
            takes.append(f"{name}=MISSING")
            value = f"{default}() if {name} is MISSING else {name}"
        else:
            takes.append(name)
        sets.append(f" set_(self, {name!r}, {value})")
    arguments = ", ".join(["self", "*", *takes] if takes else ["self"])
    text = "\n".join([f"def __init__({arguments}):", *(sets or [" pass"])])
    exec(text, known)  # noqa: S102 - names of fields are all there is in it
    made_init: Callable[..., None] = known["__init__"]
    made_init.__qualname__ = f"{made.__qualname__}.__init__"
    return made_init


def _repr(self: Any) -> str:
    shown = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__qualname__}({shown})"


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    compared = self.__compared__
    return compared(self) == compared(other)


def _hash(self: Any) -> int:
    return hash(self.__compared__(self))


def _setattr(_self: object, name: str, _value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(_self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> list[object]:
    return [getattr(self, each.name) for each in fields(self)]


def _setstate(self: Any, state: list[object]) -> None:
    for each, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, each.name, value)


_SHARED: dict[str, Callable[..., Any]] = {
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
}
