"""What a source is to this package: where it is, what of it is wanted, and what opens it.

Values only. The daemon makes them from its settings; secrets come in resolved and never show themselves.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class HistoryPolicy(StrEnum):
    """What to do when the new head does not descend from the last good commit."""

    REJECT = "reject"
    ALERT = "alert"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAccess:
    """One source: exactly one of `branch`, `tag` and `commit` says what of it is wanted."""

    name: str
    url: str = field(repr=False)
    branch: str | None = None
    tag: str | None = None
    commit: str | None = None
    fetch_timeout_s: float = 60.0
    history: HistoryPolicy = HistoryPolicy.ALERT
    credentials: SourceCredentials = field(default_factory=SourceCredentials, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """An exact commit and when it was made."""

    id: str
    committed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
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
