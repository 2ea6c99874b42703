"""Masking secrets in text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.postgres.redact import redact


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:s3cret@host:5432/db?sslmode=require",
        "cloning https://user:s3cret@git.example.com/x.git failed",
        "https://s3cret@git.example.com/x.git",
        "postgres://u:p/@s3cret@host/db",
        "postgres://u:s3cret@p:x@host/db",
        "host=h password=s3cret user=u",
        "host=h password = 's3cret with spaces' user=u",
        r"host=h password='it\'s s3cret' user=u",
        '{"password": "s3cret"}',
        "PGPASSWORD=s3cret psql",
        "db_password: s3cret",
        "sslpassword=s3cret",
        "token=s3cret&x=1",
        "CREATE ROLE x LOGIN PASSWORD 's3cret'",
        "alter role x password E'it''s s3cret'",
    ],
)
def test_what_looks_like_a_password_is_masked(text: str) -> None:
    """A password is masked in URIs, in keyword form, in SQL and in JSON."""
    masked = redact(text)
    assert "s3cret" not in masked
    assert "***" in masked


def test_verifier_of_a_password_is_masked() -> None:
    """A SCRAM verifier is as good as a password for guessing it, so it is masked too."""
    verifier = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"
    assert redact(f"role has {verifier}.") == "role has ***."


@pytest.mark.parametrize(
    "text",
    [
        "spec.components[3].env.API_TOKEN: component 'seed' is in a later stage",
        "spec.components[0].on.password: give one of env, file, age or from",
        'password authentication failed for user "x"',
        'relation "public.passwords" does not exist',
        "https://git.example.com/shop/environments.git",
        "ssh://git.example.com:22/x",
        'syntax error at or near "FROM"',
        "mail a@example.com",
    ],
)
def test_other_words_stay(text: str) -> None:
    """Words of the server that hold no secret are kept as they are."""
    assert redact(text) == text


@pytest.mark.parametrize("spelling", ["p@ss w/rd'", "p%40ss%20w%2Frd%27", "p%40ss+w%2Frd%27", "p@ss w/rd''"])
def test_given_secrets_are_masked_in_every_spelling(spelling: str) -> None:
    """A known secret is found raw, percent-encoded, form-encoded and quoted for SQL."""
    assert redact(f"<{spelling}>", ["p@ss w/rd'"]) == "<***>"


def test_longer_secret_wins() -> None:
    """A secret that holds another one is masked whole."""
    assert redact("abcdef", ["abc", "abcdef", ""]) == "***"


@given(st.text(), st.lists(st.text(min_size=1), max_size=4))
def test_given_secrets_never_stay(text: str, secrets: list[str]) -> None:
    """No given secret is left, unless the mask itself spells it."""
    masked = redact(text + "".join(secrets), secrets)
    assert all(secret not in masked or "*" in secret or set(secret) <= set("*") for secret in secrets)
