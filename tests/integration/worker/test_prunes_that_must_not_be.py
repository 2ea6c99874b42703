"""Deployments that left by mistake, or whose databases are in use: what no prune may touch."""

from typing import Any

import pytest

from reconciler.errors import Refused, TemporaryError
from reconciler.reconcile.assess import Assessor
from tests.integration.worker.test_approved_plans import approve
from tests.integration.worker.test_left_deployments import (
    PRUNES,
    aliased,
    commit,
    module,
    preview,
    rolled_out,
    told,
)
from tests.integration.worker.test_module_by_hand import ended
from tests.plugins.git import git
from tests.plugins.site import Site

APPROVED = "  policy: {mode: approve, prune: true}\n"
DEPLOYED = ["one", "two"]


async def test_renamed_behind_another_name_is_not_asked_about(site: Site) -> None:
    """Where plans are approved too, a database that a renamed deployment has is nothing to be taken back."""
    process = await rolled_out(site, "eu", "us")
    text = site.spec(deployments=("eu", "west"), more=APPROVED)["environments/production.yaml"]
    text = text.replace(f"{site.prefix}_production_${{deployment}}", f"{site.prefix}_production_${{place}}")
    for name, place in (("eu", "eu"), ("west", "us")):
        text = text.replace(f"name: {name}\n", f"name: {name}\n      variables: {{place: {place}}}\n")
    site.environ["WEST_DSN"] = aliased(site)
    head, _, tail = text.rpartition("env: SHOP_DSN")
    site.repository.commit({**module(site), "environments/production.yaml": f"{head}env: WEST_DSN{tail}"})
    await process.look()
    waiting = (await process.rollouts())[0]
    if waiting.state.value == "waiting_for_approval":
        await approve(process, waiting)
        await ended(process, waiting.id)
    await process.look()
    assert "is that of deployment 'west'" in str((await told(process))["us"])
    planned = [one.deployment for each in await process.rollouts() for one in each.operations]
    assert planned.count("us") == 1
    assert site.deployed("us") == DEPLOYED


async def test_posted_spec_shows_what_it_would_take_back(site: Site) -> None:
    """The dry run of a spec that nobody committed goes by that spec, not by what the commit has of it."""
    process = await rolled_out(site, "eu", "us")
    text = site.spec(deployments=("eu",), more=PRUNES)["environments/production.yaml"].encode()
    shown = await preview(process, posted=text)
    assert [(row["name"], row["prune"], row["leaves"]) for row in shown["left"]] == [("us", True, True)]
    assert [one["name"] for one in shown["deployments"]] == ["eu", "us"]
    assert site.deployed("us") == DEPLOYED


async def test_many_at_once_need_consent_of_their_own(site: Site) -> None:
    """A list that lost most of its lines takes nothing back by a consent that was given before."""
    process = await rolled_out(site, "eu", "us", "jp")
    commit(site, "eu", more=PRUNES)
    await process.look()
    for why in (await told(process)).values():
        assert why is not None
        assert "hazard PRUNES_MANY: 2 of 3 deployments" in why
    assert len(await process.rollouts()) == 1
    with pytest.raises(Refused, match="PRUNES_MANY"):
        await process.parts.reconciler.apply("production", reason="", requested_by="ada")
    commit(site, "eu", more=PRUNES.replace("REVERTS_CHANGE", "REVERTS_CHANGE, PRUNES_MANY"))
    await process.look()
    assert await ended(process, (await process.rollouts())[0].id) == ["completed"] * 2
    assert (site.deployed("us"), site.deployed("jp"), site.deployed("eu")) == ([], [], DEPLOYED)


async def waiting(site: Site) -> tuple[Any, Any]:
    """A process without a worker at work, and its rollout that is to take `us` back."""
    process = await rolled_out(site, "eu", "us")
    await process.stop()
    commit(site, "eu", more=PRUNES)
    await process.look()
    pruning = (await process.rollouts())[0]
    assert [one.deployment for one in pruning.operations] == ["us"]
    return process, pruning


