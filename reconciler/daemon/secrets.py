"""Look secrets up where specs and settings say they stand; the only place that reads them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from reconciler.errors import NotFound, Refused
from reconciler.settings import SecretValue
from reconciler.spec.values import SecretReference

SECRET_BYTES_MAX = 64 * 1024
RESERVED_PREFIX = "RECONCILER_"


class Secrets:
    """Resolves references; each value is told to `forbid`, so that no log line ever shows it."""

    def __init__(self, environ: Mapping[str, str], forbid: Callable[[str], None]) -> None:
        self._environ = environ
        self._forbid = forbid

    def for_spec(self, reference: SecretReference) -> str:
        """A secret that a spec refers to. Raises Refused for the daemon's own, NotFound for one not there."""
        if reference.env is not None and reference.env.upper().startswith(RESERVED_PREFIX):
            raise Refused(f"a spec may not refer to '{reference.env}': it is the daemon's own")
        return self.resolve(reference)

    def for_settings(self, value: SecretValue) -> str:
        """A secret of the settings: written out, or said to stand elsewhere."""
        if value.text is not None:
            self._forbid(value.text)
            return value.text
        return self.resolve(SecretReference(env=value.env, file=value.file))

    def resolve(self, reference: SecretReference) -> str:
        """A secret by its place; surrounding white space of a file is not part of it."""
        value = (
            self._from_file(reference.file)
            if reference.file is not None
            else self._from_environment(reference)
        )
        self._forbid(value)
        return value

    def _from_environment(self, reference: SecretReference) -> str:
        value = self._environ.get(reference.env or "")
        if not value:
            raise NotFound(
                f"environment variable '{reference.env}' is not set",
                hint="set it for the daemon and restart it, or refer to a file",
            )
        return value

    @staticmethod
    def _from_file(path: str) -> str:
        try:
            with Path(path).open("rb") as file:
                content = file.read(SECRET_BYTES_MAX + 1)
        except OSError as error:
            raise NotFound(f"secret file '{path}' cannot be read: {error.strerror}") from None
        if len(content) > SECRET_BYTES_MAX:
            raise Refused(f"secret file '{path}' is larger than {SECRET_BYTES_MAX} bytes")
        try:
            value = content.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise Refused(f"secret file '{path}' is not UTF-8 text") from None
        if not value:
            raise NotFound(f"secret file '{path}' is empty")
        return value
