"""A daemon that asks for signatures applies what is signed, holds back what is not, and says so."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.daemon import Daemon, World, until
from tests.plugins.git import GitRepository
from tests.plugins.signers import MakeGpgSigner, MakeSshSigner, Signer

pytestmark = pytest.mark.system


class _Site:
    """A daemon whose source asks for signatures of one signer, and a repository to commit to."""

    def __init__(self, world: World, signer: Signer, signatures: dict[str, Any]) -> None:
        self.world = world
        self.signer = signer
        self.repository = GitRepository.at(world.repository.path)
        self.daemon: Daemon = world.daemon()
        text = self.daemon.config.read_text()
        source = f"branch: main, signatures: {json.dumps(signatures)},"
        self.daemon.config.write_text(text.replace("branch: main,", source))

    def signed(self, changes: dict[str, str]) -> str:
        return self.signer.commit(
            self.repository, {**self.world.spec(), **self.world.repository.module(changes)}
        )

    def unsigned(self, changes: dict[str, str]) -> str:
        return self.world.repository.commit({**self.world.spec(), **self.world.repository.module(changes)})

    def metric(self, name: str) -> float:
        """A metric of the source."""
        _status, text = self.daemon.get("/metrics")
        wanted = f'reconciler_source_{name}{{source="shop"}} '
        found = [line.removeprefix(wanted) for line in str(text).splitlines() if line.startswith(wanted)]
        return float(found[0]) if found else -1.0


@pytest.fixture(params=["gpg", "ssh"])
def site(
    request: pytest.FixtureRequest,
    world: World,
    make_gpg_signer: MakeGpgSigner,
    make_ssh_signer: MakeSshSigner,
) -> _Site:
    """A site for each sort of key."""
    if request.param == "gpg":
        gpg = make_gpg_signer("ada")
        return _Site(world, gpg, {"gpg_keys": [str(gpg.key_file)]})
    ssh = make_ssh_signer("ada")
    return _Site(world, ssh, {"ssh_keys": [ssh.public]})


A = {"a": "create table a();"}
B = {**A, "b": "create table b();"}
C = {**B, "c": "create table c();"}


def test_only_signed_commits_are_applied(site: _Site) -> None:
    """Signed: applied. Unsigned: not applied, and condition, metric and log say so. Signed again: quiet."""
    daemon = site.daemon
    first = site.signed(A)
    daemon.start()
    daemon.until_applied(first)
    assert site.metric("head_refused") == 0
    unsigned = site.unsigned(B)
    stalled = until(
        lambda: (found := daemon.condition("Stalled")).get("reason") == "SignatureRefused" and found,
        f"the condition: {daemon.environment()}",
    )
    assert stalled["status"] is True
    assert "is not signed" in stalled["message"]
    assert unsigned[:12] in stalled["message"]
    assert daemon.environment()["applied_commit"] == first
    assert site.metric("head_refused") == 1
    assert site.metric("signature_failures_total") == 1
    assert '"source.signature_rejected"' in daemon.log.read_text()
    # It may be looked at, and is not applied for whoever asks.
    assert not daemon.plan(query=f"?ref={unsigned}")["in_sync"]
    refused = daemon.run("apply", "production", "--ref", unsigned, "--reason", "try", check=False)
    assert refused.returncode != 0
    assert "is not signed" in refused.stdout + refused.stderr
    assert site.world.deployed() == ["a"]
    last = site.signed(C)
    daemon.until_applied(last)
    assert site.world.deployed() == ["a", "b", "c"]
    until(lambda: daemon.condition("Stalled")["status"] is False, "the condition to end")
    assert site.metric("head_refused") == 0
    assert site.metric("signature_failures_total") == 1


def test_signatures_that_are_asked_for_later_hold_back_what_came_before(site: _Site) -> None:
    """What is applied stays, and the environment says that no commit of its source may be used."""
    daemon = site.daemon
    asking = daemon.config.read_text()
    begin, _, rest = asking.partition("signatures: {")
    daemon.config.write_text(begin + rest.partition("},")[2])
    applied = site.unsigned(A)
    daemon.start()
    daemon.until_applied(applied)
    assert daemon.stop() == 0
    daemon.config.write_text(asking)
    daemon.start()
    until(lambda: daemon.condition("Stalled").get("reason") == "SignatureRefused", "the condition")
    assert daemon.environment()["applied_commit"] == applied
    daemon.until_applied(site.signed(B))
    until(lambda: daemon.condition("Stalled")["status"] is False, "the condition to end")


def test_a_missing_key_file_stops_the_start(site: _Site, tmp_path: Path) -> None:
    """A daemon that could judge no signature does not start, and says which file is missing."""
    text = site.daemon.config.read_text()
    path = tmp_path / "none.asc"
    begin, _, rest = text.partition("signatures: {")
    site.daemon.config.write_text(f'{begin}signatures: {{"gpg_keys": ["{path}"]}},{rest.partition("},")[2]}')
    site.daemon.start(wait=False)
    assert site.daemon.process is not None
    assert site.daemon.process.wait(timeout=45) != 0
    site.daemon.process = None
    assert str(path) in site.daemon.tail()
