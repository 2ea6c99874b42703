"""What is known of the roles that others get into a database with; it makes none."""

from reconciler.frozen import frozen


@frozen
class Whose:
    """The database that a role was made for."""

    environment: str
    deployment: str
    database: str

    @property
    def mark(self) -> str:
        """The comment of such a role: who finds another there, or none, did not make it."""
        return (
            f"made by pg-reconciler for database '{self.database}' of deployment '{self.deployment}' of "
            f"environment '{self.environment}'"
        )
