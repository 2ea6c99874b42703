"""Rollouts that somebody asks for: how much they cover, and whether somebody has to say why."""

import pytest

from reconciler.errors import Refused
from reconciler.plan.encode import to_json
from reconciler.plan.render import to_markdown, to_text
from tests.plugins.site import Process, Site

CHANGES = {"a": "create table a();"}
SERVICE = """    - name: api
      kind: Service
      runtime: {process: {command: [/bin/sleep, "600"]}}
"""
REST = "roll out the rest with: `reconciler apply production --full`"


async def looked(site: Site, policy: str) -> Process:
    """A daemon that passed once over an environment with a database, a module and a service."""
    ((path, text),) = site.spec(more=f"  policy: {policy}\n").items()
    site.commit(CHANGES, {path: text + SERVICE})
    process = site.process()
    await process.look()
    return process


async def test_a_reason_is_asked_for_before_anything_is_planned(site: Site) -> None:
    """Where the spec asks for one, nobody gets a rollout without it; looking needs none."""
    process = await looked(site, "{mode: observe, requireReason: true}")
    reconciler = process.parts.reconciler
    site.environ["SHOP_DSN"] = "host=127.0.0.1 port=1 dbname=nobody"
    with pytest.raises(Refused, match=r"policy\.requireReason") as refused:
        await reconciler.apply("production", reason="  ", requested_by="ada")
    assert refused.value.hint == "`reconciler apply production --reason TEXT`"
    site.environ["SHOP_DSN"] = site.server.text()
    assert (await reconciler.preview("production")).deployments[0].steps
    assert await process.rollouts() == ()
    rollout = await reconciler.apply("production", reason="it is Tuesday", requested_by="ada")
    assert rollout is not None
    assert rollout.reason == "it is Tuesday"


async def test_scope_is_that_of_the_policy_unless_somebody_says_another(site: Site) -> None:
    """Passes, dry runs and rollouts are narrowed alike, and each says so and names the rest."""
    process = await looked(site, "{scope: provision-only}")
    reconciler = process.parts.reconciler
    (recorded,) = await process.rollouts()
    assert recorded.scope == "provision-only"
    only = await reconciler.preview("production")
    assert to_json(only)["scope"] == "provision-only"
    assert only == await reconciler.preview("production", scope="provision-only")
    assert {step.component for step in only.deployments[0].steps} == {"shop-db", "shop-schema"}
    assert only.deployments[0].left_out == ("api",)
    for text in (to_text(only), to_markdown(only)):
        assert "(provision-only)" in text.splitlines()[0]
        assert text.rstrip().endswith(REST)
    full = await reconciler.preview("production", scope="full")
    assert {step.component for step in full.deployments[0].steps} >= {"shop-db", "shop-schema", "api"}
    assert full.digest != only.digest
    assert "provision" not in to_text(full)
    rollout = await reconciler.apply("production", scope="full", reason="", requested_by="ada")
    assert rollout is not None
    assert (rollout.scope, rollout.reason) == ("full", "applied by ada")
    told = [event.message for event in await reconciler.events(environment="production")]
    assert any("(provision-only) on 'eu' asked for by reconciler" in message for message in told)
