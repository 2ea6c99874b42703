"""Look secrets up where specs and settings say they stand, or open them; the only place that does."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from reconciler.errors import NotFound, Refused
from reconciler.secret_settings import SecretValue
from reconciler.spec.values import SecretReference

SECRET_BYTES_MAX = 64 * 1024
RESERVED_PREFIX = "RECONCILER_"


class Secrets:
    """Resolves references; each value is told to `forbid`, so that no log line ever shows it.

    `age_keys` open encrypted values; like every secret they are read when they are used, and not before.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        forbid: Callable[[str], None],
        age_keys: Sequence[SecretValue] = (),
    ) -> None:
        self._environ = environ
        self._forbid = forbid
        self._age_keys = age_keys

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
        return self.resolve(SecretReference(env=value.env, file=value.file, age=value.age))

    def resolve(self, reference: SecretReference) -> str:
        """A secret by its place; surrounding white space of a file is not part of it."""
        if reference.age is not None:
            value = self._opened(reference.age)
        elif reference.file is not None:
            value = self._from_file(reference.file)
        else:
            value = self._from_environment(reference)
        self._forbid(value)
        return value

    def key_texts(self) -> tuple[str, ...]:
        """The keys that open encrypted values, as they are kept."""
        return tuple(self.for_settings(key) for key in self._age_keys)

    def seal(self, text: str) -> str:
        """A text encrypted for the first key, as it is kept. Raises Refused where there is no key."""
        from reconciler.daemon import age

        if not self._age_keys:
            raise Refused(
                "a sensitive value cannot be kept: the settings name no key to seal it with",
                hint="name one under secrets.age_keys; `reconciler secret keygen` makes it",
            )
        first = age.keys_of([self.for_settings(self._age_keys[0])])
        return age.encrypted(text, age.recipients_of(first[:1]))

    def unseal(self, sealed: str) -> str:
        """What a sealed text holds."""
        try:
            return self._opened(sealed)
        except (NotFound, Refused) as error:
            # Nobody can encrypt anew what was generated: only the key it was sealed with helps.
            raise Refused(
                "a value that is kept encrypted in the control database was sealed with a key that the"
                " settings do not name",
                hint="name that key under secrets.age_keys, behind the others; where it is lost, have the"
                " value made anew: another `owner` or `reader` of the database, a change of the job",
            ) from error

    def forbid(self, value: str) -> None:
        """No log shows this value from now on."""
        self._forbid(value)

    @property
    def can_seal(self) -> bool:
        """Whether the settings name a key to seal sensitive values with."""
        return bool(self._age_keys)

    def _opened(self, value: str) -> str:
        from reconciler.daemon import age

        return age.opened(value, age.keys_of(self.key_texts()) if self._age_keys else ())

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
