"""A script of a change as a value: where it stands and its exact text."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Script:
    """A deploy, verify or revert script: its path in the source and its text."""

    path: str
    text: str
