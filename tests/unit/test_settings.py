"""Settings are one frozen value that shows no secret and takes its parts from file and environment."""

# ruff: noqa: E501 - tables are read by the row

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from reconciler.errors import SettingsError
from reconciler.settings import AllowSettings, SecretValue, Settings, environment_names, load_settings
from reconciler.spec.settings_text import load

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hunter2-is-a-secret"


def made(data: dict[str, Any], environ: dict[str, str] | None = None) -> Settings:
    return load_settings(data, environ or {}, file="r.yaml")


def test_the_documented_example_is_read() -> None:
    """The example of the reference page makes settings."""
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    settings = load("r.yaml", page.split("```yaml\n")[1].split("```")[0].encode(), {})
    assert [source.name for source in settings.sources] == ["platform"]


SETTINGS = {
    "control": {"dsn": f"postgres://u:{SECRET}@h/db"},
    "tokens": [{"name": "ci", "role": "read", "value": SECRET}],
    "sources": [
        {"name": "p", "url": "https://h/x", "auth": {"username": "u", "password": SECRET},
         "webhook": {"provider": "github", "secret": SECRET}},
        {"name": "q", "url": "/x", "auth": {"token": SECRET, "ssh_key": "/key"}},
    ],
}  # fmt: skip


def test_no_secret_is_ever_shown() -> None:
    """Text, repr, dump and JSON of settings leave secrets out."""
    settings = made(SETTINGS)
    shown = (str(settings), repr(settings), str(settings.model_dump()), settings.model_dump_json())
    assert all(SECRET not in text for text in shown)
    assert settings.control is not None
    assert SECRET not in f"{settings.control.dsn} {settings.control.dsn!r}"
    assert settings.tokens[0].value.text == SECRET


def test_no_secret_is_shown_where_settings_are_wrong() -> None:
    """Errors do not repeat what was given, whoever prints them."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({**SETTINGS, "tokens": [{"name": "ci", "value": SECRET}], "workers": SECRET})
    assert SECRET not in str(caught.value)
    with pytest.raises(SettingsError) as told:
        made({"control": {"dsn": {SECRET: 1}}, "tokens": [{"name": "ci", "role": SECRET, "value": SECRET}]})
    assert SECRET not in str(told.value)


def test_settings_are_frozen() -> None:
    """Nothing changes them after they are made."""
    with pytest.raises(ValidationError):
        made({}).workers = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("60s", 60), ("1.5m", 90), ("1h", 3600), ("1d", 86400), (90, 90), (0.5, 0.5), ("0", 0)],
)
def test_durations_have_units(text: object, seconds: float) -> None:
    """A number without a unit is seconds."""
    assert made({"limits": {"retry_base": text}}).limits.retry_base_s == seconds


@pytest.mark.parametrize(
    "text", ["", "fast", "-1s", "1 s", "1w", "1e3", "inf", "nan", "9" * 30 + "s", "1s1s", None, [], True]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(SettingsError):
        made({"limits": {"retry_base": text}})


@pytest.mark.parametrize("path", sorted(environment_names()))
def test_each_variable_sets_its_setting(path: str) -> None:
    """The value of a variable arrives at the path that the page gives for it."""
    place, annotation = environment_names()[path]
    secret = annotation is SecretValue
    texts = {
        ("listen",): "127.0.0.1:9",
        ("requests", "webhook_bytes"): "4096",
        ("runtimes", "container", "host"): "tcp://10.0.0.7:2376",
        ("runtimes", "systemd", "user"): "true",
    }
    text = texts.get(place, "4")
    beside = {"tls": {"certificate": "a.pem", "key": "b.pem"}} if place[0] == "tls" else {}
    settings = made(beside, {path: text})
    value: Any = settings
    for part in place:
        names = {field.alias or name: name for name, field in type(value).model_fields.items()}
        value = getattr(value, names[part])
    assert value == (SecretValue.model_validate({"env": path}) if secret else annotation(text))


def test_variables_are_distinct() -> None:
    """No two settings share a variable, and the command line's own is none of them."""
    names = environment_names()
    paths = {place for place, _annotation in names.values()}
    assert len(names) == sum(1 if len(place) == 1 else 2 for place in paths)
    assert "RECONCILER_CONFIG" not in names
    assert "RECONCILER_TOKEN" not in names


def test_an_empty_variable_sets_nothing() -> None:
    """Units and compose files often pass variables on that are not set."""
    assert made({"workers": 2}, {"RECONCILER_WORKERS": "", "RECONCILER_CONTROL_DSN": ""}).workers == 2


