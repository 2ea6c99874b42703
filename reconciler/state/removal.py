"""What a person asks for who removes an environment that left its source."""

from reconciler.frozen import frozen


@frozen
class Removal:
    """Everything that runs goes; of the databases only those that are named here, by their components."""

    databases: tuple[str, ...] = ()
