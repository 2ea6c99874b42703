"""The whole exception tree, with what each branch means for trying again.

ReconcilerError            message (what was being done, to what, where, why) and hint (what to do next)
  PermanentError           trying again cannot help; a person or a new commit must act
    InvalidInput           a file or document is wrong; carries every problem at once
      SpecError | PlanFileError | ScriptError | SettingsError
    NotFound               a named thing (environment, deployment, rollout, reference) does not exist
    Conflict               the request contradicts what is there
    Refused                a rule of safety forbids it (hazard, diverged history, foreign database)
      SignatureRefused     a commit carries no signature that counts for its source
    StepFailed             a step of a plan failed for good
    IllegalTransition      an operation state does not take this event
  TemporaryError           trying again may help
    SourceUnavailable | DatabaseUnavailable | RuntimeUnavailable | LockNotAcquired | FenceBusy | LeaseLost

Messages are lower case, without a full stop, identifiers quoted, and never hold a secret.
"""

from typing_extensions import override

from reconciler.frozen import frozen


@frozen
class Problem:
    """One thing wrong with an input: where (1-based line and column), what, and what to do.

    `excerpt` is the line itself with carets below what is meant, for those who draw it.
    """

    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    path: str | None = None
    hint: str | None = None
    excerpt: str | None = None

    @override
    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        where = f"{place}: " if place else ""
        at = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{at}{self.message}{hint}"

    def drawn(self) -> str:
        """Return it as text with its line below, where that is known."""
        lines = [] if self.excerpt is None else self.excerpt.split("\n")
        return "\n".join([str(self), *(f"    {line}" for line in lines)])


class ReconcilerError(Exception):
    """Root of every error the package raises on purpose."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @override
    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class PermanentError(ReconcilerError):
    """Trying again cannot help."""


class TemporaryError(ReconcilerError):
    """Trying again may help."""


class InvalidInput(PermanentError):
    """An input is wrong; `problems` holds all of them, in order of place."""

    def __init__(self, problems: tuple[Problem, ...] | list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SpecError(InvalidInput):
    """An environment spec is wrong."""


class PlanFileError(InvalidInput):
    """A plan file of a change module is wrong."""


class ScriptError(InvalidInput):
    """A script of a change cannot be run as it stands."""


class SettingsError(InvalidInput):
    """The daemon's own settings are wrong."""


class NotFound(PermanentError):
    """A named thing does not exist."""


class Conflict(PermanentError):
    """The request contradicts what is there."""


class Refused(PermanentError):
    """A rule of safety forbids it."""


class SignatureRefused(Refused):
    """A commit carries no signature that counts; `why` says so without the place."""

    def __init__(self, message: str, *, commit: str, why: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.commit = commit
        self.why = why


class IllegalTransition(PermanentError):
    """An operation state does not take this event."""


class StepFailed(PermanentError):
    """A step failed for good.

    `file` and `line` point into the source, `sqlstate` is the server's five-letter code.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        file: str | None = None,
        line: int | None = None,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.file = file
        self.line = line
        self.sqlstate = sqlstate


class SourceUnavailable(TemporaryError):
    """A Git remote cannot be reached or read now."""


class DatabaseUnavailable(TemporaryError):
    """A PostgreSQL server cannot be reached now, or ended the connection."""


class RuntimeUnavailable(TemporaryError):
    """What runs services cannot be reached now, or cannot do what it was asked for now."""


class LockNotAcquired(TemporaryError):
    """A lock was not granted in time; the message names who holds it, where that is known."""


class FenceBusy(TemporaryError):
    """Another writer holds the fence of a managed database."""


class FenceTaken(FenceBusy):
    """The writer that holds the fence lives and is at work: it is waited for, by nobody in particular."""


class StateMoved(TemporaryError):
    """What a plan was made from is not what is there once the fence is ours; it is planned anew."""


class LeaseLost(TemporaryError):
    """The operation belongs to another worker now; nothing more may be written for it."""
