"""Find and read the settings file; the only place that does."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.cli.address import CONFIG_BYTES_MAX, CONFIG_PLACES
from reconciler.errors import NotFound, Problem, SettingsError
from reconciler.settings import Settings, load_settings
from reconciler.spec import yaml_text


def load(
    config: str | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of --config, else of the working directory, else of /etc/reconciler, else the defaults.

    `overrides` are options of the command line; they win over the file and the environment.
    """
    place = find(config)
    data = _from_where_it_stands(read(place), place.absolute().parent) if place is not None else {}
    for key, value in (overrides or {}).items():
        data[key] = value
        environ = {name: text for name, text in environ.items() if name != f"RECONCILER_{key.upper()}"}
    if "state_dir" not in data and "RECONCILER_STATE_DIR" not in environ:
        data["state_dir"] = default_state_dir(environ)
    return load_settings(data, environ, file=str(place) if place is not None else "settings")


def find(config: str | None) -> Path | None:
    """The settings file; one that was named must be there."""
    if config is not None:
        if not Path(config).is_file():
            raise NotFound(
                f"there is no settings file '{config}'", hint="check --config or RECONCILER_CONFIG"
            )
        return Path(config)
    return next((Path(place) for place in CONFIG_PLACES if Path(place).is_file()), None)


def read(path: Path) -> dict[str, Any]:
    """The mapping in a settings file, read as strictly as a spec."""
    with path.open("rb") as file:
        content = file.read(CONFIG_BYTES_MAX + 1)
    loaded = yaml_text.load(str(path), content)
    if loaded.problems:
        raise SettingsError(loaded.problems)
    if not loaded.documents:
        return {}
    value = loaded.documents[0].plain()
    if len(loaded.documents) > 1 or not (value is None or isinstance(value, dict)):
        raise SettingsError([Problem(file=str(path), message="the settings are one mapping")])
    return dict(value or {})


def _from_where_it_stands(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Paths in a settings file are meant from the folder it is in, wherever the daemon is started."""
    if isinstance(data.get("state_dir"), str):
        data["state_dir"] = str(folder / data["state_dir"])
    sources = data.get("sources")
    if isinstance(sources, list):
        data["sources"] = [_local_source(source, folder) for source in sources]
    return data


def _local_source(source: Any, folder: Path) -> Any:
    url = source.get("url") if isinstance(source, dict) else None
    if not isinstance(url, str) or "://" in url or not url.startswith("."):
        return source
    return {**source, "url": os.path.normpath(folder / url)}


def default_state_dir(environ: Mapping[str, str]) -> str:
    """/var/lib/reconciler for root, else where programs of a user keep their state."""
    if os.geteuid() == 0:
        return "/var/lib/reconciler"
    base = environ.get("XDG_STATE_HOME") or str(
        Path(environ.get("HOME") or "~").expanduser() / ".local/state"
    )
    return str(Path(base) / "reconciler")
