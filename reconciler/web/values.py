"""View values as JSON values: the same for the HTTP API and for `--output json`.

Takes the frozen dataclasses of `reconciler.rollout.status`; imports no web library, so that commands may use
it at no cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any


def to_json(value: Any) -> Any:
    """Dataclasses become objects, enums their values, aware times ISO 8601 in UTC ending in Z."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, datetime):
        return time_text(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [to_json(item) for item in value]
    return str(value)


def time_text(value: datetime) -> str:
    """An aware time as text, in UTC."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
