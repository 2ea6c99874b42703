"""What a person asks to be told of change modules, as values."""

from reconciler.frozen import frozen


@frozen
class LogRequest:
    """Which events of modules to tell: of one module, one change, one kind, None for all; and how many."""

    module: str | None = None
    change: str | None = None
    kind: str | None = None
    limit: int = 100


@frozen
class VerifyRequest:
    """What to verify: one module or all, and of one the changes from `first` to `last`, both inclusive."""

    module: str | None = None
    first: str | None = None
    last: str | None = None