async def test_in_use_by_a_newer_commit(site: Site) -> None:
    """A newer commit that nobody can plan here yet, and that has the database elsewhere, keeps it."""
    process, pruning = await waiting(site)
    other = site.spec("other", deployments=("us",))["environments/other.yaml"]
    broken = site.spec(deployments=("eu",), more="  policy: {prune: maybe}\n")
    site.repository.commit({**broken, "environments/other.yaml": other.replace("_other_", "_production_")})
    await process.look()
    worker = site.process("two")
    worker.work()
    assert await ended(worker, pruning.id) == ["failed"]
    assert site.deployed("us") == DEPLOYED


@pytest.mark.parametrize("kept", ["back", "prune-off"])
async def test_kept_before_anything_is_read(site: Site, monkeypatch: pytest.MonkeyPatch, kept: str) -> None:
    """A commit that has it again, or prunes no more, ends its prune however long the look at others takes."""
    process, pruning = await waiting(site)
    if kept == "back":
        commit(site, "eu", "us", more=PRUNES)
    else:
        commit(site, "eu", more=PRUNES.replace("prune: true", "prune: false"))

    async def never(*_args: Any, **_more: Any) -> None:
        raise TemporaryError("the servers do not answer")

    monkeypatch.setattr(Assessor, "assess", never)
    with pytest.raises(TemporaryError):
        await process.look()
    assert await ended(process, pruning.id) == ["superseded"]
    assert site.deployed("us") == DEPLOYED


async def test_waits_for_those_that_cannot_be_read(site: Site) -> None:
    """While nobody knows whether a deployment of the spec carries the commit, nothing is taken back."""
    site.environ["EU_DSN"] = site.server.text()
    own = {"dsn": "env: EU_DSN"}

    def spec(*deployments: str, more: str = "") -> dict[str, str]:
        text = site.spec(deployments=deployments, more=more)["environments/production.yaml"]
        return {"environments/production.yaml": text.replace("env: SHOP_DSN", own["dsn"], 1)}

    process = site.process()
    site.repository.commit({**module(site), **spec("eu", "us")})
    await process.look()
    process.work()
    await ended(process, (await process.rollouts())[0].id)
    await process.look()
    site.environ["EU_DSN"] = "host=127.0.0.1 port=1"
    site.repository.commit(spec("eu", more=PRUNES))
    await process.look()
    assert "it waits until the deployments of the spec carry the commit" in str((await told(process))["us"])
    assert len(await process.rollouts()) == 1


async def test_lost_with_a_branch_that_was_set_back(site: Site) -> None:
    """What only commits had that the branch lost did not leave: nobody took it out."""
    process = site.process()
    commit(site, "eu", more=PRUNES)
    commit(site, "eu", "us", more=PRUNES)
    await process.look()
    process.work()
    await ended(process, (await process.rollouts())[0].id)
    await process.look()
    git(site.repository.path, "reset", "--quiet", "--hard", "HEAD~1")
    await process.look()
    assert "is not in the history of commit" in str((await told(process))["us"])
    assert len(await process.rollouts()) == 1
    assert site.deployed("us") == DEPLOYED


async def test_dry_run_of_a_branch_resolves_nothing_new(site: Site) -> None:
    """What a branch says of other environments is not connected to before it is followed."""
    process = await rolled_out(site, "eu", "us")
    before = site.repository.commit()
    site.environ["PLANTED_DSN"] = "host=127.0.0.1 port=1"
    other = site.spec("other", deployments=("us",))["environments/other.yaml"]
    other = other.replace("_other_", "_production_").replace("env: SHOP_DSN", "env: PLANTED_DSN")
    commit(site, "eu", more=PRUNES)
    branch = site.repository.commit({"environments/other.yaml": other})
    git(site.repository.path, "branch", "proposed", branch)
    git(site.repository.path, "reset", "--quiet", "--hard", before)
    (row,) = (await preview(process, ref="proposed"))["left"]
    assert (row["prune"], "is that of deployment 'us' of environment 'other'" in row["detail"]) == (
        False,
        True,
    )
    assert "cannot be read" not in row["detail"]
