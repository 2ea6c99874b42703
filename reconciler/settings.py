"""The daemon's own settings as one frozen value; it holds references to secrets and reads nothing itself."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from reconciler.errors import Problem, SettingsError

PREFIX = "RECONCILER_"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(value: Any) -> Any:
    """`500ms`, `60s`, `5m`, `1h`, or a number of seconds."""
    if isinstance(value, str):
        for unit in ("ms", "s", "m", "h"):
            number = value.removesuffix(unit)
            if number != value and number.replace(".", "", 1).isdigit():
                return float(number) * _UNITS[unit]
        if value.replace(".", "", 1).isdigit():
            return float(value)
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, le=7 * 24 * 3600)]


class SettingsModel(BaseModel):
    """What all settings share."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)


class SecretValue(SettingsModel):
    """A secret: written out, or where it stands."""

    env: str | None = Field(default=None)
    file: str | None = Field(default=None)
    text: str | None = Field(default=None, repr=False, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one(self) -> "SecretValue":
        if sum(part is not None for part in (self.env, self.file, self.text)) != 1:
            raise ValueError("give a string, {env: NAME} or {file: PATH}")
        return self


class ControlSettings(SettingsModel):
    """The control database."""

    dsn: SecretValue


class TokenSettings(SettingsModel):
    """A token of the API."""

    name: str
    role: Literal["read", "provision", "operate", "admin"]
    value: SecretValue


class AuthSettings(SettingsModel):
    """How to authenticate to a source."""

    username: str | None = None
    password: SecretValue | None = None
    token: SecretValue | None = None
    ssh_key: str | None = None
    known_hosts: str | None = None


class SourceSettings(SettingsModel):
    """A Git repository and branch that holds environment specs."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")
    url: str = Field(repr=False)
    branch: str | None = None
    tag: str | None = None
    commit: str | None = None
    path: str = "environments"
    interval_s: Seconds = Field(default=60.0, alias="interval", ge=1)
    fetch_timeout_s: Seconds = Field(default=60.0, alias="fetch_timeout")
    history: Literal["reject", "alert", "accept"] = "alert"
    auth: AuthSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_branch(cls, value: Any) -> Any:
        if isinstance(value, dict) and not {"branch", "tag", "commit"} & set(value):
            return {**value, "branch": "main"}
        return value


class LimitSettings(SettingsModel):
    """Bounds of everything that waits, tries again or runs side by side."""

    lease_s: Seconds = Field(default=10.0, alias="lease")
    heartbeat_s: Seconds = Field(default=2.0, alias="heartbeat")
    attempts: int = 5
    retry_base_s: Seconds = Field(default=1.0, alias="retry_base")
    retry_ceiling_s: Seconds = Field(default=60.0, alias="retry_ceiling")
    stop_grace_s: Seconds = Field(default=20.0, alias="stop_grace")
    lock_timeout_s: Seconds = Field(default=2.0, alias="lock_timeout")
    statement_timeout_s: Seconds = Field(default=0.0, alias="statement_timeout")
    connect_timeout_s: Seconds = Field(default=10.0, alias="connect_timeout")
    read_timeout_s: Seconds = Field(default=60.0, alias="read_timeout")
    full_read_interval_s: Seconds = Field(default=600.0, alias="full_read_interval")
    connections_per_database: int = 4
    connections_total: int = 40
    passes_in_parallel: int = 8
    deployments_in_parallel: int = 8


class Settings(SettingsModel):
    """Everything."""

    control: ControlSettings | None = None
    state_dir: str = "/var/lib/reconciler"
    listen: str = Field(default="127.0.0.1:8080", pattern=r"^.+:\d{1,5}$")
    workers: int = Field(default=4, ge=1, le=64)
    tokens: tuple[TokenSettings, ...] = ()
    sources: tuple[SourceSettings, ...] = ()
    limits: LimitSettings = Field(default_factory=LimitSettings)


def load_settings(data: Mapping[str, Any], environ: Mapping[str, str], *, file: str) -> Settings:
    """Make settings of a file's mapping and the environment, which wins."""
    merged: dict[str, Any] = dict(data)
    if PREFIX + "CONTROL_DSN" in environ and "control" not in merged:
        merged["control"] = {"dsn": {"env": PREFIX + "CONTROL_DSN"}}
    for name in ("state_dir", "listen", "workers"):
        if PREFIX + name.upper() in environ:
            merged[name] = environ[PREFIX + name.upper()]
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(
            [
                Problem(file=file, path=".".join(str(part) for part in row["loc"]), message=row["msg"])
                for row in error.errors(include_url=False, include_input=False)
            ]
        ) from None
