"""Settings files are read as strictly as specs."""

# ruff: noqa: E501 - expected messages stand in one piece

import pytest

from reconciler.errors import SettingsError
from reconciler.settings import Settings
from reconciler.spec.settings_text import load

SECRET = "hunter2-is-a-secret"


def problems(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load("r.yaml", text.encode(), environ or {})
    return [str(problem) for problem in caught.value.problems]


def test_a_file_is_read_with_the_environment_over_it() -> None:
    """Options win over the environment, and the environment over the file."""
    text = b"state_dir: /file\nworkers: 2\nlisten: 127.0.0.1:1\n"
    environ = {"RECONCILER_WORKERS": "3", "RECONCILER_LISTEN": "127.0.0.1:2"}
    settings = load("r.yaml", text, environ, {"listen": "127.0.0.1:3"})
    assert (settings.state_dir, settings.workers, settings.listen) == ("/file", 3, "127.0.0.1:3")


@pytest.mark.parametrize("text", [b"", b"# nothing\n", b"---\n"])
def test_an_empty_file_sets_nothing(text: bytes) -> None:
    """Everything has a default."""
    assert load("r.yaml", text, {}) == Settings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("contrl: 1\n", "r.yaml:1:1: unknown key 'contrl' (did you mean 'control'?)"),
        ("control: {dsn: {evn: x}}\n", "r.yaml:1:16: control.dsn: must be a secret (write a string, {env: NAME}, {file: PATH} or {age: …})"),
        ("control: {dsn: {text: x}}\n", "r.yaml:1:16: control.dsn: must be a secret (write a string, {env: NAME}, {file: PATH} or {age: …})"),
        ("control: {dsn: ''}\n", "r.yaml:1:16: control.dsn: must be a secret (write a string, {env: NAME}, {file: PATH} or {age: …})"),
        ("control: {}\n", "r.yaml:1:10: control: key 'dsn' is missing"),
        ("listen: nope\n", "r.yaml:1:9: listen: must be an address with a port (write it as in 127.0.0.1:8080 or [::1]:8080)"),
        ("listen: h:65536\n", "r.yaml:1:9: listen: must be an address with a port (write it as in 127.0.0.1:8080 or [::1]:8080)"),
        ("workers: '4'\n", "r.yaml:1:10: workers: must be a whole number, not text"),
        ("workers: true\n", "r.yaml:1:10: workers: must be a whole number, not true or false"),
        ("workers: 0\n", "r.yaml:1:10: workers: must be at least 1"),
        ("workers: 65\n", "r.yaml:1:10: workers: must be at most 64"),
        ("state_dir: ''\n", "r.yaml:1:12: state_dir: must be the path of a folder"),
        ("limits: {lease: fast}\n", "r.yaml:1:17: limits.lease: must be a duration (write it as in 500ms, 60s, 5m or 1h)"),
        ("limits: {lease: true}\n", "r.yaml:1:17: limits.lease: must be a duration (write it as in 500ms, 60s, 5m or 1h)"),
        ("limits: {lease: 100d}\n", "r.yaml:1:17: limits.lease: must be at most 604800"),
        ("limits: {lease_s: 10}\n", "r.yaml:1:10: limits: unknown key 'lease_s' (did you mean 'lease'?)"),
        ("limits: {lease: 3s, heartbeat: 2s}\n", "r.yaml:1:9: limits: has a heartbeat of more than half the lease (lengthen lease or shorten heartbeat)"),
        ("sources: [{name: A b, url: /x}]\n", "r.yaml:1:18: sources[0].name: is not a valid name (1 to 63 of a-z, 0-9, '.', '_' and '-')"),
        ("sources: [{name: a}]\n", "r.yaml:1:11: sources[0]: key 'url' is missing"),
        ("sources: [{name: a, url: /x}, {name: a, url: /y}]\n", "r.yaml:1:1: duplicate source 'a' (give each source a name of its own)"),
        ("sources: [{name: a, url: /x, tag: t, commit: c}]\n", "r.yaml:1:11: sources[0]: has both a tag and a commit (keep one of branch, tag and commit)"),
        (f"sources: [{{name: a, url: 'https://u:{SECRET}@h/x'}}]\n", "r.yaml:1:11: sources[0]: has a password in its url (write it under auth, as password or token)"),
        (f"sources: [{{name: a, url: /x, auth: {{password: {SECRET}, token: {SECRET}}}}}]\n", "r.yaml:1:36: sources[0].auth: has both a password and a token (keep one of them)"),
        (f"tokens: [{{name: ci, role: rad, value: {SECRET}}}]\n", "r.yaml:1:27: tokens[0].role: must be read, provision, operate or admin, not 'rad' (did you mean 'read'?)"),
        ("- a\n", "r.yaml:1:1: the settings must be a mapping"),
        ("a: 1\n---\nb: 2\n", "r.yaml:3:1: the settings are one document"),
        ("workers: 1\nworkers: 2\n", "r.yaml:2:1: duplicate key 'workers' (the first one is on line 1)"),
        ("workers: [\n", "r.yaml:2:1: workers: not valid YAML: did not find expected node content, while parsing a flow node"),
    ],
)  # fmt: skip
def test_mistakes_are_told_exactly(text: str, expected: str) -> None:
    """One mistake is one message, at its line and column, with what to do."""
    assert problems(text) == [expected]


def test_mistakes_in_the_environment_name_the_variable() -> None:
    """Nobody looks for them in the file; a secret in a variable is not part of the message."""
    assert problems("workers: 2\n", {"RECONCILER_WORKERS": "many", "RECONCILER_LIMITS__LEASE": SECRET}) == [
        "environment variable RECONCILER_WORKERS: workers: must be a whole number, not text",
        "environment variable RECONCILER_LIMITS__LEASE: limits.lease: must be a duration (write it as in 500ms, 60s, 5m or 1h)",
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"tokens: [{{name: &x {SECRET}, role: *x, value: *x}}]\n",
        f"control: {{dsn: {{{SECRET}: {SECRET}}}}}\n",
        f"control: {{dsn: {SECRET}, dsn: {SECRET}, {SECRET}: 1}}\n",
        f"control: {{dsn: &{SECRET}}}\n",
        f"control: {{dsn: *{SECRET}}}\n",
        f'control: {{dsn: "{SECRET}\n',
        f"sources: [{{name: a, url: 'https://u:{SECRET}@h', interval: x}}]\n",
        f"sources: [{{name: a, url: /x, webhook: {{provider: &x {SECRET}, secret: *x}}}}]\n",
    ],
)
def test_secrets_are_never_told(text: str) -> None:
    """Neither messages nor hints hold what stands under a key of secrets."""
    assert SECRET not in str(problems(text))
