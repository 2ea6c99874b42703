"""Find and read the settings file; the only place that does."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.cli.address import CONFIG_BYTES_MAX, CONFIG_PLACES
from reconciler.errors import NotFound
from reconciler.settings import Settings, SourceSettings
from reconciler.spec import settings_text


def load(
    config: str | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of --config, else of the working directory, else of /etc/reconciler, else the defaults.

    `overrides` are options of the command line; they win over the file and the environment.
    """
    place = find(config)
    settings = settings_text.load(
        str(place) if place is not None else "settings",
        _content(place) if place is not None else b"",
        environ,
        overrides,
    )
    elsewhere = "state_dir" in (overrides or {}) or bool(environ.get("RECONCILER_STATE_DIR"))
    folder = place.absolute().parent if place is not None else Path.cwd()
    return _from_where_it_stands(settings, folder, default_state_dir(environ), elsewhere=elsewhere)


def find(config: str | None) -> Path | None:
    """The settings file; one that was named must be there."""
    if config is not None:
        if not Path(config).is_file():
            raise NotFound(
                f"there is no settings file '{config}'", hint="check --config or RECONCILER_CONFIG"
            )
        return Path(config)
    return next((Path(place) for place in CONFIG_PLACES if Path(place).is_file()), None)


def _content(path: Path) -> bytes:
    """The bytes of a settings file; one more than the limit tells that it is too long."""
    with path.open("rb") as file:
        return file.read(CONFIG_BYTES_MAX + 1)


def _from_where_it_stands(settings: Settings, folder: Path, state_dir: str, *, elsewhere: bool) -> Settings:
    """Paths in a settings file are meant from the folder it is in, wherever the daemon is started.

    `elsewhere` says that the state directory was not named in the file.
    """
    if not elsewhere:
        named = "state_dir" in settings.model_fields_set
        state_dir = str(folder / settings.state_dir) if named else state_dir
    else:
        state_dir = settings.state_dir
    sources = tuple(_with_paths(source, folder) for source in settings.sources)
    return settings.model_copy(update={"state_dir": state_dir, "sources": sources})


def _with_paths(source: SourceSettings, folder: Path) -> SourceSettings:
    """A source whose address and files of keys are meant from a folder, where they are not absolute."""
    update: dict[str, Any] = {}
    if "://" not in source.url and source.url.startswith("."):
        update["url"] = os.path.normpath(folder / source.url)
    if source.auth is not None:
        names = ("ssh_key", "known_hosts", "ca")
        update["auth"] = source.auth.model_copy(
            update={name: _absolute(getattr(source.auth, name), folder) for name in names}
        )
    if source.signatures is not None:
        given = source.signatures
        update["signatures"] = given.model_copy(
            update={
                "gpg_keys": tuple(str(folder / path) for path in given.gpg_keys),
                "ssh_allowed_signers": _absolute(given.ssh_allowed_signers, folder),
            }
        )
    return source.model_copy(update=update)


def _absolute(path: str | None, folder: Path) -> str | None:
    return str(folder / path) if path is not None else None


def default_state_dir(environ: Mapping[str, str]) -> str:
    """/var/lib/reconciler for root, else where programs of a user keep their state."""
    if os.geteuid() == 0:
        return "/var/lib/reconciler"
    base = environ.get("XDG_STATE_HOME") or str(
        Path(environ.get("HOME") or "~").expanduser() / ".local/state"
    )
    return str(Path(base) / "reconciler")
