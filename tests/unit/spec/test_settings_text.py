"""The daemon's own settings: strict, overridden by the environment, and silent about secrets."""

import pytest

from reconciler.errors import SettingsError
from reconciler.settings import Settings
from reconciler.spec.settings_text import load

SECRET = "sw0rdfish"
FULL = f"""\
control: {{dsn: "postgresql://me:{SECRET}@db/control"}}
state_dir: /srv/state
listen: 127.0.0.1:9000
workers: 2
tokens:
  - {{name: ci, role: read, value: {{env: CI_TOKEN}}}}
sources:
  - name: platform
    url: https://git.example.com/environments.git
    interval: 5m
    auth: {{username: reader, password: {SECRET}}}
limits: {{lease: 1500ms, heartbeat: 0.5s, lock_timeout: 3}}
"""


def told(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load("r.yaml", text.encode(), environ or {})
    return [str(problem) for problem in caught.value.problems]


def test_everything_is_read() -> None:
    """Durations have units, a source follows `main` where it names nothing else."""
    settings = load("r.yaml", FULL.encode(), {})
    assert (settings.listen, settings.workers) == ("127.0.0.1:9000", 2)
    assert settings.sources[0].interval_s == 300
    assert settings.sources[0].branch == "main"
    assert (settings.limits.lease_s, settings.limits.lock_timeout_s) == (1.5, 3)


def test_nothing_set_means_the_defaults() -> None:
    """An empty file is no error."""
    assert load("r.yaml", b"", {}) == Settings()


def test_environment_wins_over_the_file_and_options_over_both() -> None:
    """RECONCILER_* sets what the file sets; a section is joined by one underscore or two."""
    environ = {
        "RECONCILER_WORKERS": "7",
        "RECONCILER_LIMITS__LEASE": "20s",
        "RECONCILER_LISTEN": "127.0.0.1:1",
    }
    settings = load("r.yaml", FULL.encode(), environ, {"listen": "127.0.0.1:2"})
    assert (settings.workers, settings.limits.lease_s, settings.listen) == (7, 20, "127.0.0.1:2")


def test_control_database_by_the_environment() -> None:
    """A connection string may come by the environment alone."""
    settings = load("r.yaml", b"", {"RECONCILER_CONTROL_DSN": f"host=db password={SECRET}"})
    assert settings.control is not None
    assert SECRET not in repr(settings)


def test_secrets_are_never_shown() -> None:
    """Not by repr, str or JSON."""
    settings = load("r.yaml", FULL.encode(), {})
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()


def test_all_problems_are_told_with_their_places() -> None:
    """Unknown keys with a hint, wrong types, duplicate names: at once, by line and column."""
    text = "listn: x\nworkers: many\nlimits: {lease: soon}\nsources:\n  - {name: a, url: ./x, intervall: 3}\n"
    messages = told(text)
    assert [message.split(": ")[0] for message in messages] == [
        "r.yaml:1:1",
        "r.yaml:2:10",
        "r.yaml:3:17",
        "r.yaml:5:25",
    ]
    assert "did you mean 'listen'?" in messages[0]
    assert "did you mean 'interval'?" in messages[3]


def test_problem_of_a_variable_names_the_variable() -> None:
    """A wrong value from the environment is not blamed on the file."""
    assert any("RECONCILER_WORKERS" in message for message in told("", {"RECONCILER_WORKERS": "many"}))


def test_wrong_secret_is_not_quoted() -> None:
    """A secret in the wrong shape is refused without its text."""
    assert SECRET not in "".join(told(f"control: {{dsn: [{SECRET}]}}\n"))


@pytest.mark.parametrize("text", ["- a\n", "a: 1\n---\nb: 2\n", "a: [", "\xff"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    """One mapping of YAML, and nothing else."""
    assert told(text)
