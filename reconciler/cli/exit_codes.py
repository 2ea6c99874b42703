"""What the exit code of a command says; the one table of them."""

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; each member's text is its line in the reference."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ExitCode":
        """Keep the meaning beside the number."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "in sync, or done"
    ERROR = 1, "an error: it is on standard error"
    USAGE = 2, "the command line is wrong"
    PENDING = 3, "changes are pending (`diff --exit-code`, `status`)"
    DRIFT = (
        4,
        (
            "drift, and nothing is pending (`diff --exit-code`, `status`); deployed changes differ from "
            "their plan files or do not verify (`module status`, `check`, `verify`)"
        ),
    )
    FAILED = 5, "a rollout failed or is held, or an environment is stalled"
    CANCELLED = 6, "the rollout was cancelled, stopped or superseded, or waiting for it timed out"


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Choose the code of several findings: what failed first, then what is pending, then drift."""
    found = set(codes)
    for code in (
        ExitCode.ERROR,
        ExitCode.USAGE,
        ExitCode.FAILED,
        ExitCode.CANCELLED,
        ExitCode.PENDING,
        ExitCode.DRIFT,
    ):
        if code in found:
            return code
    return ExitCode.OK
