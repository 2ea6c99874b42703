"""View values as JSON values: the same for the HTTP API and for `--output json`.

Takes the frozen dataclasses of `reconciler.rollout.status`; imports no web library, so that commands may use
it at no cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any

_PLAIN = frozenset({type(None), bool, int, float, str})


def to_json(value: Any) -> Any:
    """Dataclasses become objects, enums their values, aware times ISO 8601 in UTC ending in Z."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, str | int | float):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {name: to_json(getattr(value, name)) for name in _names(type(value))}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [to_json(item) for item in value]
    return str(value)


@cache
def _names(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass; a long list has thousands of one kind."""
    return tuple(field.name for field in fields(kind))


def time_text(value: datetime) -> str:
    """An aware time as text, in UTC."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
