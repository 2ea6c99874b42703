"""Small values that specs are made of and other layers use as they are."""

from typing_extensions import override

from reconciler.frozen import frozen


@frozen
class SecretReference:
    """Where a secret stands: an environment variable of the daemon, or a file. Never the secret itself."""

    env: str | None = None
    file: str | None = None

    @override
    def __str__(self) -> str:
        return f"env {self.env}" if self.env is not None else f"file {self.file}"
