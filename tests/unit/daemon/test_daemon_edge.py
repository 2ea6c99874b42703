"""The edge made of settings: what is looked up, and what ends a start with a message."""

from typing import Any

import pytest

from reconciler.daemon.edge import edge
from reconciler.daemon.secrets import Secrets
from reconciler.errors import NotFound, PermanentError, Refused
from reconciler.settings import Settings
from reconciler.web.access import Role
from reconciler.web.signatures import Provider

SECRET = "a-secret-of-16-characters"


def opened(data: dict[str, Any], environ: dict[str, str] | None = None) -> Any:
    secrets = Secrets(environ or {}, lambda _secret: None)
    return edge(Settings.model_validate(data), secrets, lambda _event: None)


def source(**more: Any) -> dict[str, Any]:
    webhook = {"provider": "forgejo", "secret": {"env": "HOOK"}, "previous": SECRET}
    return {"name": "shop", "url": "https://git.example.com/shop.git", "webhook": webhook, **more}


def test_everything_is_looked_up() -> None:
    """Tokens, secrets and bounds are what the settings and the environment say."""
    found = opened(
        {
            "listen": "[::1]:8443",
            "tokens": [{"name": "ci", "role": "provision", "value": {"env": "CI"}, "environments": ["a-*"]}],
            "sources": [source()],
            "requests": {"dry_runs_in_parallel": 3, "webhook_bytes": 2048},
        },
        {"CI": "x" * 16, "HOOK": "y" * 16},
    )
    assert (found.host, found.port) == ("::1", 8443)
    token = found.tokens[0]
    assert (token.role, token.value, token.environments) == (Role.PROVISION, "x" * 16, ("a-*",))
    hook = found.webhooks[0]
    assert (hook.source, hook.provider, hook.secrets) == ("shop", Provider.FORGEJO, ("y" * 16, SECRET))
    assert hook.ref == "refs/heads/main"
    assert (found.limits.dry_runs_in_parallel, found.limits.webhook_bytes) == (3, 2048)
    assert found.certificates is None


@pytest.mark.parametrize(
    ("followed", "ref"),
    [
        ({"tag": "live"}, "refs/tags/live"),
        ({"branch": "a/b"}, "refs/heads/a/b"),
        ({"commit": "0" * 40}, None),
    ],
)
def test_what_is_followed(followed: dict[str, str], ref: str | None) -> None:
    """A webhook is for the branch or tag that is followed; a commit may be pushed under any name."""
    found = opened({"sources": [source(**followed)]}, {"HOOK": "y" * 16})
    assert found.webhooks[0].ref == ref


@pytest.mark.parametrize(
    ("data", "error", "why"),
    [
        ({"tokens": [{"name": "ci", "role": "read", "value": "short"}]}, Refused, "token 'ci'"),
        (
            {"tokens": [{"name": n, "role": "read", "value": SECRET} for n in ("a", "b")]},
            Refused,
            "same value",
        ),
        ({"tokens": [{"name": "ci", "role": "read", "value": {"env": "NONE"}}]}, NotFound, "NONE"),
        ({"sources": [source(webhook={"provider": "hmac", "secret": "short"})]}, Refused, "source 'shop'"),
        ({"listen": "0.0.0.0:80"}, Refused, "without tokens"),
        ({"tls": {"certificate": "none.pem", "key": "none.key"}}, PermanentError, "none.pem"),
    ],
)
def test_what_is_wrong_ends_the_start(data: dict[str, Any], error: type[Exception], why: str) -> None:
    """Before anything is started, the first thing that is wrong is told by its name."""
    with pytest.raises(error, match=why):
        opened(data)


def test_the_key_is_a_secret_of_the_daemon() -> None:
    """No spec may refer to the key of the certificate, nor to secrets of webhooks."""
    webhook = {"provider": "hmac", "secret": {"env": "NEW"}, "previous": {"file": "/old"}}
    own = Settings.model_validate(
        {"tls": {"certificate": "/c", "key": "/k"}, "sources": [source(webhook=webhook)]}
    ).own_secrets()
    assert own.files == {"/k", "/old"}
    assert own.variables == {"NEW"}
