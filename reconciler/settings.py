"""The daemon's own settings as one frozen value; it holds references to secrets and reads nothing itself.

Where a settings file is at hand, `reconciler.spec.settings_text` makes the value and places what is wrong.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator

from reconciler.errors import Problem, SettingsError
from reconciler.machine_settings import PROXIES_MAX, ProxySettings, RuntimesSettings
from reconciler.secret_settings import Name, SecretsSettings, SecretValue, SettingsModel, broken

PREFIX = "RECONCILER_"
LIST_ITEMS_MAX = 1000

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)?")
_URL_WITH_SECRET = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/@]*:[^/@]*@)")


def _seconds(value: object) -> object:
    """Take `500ms`, `60s`, `5m`, `1h`, `1d` or a number of seconds."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise broken("must be a duration", "write it as in 500ms, 60s, 5m or 1h")
    match = _DURATION.fullmatch(str(value))
    if match is None:
        raise broken("must be a duration", "write it as in 500ms, 60s, 5m or 1h")
    return float(match[1]) * _UNITS[match[2] or "s"]


Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0, le=7 * 24 * 3600),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h|d)?$"},
                {"type": "number", "minimum": 0, "maximum": 7 * 24 * 3600},
            ]
        }
    ),
]


class ControlSettings(SettingsModel):
    """The control database."""

    dsn: SecretValue = Field(
        description="Connection string of the control database, which several daemons may share; "
        "leave `control` out for an embedded PostgreSQL below `state_dir`."
    )


class TokenSettings(SettingsModel):
    """A token of the API."""

    name: Name = Field(description="Name of the token, for the log; unique.")
    role: Literal["read", "provision", "operate", "admin"] = Field(
        description="What its bearer may do; each role may do what the ones before it may."
    )
    value: SecretValue = Field(
        description="The token itself; as long and random as a password of a machine, at least 16 characters."
    )
    environments: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=LIST_ITEMS_MAX)] = (
        Field(
            default=("*",),
            description="Names of environments it is for, as globs; the others are to its bearer as if "
            "absent.",
        )
    )


