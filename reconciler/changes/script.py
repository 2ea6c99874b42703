"""A script of a change as a value: where it stands, its exact text, and what that is as SQL."""

from dataclasses import dataclass

from reconciler.changes.expansion import Expansion


@dataclass(frozen=True, slots=True)
class Script:
    """A deploy, verify or revert script: its path in the source and its text.

    `expansion` is what the text becomes as SQL where it is written for psql; None where it is plain SQL, or
    where that was not looked at.
    """

    path: str
    text: str
    expansion: Expansion | None = None

    def self_contained(self) -> str:
        """A text that means the same without any other file and without variables, to be kept."""
        if self.expansion is None or self.expansion.problems:
            return self.text
        return self.expansion.self_contained()