def test_a_secret_in_the_environment_stays_there() -> None:
    """Settings hold the name of the variable, also where it replaces what the file says."""
    for data in ({}, {"control": {"dsn": {"file": "/x"}}}, {"control": {"dsn": "text"}}):
        settings = made(data, {"RECONCILER_CONTROL_DSN": SECRET})
        assert settings.control is not None
        assert settings.control.dsn == SecretValue.model_validate({"env": "RECONCILER_CONTROL_DSN"})


def test_unknown_variables_are_left_alone() -> None:
    """Secrets are kept in variables of any name."""
    assert made({}, {"RECONCILER_CI_TOKEN": "x", "RECONCILER_CONFIG": "y"}) == Settings()


def test_a_source_follows_main_unless_told_otherwise() -> None:
    """Exactly one of branch, tag and commit is set."""
    sources = made(
        {"sources": [
            {"name": "a", "url": "/x"}, {"name": "b", "url": "/x", "tag": "t"}, {"name": "c", "url": "/x", "branch": "b"},
        ]}
    ).sources  # fmt: skip
    assert [(source.branch, source.tag) for source in sources] == [("main", None), (None, "t"), ("b", None)]


@pytest.mark.parametrize(
    "url", ["ssh://git@h/x", "git@h:x.git", "https://h:8443/x", "/path:with@odd/x", "file:///x"]
)
def test_urls_without_secrets_are_taken(url: str) -> None:
    """A user name or a port in a url is no password."""
    assert made({"sources": [{"name": "a", "url": url}]}).sources[0].url == url


def test_own_secrets_are_listed() -> None:
    """Every place a secret of these settings stands is known, so that specs can be kept from it."""
    own = made(
        {
            "control": {"dsn": {"env": "CONTROL"}},
            "tokens": [{"name": "ci", "role": "read", "value": {"file": "/run/token"}}],
            "sources": [
                {"name": "a", "url": "/x", "auth": {"password": {"env": "PASSWORD"}, "ssh_key": "/key"}},
                {"name": "b", "url": "/x", "auth": {"token": {"env": "TOKEN"}},
                 "webhook": {"provider": "gitlab", "secret": {"file": "/run/hook"}}},
            ],
        }
    ).own_secrets()  # fmt: skip
    assert own.variables == {"CONTROL", "PASSWORD", "TOKEN"}
    assert own.files == {"/run/token", "/key", "/run/hook"}


def test_globs_match_case_and_slashes() -> None:
    """A star matches anything; case counts."""
    assert AllowSettings.permits(("/run/*",), "/run/a/b")
    assert not AllowSettings.permits(("SHOP_*",), "shop_dsn")
    assert not AllowSettings.permits((), "x")


def test_settings_survive_json() -> None:
    """What can be shown can be shown as JSON."""
    assert json.loads(made(SETTINGS).model_dump_json(by_alias=True))["limits"]["lease"] == 10.0


@pytest.mark.parametrize("signatures", [{}, {"gpg_keys": []}, {"ssh_allowed_signers": ""}])
def test_signatures_name_a_key(signatures: dict[str, Any]) -> None:
    """Asking for signatures without naming a key would refuse everything, and is told."""
    with pytest.raises(SettingsError, match="names no key"):
        made({"sources": [{"name": "p", "url": "/x", "signatures": signatures}]})


PROXIES = [{"name": "edge", "caddy": {"admin": "http://127.0.0.1:2019"}}]


@pytest.mark.parametrize(
    "wrong",
    [
        {"proxies": [*PROXIES, *PROXIES]},
        {"proxies": [{"name": "edge", "caddy": {"admin": "127.0.0.1:2019"}}]},
        {"proxies": [{"name": "edge", "caddy": {"admin": "http://127.0.0.1:2019", "listen": []}}]},
        {"runtimes": {"container": {"host": "/var/run/docker.sock"}}},
        {"runtimes": {"place": ""}},
    ],
    ids=["twice", "no-scheme", "listens-nowhere", "no-address", "no-place"],
)
def test_runtimes_and_proxies_are_checked(wrong: dict[str, Any]) -> None:
    """What could lead to nothing is told when the settings are read."""
    assert made({"proxies": PROXIES}).proxies[0].caddy.listen == (":80",)
    with pytest.raises(SettingsError):
        made(wrong)
