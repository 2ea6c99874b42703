"""What a source is to this package: where it is, what of it is wanted, and what opens it.

Values only. The daemon makes them from its settings; secrets come in resolved and never show themselves.
"""

from collections.abc import Callable
from dataclasses import field
from datetime import datetime
from enum import StrEnum

from reconciler.frozen import frozen


class HistoryPolicy(StrEnum):
    """What to do when the new head does not descend from the last good commit."""

    REJECT = "reject"
    ALERT = "alert"
    ACCEPT = "accept"


@frozen
class SourceCredentials:
    """What opens a remote; every field may be left out.

    `username` and `password` (a password or a token) are for HTTPS as basic authentication, `bearer` for
    HTTPS as a bearer token. The paths name files that SSH and TLS read by themselves.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    bearer: str | None = field(default=None, repr=False)
    ssh_key_file: str | None = None
    ssh_known_hosts_file: str | None = None
    tls_ca_file: str | None = None


@frozen
class SignaturePolicy:
    """Whose signatures count for a source; a key that is not named here counts for nothing.

    `ssh_keys` are public keys as they stand in a `.pub` file; the others are names of files.
    """

    gpg_key_files: tuple[str, ...] = ()
    ssh_keys: tuple[str, ...] = ()
    ssh_allowed_signers_file: str | None = None

    @property
    def wants_gpg(self) -> bool:
        """Whether GPG signatures count at all."""
        return bool(self.gpg_key_files)

    @property
    def wants_ssh(self) -> bool:
        """Whether SSH signatures count at all."""
        return bool(self.ssh_keys) or self.ssh_allowed_signers_file is not None


@frozen
class SourceAccess:
    """One source: exactly one of `branch`, `tag` and `commit` says what of it is wanted.

    `credentials` is called before each fetch, so that a token that was renewed is the one that is sent.
    """

    name: str
    url: str = field(repr=False)
    branch: str | None = None
    tag: str | None = None
    commit: str | None = None
    fetch_timeout_s: float = 60.0
    history: HistoryPolicy = HistoryPolicy.ALERT
    credentials: Callable[[], SourceCredentials] = field(default=SourceCredentials, repr=False)
    signatures: SignaturePolicy | None = None


@frozen
class Commit:
    """An exact commit and when it was made."""

    id: str
    committed_at: datetime


@frozen
class FetchResult:
    """What one fetch found; `rewritten` is a fact, the policy only decides whether it is let in.

    `previous` is the last good commit from before this fetch, None at the first.
    """

    commit: str
    committed_at: datetime
    previous: str | None
    changed: bool
    rewritten: bool
    recloned: bool
    fetched_at: datetime
