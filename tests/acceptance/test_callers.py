"""Callers of a daemon from outside: webhooks in masses, tokens for environments, posted specs, TLS."""

import hmac
import json
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.plugins.daemon import Daemon, World, until
from tests.plugins.git_hosts import GitHost

SECRET = "a-secret-of-the-webhook"
CHANGES = {"a": "create table a();"}
TOKENS = """
tokens:
  - {name: root, role: admin, value: root-0123456789abcdef}
  - {name: team, role: operate, value: team-0123456789abcdef, environments: ["team-*"]}
"""


@pytest.fixture
def host(world: World) -> Iterator[GitHost]:
    """Serves the repository; what is committed there nobody hears of but by a webhook."""
    made = GitHost(world.folder)
    yield made
    made.close()


@pytest.fixture
def daemon(world: World, host: GitHost) -> Daemon:
    """A daemon that looks by itself at its start only, and takes webhooks."""
    made = world.daemon(repository=f"http://127.0.0.1:{host.port}/repository/.git")
    text = made.config.read_text().replace("interval: 2s", "interval: 1h")
    webhook = f"webhook: {{provider: github, secret: {SECRET}}}"
    made.config.write_text(text.replace("branch: main,", f"branch: main, {webhook},"))
    return made


def deliver(daemon: Daemon, delivery: str, *, secret: str = SECRET) -> tuple[int, Any]:
    body = json.dumps({"ref": "refs/heads/main"}).encode()
    signature = hmac.new(secret.encode(), body, "sha256").hexdigest()
    request = urllib.request.Request(
        f"{daemon.url}/v1/webhooks/shop",
        data=body,
        headers={
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": delivery,
            "X-Hub-Signature-256": f"sha256={signature}",
            "Host": "reconciler.example.com",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def counter(daemon: Daemon, series: str) -> float:
    _status, text = daemon.get("/metrics")
    found = [line.rpartition(" ")[2] for line in str(text).splitlines() if line.startswith(f"{series} ")]
    return float(found[0]) if found else 0.0


WAKES = 'reconciler_wakes_total{cause="webhook"}'
FETCHES = 'reconciler_source_fetches_total{result="ok",source="shop"}'


def not_asked_for_otherwise(daemon: Daemon) -> float:
    """Fetches beyond those that something else than a webhook asked for: the start, and who else lives."""
    causes = ("start", "peers", "operation", "operator", "timer", "drift", "file")
    others = sum(counter(daemon, f'reconciler_wakes_total{{cause="{cause}"}}') for cause in causes)
    return counter(daemon, FETCHES) - others


def test_many_webhooks_make_two_passes(world: World, daemon: Daemon) -> None:
    """Fifty signed webhooks at once wake the source twice; their commit is applied, and no wake is lost."""
    world.repository.commit(world.repository.module(CHANGES))
    daemon.start()
    commit = world.repository.commit(world.spec())
    with ThreadPoolExecutor(max_workers=50) as threads:
        answers = list(threads.map(lambda number: deliver(daemon, f"d{number}"), range(50)))
    assert [status for status, _body in answers] == [202] * 50
    assert {body["result"] for _status, body in answers} == {"woken"}
    daemon.until_applied(commit)
    until(lambda: counter(daemon, WAKES) == 2, "the burst to end in a second wake")
    assert not_asked_for_otherwise(daemon) <= 2
    assert deliver(daemon, "d0") == (202, {"source": "shop", "result": "repeated"})
    more = world.repository.commit(world.repository.module({**CHANGES, "b": "create table b();"}))
    assert deliver(daemon, "e1", secret="x" * 20)[0] == 401
    assert deliver(daemon, "e1")[0] == 202
    daemon.until_applied(more)
    assert world.deployed() == ["a", "b"]
    assert not_asked_for_otherwise(daemon) <= 3


def test_tokens_and_posted_specs_from_the_command_line(world: World, daemon: Daemon) -> None:
    """A token for some environments sees those alone, and may plan a spec that stands in no commit."""
    daemon.config.write_text(daemon.config.read_text() + TOKENS)
    names = ("team-a", "other")
    specs = {path: text for name in names for path, text in world.spec(name).items()}
    world.repository.commit({**specs, **world.repository.module(CHANGES)})
    daemon.start()
    environ = {**daemon.environ, "RECONCILER_TOKEN": "root-0123456789abcdef"}

    def run(*arguments: str, token: str = "team") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "reconciler", *arguments, "--server", daemon.url],
            env={**environ, "RECONCILER_TOKEN": f"{token}-0123456789abcdef"},
            cwd=daemon.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def seen(token: str) -> list[str]:
        found = json.loads(run("status", "-o", "json", token=token).stdout or '{"environments": []}')
        return sorted(row["name"] for row in found["environments"])

    until(lambda: seen("root") == ["other", "team-a"], "both environments to be known")
    assert seen("team") == ["team-a"]
    assert "does not exist" in run("diff", "other").stderr
    posted = daemon.folder / "posted.yaml"
    posted.write_text(
        world.spec("team-a")["environments/team-a.yaml"].replace("[citext]", "[citext, hstore]")
    )
    found = run("diff", "team-a", "--file", str(posted), "--exit-code", "-o", "json")
    plan = json.loads(found.stdout)
    assert "hstore" in json.dumps(plan["deployments"])
    posted.write_text(posted.read_text().replace("SHOP_DSN", "HOME"))
    refused = run("diff", "team-a", "--file", str(posted))
    assert refused.returncode == 1
    assert "HOME" in refused.stderr
    posted.write_text("nonsense: [")
    assert "<posted>:2:1" in run("diff", "team-a", "--file", str(posted)).stderr


def certificate_of(daemon: Daemon, ca: Path) -> str:
    """What a client that trusts the CA is shown; empty while nobody listens."""
    context = ssl.create_default_context(cafile=str(ca))
    try:
        with (
            socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
        ):
            return str((wrapped.getpeercert() or {})["serialNumber"])
    except ConnectionError:
        return ""


def test_a_daemon_takes_a_renewed_certificate(world: World, daemon: Daemon, tmp_path: Path) -> None:
    """A daemon under TLS serves the certificate that its files hold, also after they were replaced."""
    authority = trustme.CA()
    ca, certificate, key = (tmp_path / name for name in ("ca.pem", "tls.pem", "tls.key"))
    authority.cert_pem.write_to_path(ca)

    def issue() -> None:
        made = authority.issue_cert("127.0.0.1")
        made.cert_chain_pems[0].write_to_path(certificate)
        made.private_key_pem.write_to_path(key)

    issue()
    daemon.config.write_text(daemon.config.read_text() + f"tls: {{certificate: {certificate}, key: {key}}}\n")
    daemon.start(wait=False)
    first = until(lambda: certificate_of(daemon, ca), "the daemon to listen")
    issue()
    until(lambda: certificate_of(daemon, ca) != first, "the new certificate to be served")
    asked = daemon.run("status", "--ca", str(ca), "-o", "json")
    assert json.loads(asked.stdout) == {"environments": []}
    assert daemon.stop() == 0
    key.write_text("nothing of a key")
    refused = daemon.run("run", check=False)
    assert refused.returncode == 1
    assert "one of them is not PEM" in refused.stderr