class AuthSettings(SettingsModel):
    """What opens a remote; nothing is taken from the daemon's user or its Git configuration."""

    username: str | None = Field(default=None, description="User name, for HTTPS with a password.")
    password: SecretValue | None = Field(default=None, description="Password or access token, for HTTPS.")
    token: SecretValue | None = Field(
        default=None, description="Bearer token, for HTTPS; instead of a password."
    )
    ssh_key: str | None = Field(default=None, description="File of the private key, for SSH.")
    known_hosts: str | None = Field(
        default=None, description="File of the host keys that are trusted, for SSH."
    )
    ca: str | None = Field(
        default=None,
        description="File of the certificate authorities that are trusted, for HTTPS; "
        "left out: those of the system.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> "AuthSettings":
        if self.token is not None and self.password is not None:
            raise broken("has both a password and a token", "keep one of them")
        return self


class SignatureSettings(SettingsModel):
    """Whose signatures the commits of a source have to carry; other keys count for nothing."""

    gpg_keys: Annotated[tuple[str, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), description="Files of public GPG keys, as `gpg --export` writes them."
    )
    ssh_keys: Annotated[tuple[str, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), description="Public SSH keys, written out as they stand in a `.pub` file."
    )
    ssh_allowed_signers: str | None = Field(
        default=None, description="File of SSH signers, as for Git's `gpg.ssh.allowedSignersFile`."
    )

    @model_validator(mode="after")
    def _some(self) -> "SignatureSettings":
        if not (self.gpg_keys or self.ssh_keys or self.ssh_allowed_signers):
            raise broken("names no key", "name gpg_keys, ssh_keys or ssh_allowed_signers")
        return self


class WebhookSettings(SettingsModel):
    """Who may wake a source over HTTP."""

    provider: Literal["github", "gitlab", "gitea", "forgejo", "hmac"] = Field(
        description="Whose signatures are checked; `hmac` for anything that signs what it sends."
    )
    secret: SecretValue = Field(
        description="The secret that the provider signs with, at least 16 characters; for GitLab its secret "
        "token or, better, its signing token."
    )
    previous: SecretValue | None = Field(
        default=None, description="The secret before this one, taken as well while it is being replaced."
    )


Globs = Annotated[tuple[str, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)]


class AllowSettings(SettingsModel):
    """What the specs of a source may use; globs, in which `*` also matches `/`.

    Whatever stands here, a spec never reaches `RECONCILER_*` or a secret of these settings.
    """

    environments: Globs = Field(default=("*",), description="Names of environments the source may declare.")
    secrets: Globs = Field(default=("*",), description="Environment variables that {env: …} may refer to.")
    paths: Globs = Field(default=("*",), description="Files that {file: …} may refer to.")
    kinds: Globs = Field(default=("*",), description="Kinds of component the source may declare.")
    addresses: Globs = Field(default=("*",), description="Addresses that deferred actions may call.")
    runtimes: Globs = Field(
        default=("*",), description="Runtimes of its services and jobs: process, systemd, container."
    )
    images: Globs = Field(
        default=("*",),
        description="Images of its containers; `build` stands for all that are built from the source.",
    )
    hosts: Globs = Field(default=("*",), description="Hosts that its routes may be for.")
    proxies: Globs = Field(
        default=("*",),
        description="Proxies of its routes; a route that names none is allowed where all are.",
    )
    encrypted: bool = Field(
        default=True,
        description="Whether {age: …} may stand in its specs, for any key of `secrets.age_keys`.",
    )

    @staticmethod
    def permits(globs: tuple[str, ...], text: str) -> bool:
        """Whether one of the globs matches."""
        return any(fnmatchcase(text, glob) for glob in globs)


class SourceSettings(SettingsModel):
    """A Git repository and branch that holds environment specs."""

    name: Name = Field(description="Name of the source; unique.")
    url: str = Field(
        repr=False,
        min_length=1,
        max_length=2048,
        description="Local path, or https, ssh or file URL; credentials stand under `auth`.",
    )
    branch: str | None = Field(
        default=None, description="Branch that is followed; `main` where nothing else is named."
    )
    tag: str | None = Field(default=None, description="Tag that is followed, instead of a branch.")
    commit: str | None = Field(default=None, description="Commit that is held, instead of a branch.")
    path: str = Field(default="environments", description="Folder of the environment specs; empty: the root.")
    interval_s: Seconds = Field(
        default=60.0,
        ge=1,
        alias="interval",
        description="Duration between fetches of a remote, jitter added; a local path is also watched.",
    )
    drift_interval_s: Seconds = Field(
        default=300.0,
        ge=1,
        alias="drift_interval",
        description="Duration between passes over all databases, to see what was altered in them; in "
        "between, a pass looks at what a commit changed and at what is not in sync.",
    )
    fetch_timeout_s: Seconds = Field(
        default=60.0, ge=1, alias="fetch_timeout", description="Duration after which a fetch is given up."
    )
    history: Literal["reject", "alert", "accept"] = Field(
        default="alert",
        description="What a rewritten history does: keep the last good commit, go on and tell, go on.",
    )
    auth: AuthSettings | None = Field(default=None, description="What opens a remote.")
    signatures: SignatureSettings | None = Field(
        default=None,
        description="Whose signatures its commits have to carry; left out: none are asked for.",
    )
    webhook: WebhookSettings | None = Field(
        default=None, description="Who may wake the source over HTTP, by `POST /v1/webhooks/NAME`."
    )
    allow: AllowSettings = Field(
        default_factory=AllowSettings,
        description="What the specs of the source may use.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_revision(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        named = [key for key in ("branch", "tag", "commit") if value.get(key) is not None]
        if len(named) > 1:
            raise broken(f"has both a {named[0]} and a {named[1]}", "keep one of branch, tag and commit")
        url = value.get("url")
        if isinstance(url, str) and _URL_WITH_SECRET.match(url):
            raise broken("has a password in its url", "write it under auth, as password or token")
        return value if named else {**value, "branch": "main"}


class LimitSettings(SettingsModel):
    """Bounds of everything that waits, tries again or runs side by side."""

    lease_s: Seconds = Field(
        default=10.0,
        ge=1,
        alias="lease",
        description="Duration after which another worker takes over from a silent one.",
    )
    heartbeat_s: Seconds = Field(
        default=2.0,
        ge=0.1,
        alias="heartbeat",
        description="Duration between renewals of leases; at most half the lease, so that one may be missed.",
    )
    attempts: int = Field(
        default=5, ge=1, le=100, description="Attempts at an operation that fails for reasons that may pass."
    )
    crashes: int = Field(
        default=5,
        ge=3,
        le=100,
        description="Times in a row that daemons may die at an operation, while no step of it gets done,"
        " before it fails. Dying costs no attempt.",
    )
    retry_base_s: Seconds = Field(
        default=1.0,
        alias="retry_base",
        description="Duration before the second attempt; it doubles.",
    )
    retry_ceiling_s: Seconds = Field(
        default=60.0, alias="retry_ceiling", description="Longest duration between two attempts."
    )
    stop_grace_s: Seconds = Field(
        default=20.0,
        alias="stop_grace",
        description="Duration a stopping daemon waits for steps under way before it hands its work back.",
    )
    lock_timeout_s: Seconds = Field(
        default=2.0,
        alias="lock_timeout",
        description="Duration a statement waits for a lock; short, for others queue behind it. 0: no limit.",
    )
    statement_timeout_s: Seconds = Field(
        default=0.0,
        alias="statement_timeout",
        description="Duration a statement of a change may take. 0: no limit, for some changes take hours.",
    )
    connect_timeout_s: Seconds = Field(
        default=10.0,
        ge=0.1,
        alias="connect_timeout",
        description="Duration in which a connection has to open.",
    )
    read_timeout_s: Seconds = Field(
        default=60.0,
        ge=1,
        alias="read_timeout",
        description="Duration in which one deployment's states have to be read; then it is unavailable.",
    )
    full_read_interval_s: Seconds = Field(
        default=600.0,
        alias="full_read_interval",
        description="Duration after which a catalog is read in full though nothing seems to have moved.",
    )
    connections_per_database: int = Field(
        default=4, ge=2, le=100, description="Connections to one managed database, at most."
    )
    connections_per_server: int = Field(
        default=20,
        ge=2,
        le=10_000,
        description="Connections to one PostgreSQL server for reading, at most; each operation has its own.",
    )
    connections_total: int = Field(
        default=40, ge=4, le=10_000, description="Connections to all managed databases, at most."
    )
    operations_per_server: int = Field(
        default=16,
        ge=1,
        le=10_000,
        description="Operations at work on one PostgreSQL server, of all daemons together, at most.",
    )
    passes_in_parallel: int = Field(
        default=8, ge=1, le=1000, description="Environments that are read and planned side by side, at most."
    )
    deployments_in_parallel: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="Deployments of one environment that are read side by side, at most.",
    )

    @model_validator(mode="after")
    def _heartbeat_within_lease(self) -> "LimitSettings":
        if self.heartbeat_s * 2 > self.lease_s:
            raise broken("has a heartbeat of more than half the lease", "lengthen lease or shorten heartbeat")
        return self


class TlsSettings(SettingsModel):
    """Certificates of the API; files that are renewed on disk are taken without a restart."""

    certificate: str = Field(min_length=1, description="File of the certificate and its chain, as PEM.")
    key: str = Field(min_length=1, description="File of its private key, as PEM, without a passphrase.")
    client_ca: str | None = Field(
        default=None,
        description="File of the CAs one of which must have signed the certificate of every client, as PEM.",
    )


class RequestSettings(SettingsModel):
    """Bounds of what callers may ask of the API."""

    in_parallel: int = Field(
        default=256, ge=1, le=10_000, description="Requests at once, beside those of health and metrics."
    )
    dry_runs_in_parallel: int = Field(default=8, ge=1, le=1000, description="Dry runs made at once.")
    dry_runs_waiting: int = Field(
        default=32, ge=0, le=10_000, description="Dry runs that wait for their turn; more are sent away."
    )
    writes_per_minute: int = Field(
        default=600, ge=1, le=1_000_000, description="Writes that one token may ask for in a minute."
    )
    failures_per_minute: int = Field(
        default=60,
        ge=1,
        le=1_000_000,
        description="Wrong tokens and signatures of one address in a minute that are told so.",
    )
    webhook_bytes: int = Field(
        default=1024 * 1024, ge=1024, le=32 * 1024 * 1024, description="Size of a webhook's body, at most."
    )


@dataclass(frozen=True, slots=True)
class OwnSecrets:
    """Where the daemon's own secrets stand; no spec may refer to them."""

    variables: frozenset[str]
    files: frozenset[str]


def _listen(value: object) -> object:
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise broken("must be an address with a port", "write it as in 127.0.0.1:8080 or [::1]:8080")
    return value


def _state_dir(value: object) -> object:
    if isinstance(value, str) and (not value or "\x00" in value):
        raise broken("must be the path of a folder")
    return value


class Settings(SettingsModel):
    """Everything a daemon is told before it starts."""

    control: ControlSettings | None = Field(
        default=None, description="The control database; left out: an embedded PostgreSQL below `state_dir`."
    )
    state_dir: Annotated[str, BeforeValidator(_state_dir)] = Field(
        default="/var/lib/reconciler", description="Folder of mirrors and of the embedded PostgreSQL."
    )
    listen: Annotated[str, BeforeValidator(_listen)] = Field(
        default="127.0.0.1:8080", description="Address and port the API answers on."
    )
    workers: int = Field(
        default=4,
        ge=1,
        le=64,
        description="Operations this daemon works on side by side; those under way for more than ten seconds "
        "leave their places to others, until they are three times as many themselves.",
    )
    tokens: Annotated[tuple[TokenSettings, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), description="Tokens of the API; left out: it answers on loopback only and asks for none."
    )
    sources: Annotated[tuple[SourceSettings, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), description="Git repositories that hold environment specs."
    )
    secrets: SecretsSettings = Field(
        default_factory=SecretsSettings, description="How encrypted values of specs and settings are opened."
    )
    runtimes: RuntimesSettings = Field(
        default_factory=RuntimesSettings, description="What services and jobs of environments are run by."
    )
    proxies: Annotated[tuple[ProxySettings, ...], Field(strict=False, max_length=PROXIES_MAX)] = Field(
        default=(), description="Reverse proxies that routes of environments are set in."
    )
    limits: LimitSettings = Field(
        default_factory=LimitSettings, description="Bounds of what waits, tries again or runs side by side."
    )
    requests: RequestSettings = Field(
        default_factory=RequestSettings, description="Bounds of what callers may ask of the API."
    )
    tls: TlsSettings | None = Field(
        default=None, description="Certificates of the API; left out: it speaks plain HTTP."
    )

    @model_validator(mode="after")
    def _unique(self) -> "Settings":
        for what, names in (
            ("token", [token.name for token in self.tokens]),
            ("source", [source.name for source in self.sources]),
            ("proxy", [proxy.name for proxy in self.proxies]),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise broken(f"duplicate {what} '{twice[0]}'", f"give each {what} a name of its own")
        return self

    def own_secrets(self) -> OwnSecrets:
        """Where the secrets of these settings stand."""
        values = [*self.secrets.age_keys, *(token.value for token in self.tokens)]
        if self.control is not None:
            values.append(self.control.dsn)
        files: set[str] = {self.tls.key} if self.tls is not None else set()
        for source in self.sources:
            if source.webhook is not None:
                values.append(source.webhook.secret)
                values += [source.webhook.previous] if source.webhook.previous is not None else []
            if source.auth is not None:
                values += [value for value in (source.auth.password, source.auth.token) if value is not None]
                files |= {path for path in (source.auth.ssh_key, source.auth.known_hosts) if path is not None}
        return OwnSecrets(
            variables=frozenset(value.env for value in values if value.env is not None),
            files=frozenset(files | {value.file for value in values if value.file is not None}),
        )


@dataclass(frozen=True, slots=True)
class Merged:
    """Settings before they are checked, and which environment variable gave the value at a path."""

    data: dict[str, Any]
    variables: Mapping[tuple[str, ...], str]


def environment_names() -> dict[str, tuple[tuple[str, ...], Any]]:
    """Return the environment variables that set something: name to path and type.

    `RECONCILER_LIMITS_LEASE` and `RECONCILER_LIMITS__LEASE` mean the same. Lists are set in the file only.
    """
    found: dict[str, tuple[tuple[str, ...], Any]] = {}
    for path, annotation in _leaves(Settings, ()):
        for joint in ("_", "__"):
            found[PREFIX + joint.join(path).upper()] = (path, annotation)
    return found


def merge(data: Mapping[str, Any], environ: Mapping[str, str]) -> Merged:
    """Put what the environment sets over what a file sets; an empty variable sets nothing."""
    merged = dict(data)
    variables: dict[tuple[str, ...], str] = {}
    for name, (path, annotation) in environment_names().items():
        text = environ.get(name)
        if not text:
            continue
        target = merged
        for part in path[:-1]:
            below = target.get(part)
            target[part] = dict(below) if isinstance(below, Mapping) else {}
            target = target[part]
        target[path[-1]] = _from_variable(name, text, annotation)
        variables[path] = name
    return Merged(merged, variables)


def load_settings(data: Mapping[str, Any], environ: Mapping[str, str], *, file: str) -> Settings:
    """Make settings of a file's mapping and the environment, which wins. Raises SettingsError.

    Prefer `settings_text.load` where the text is at hand: it knows lines and columns.
    """
    try:
        return Settings.model_validate(merge(data, environ).data)
    except ValidationError as error:
        raise SettingsError(
            [
                Problem(
                    file=file, path=".".join(str(part) for part in row["loc"]) or None, message=row["msg"]
                )
                for row in error.errors(include_url=False, include_input=False)
            ]
        ) from None


def _leaves(model: type[BaseModel], path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, field in model.model_fields.items():
        below = (*path, field.alias or name)
        annotation = _without_none(field.annotation)
        if (
            annotation is not SecretValue
            and isinstance(annotation, type)
            and issubclass(annotation, BaseModel)
        ):
            found += _leaves(annotation, below)
        elif get_origin(annotation) is not tuple:
            found.append((below, annotation))
    return found


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return next(member for member in get_args(annotation) if member is not type(None))
    return annotation


def _from_variable(name: str, text: str, annotation: Any) -> object:
    """Give the text of a variable the type of its setting; a secret stays where it is."""
    if annotation is SecretValue:
        return {"env": name}
    if annotation is bool and text in {"true", "false"}:
        return text == "true"
    return int(text) if annotation is int and re.fullmatch(r"[0-9]{1,9}", text) else text
