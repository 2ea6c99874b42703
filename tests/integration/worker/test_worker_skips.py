"""Components with `skip: true` on real databases: left out by passes, and taken up where they were left."""

from tests.integration.worker.test_worker_operations import ended
from tests.plugins.site import Site

WHO = "2026-01-01T00:00:00Z Ada <ada@example.org>"
APP = "    - {name: app-schema, kind: Module, database: {from: shop-db}, path: modules/app}\n"
MORE = "  policy: {prune: true, allowHazards: [REVERTS_CHANGE, DELETES_DATA]}\n"


async def test_a_skipped_module_is_left_as_it_is_until_it_is_not(site: Site) -> None:
    """Its new changes wait, what it deployed is not pruned, and all of it follows once it is back."""
    spec = {name: text + APP for name, text in site.spec(more=MORE).items()}
    skipped = {
        name: text.replace("modules/shop}", "modules/shop, skip: true}") for name, text in spec.items()
    }
    app = {
        "modules/app/sqitch.plan": f"%project=app\n\nx {WHO}\n",
        "modules/app/deploy/x.sql": "create table x ()",
    }
    process = site.process()
    process.work()
    site.commit({"a": "create table a ()"}, {**spec, **app})
    await process.look()
    assert await ended(process) == ["completed"]
    assert sorted(site.deployed()) == ["a", "x"]
    site.commit(
        {"a": "create table a ()", "b": "create table b ()"},
        {**skipped, "modules/app/sqitch.plan": f"%project=app\n\nx {WHO}\ny {WHO}\n",
         "modules/app/deploy/y.sql": "create table y ()"},
    )  # fmt: skip
    await process.look()
    process.worker.wake()
    assert await ended(process) == ["completed"]
    assert sorted(site.deployed()) == ["a", "x", "y"]
    (told,) = (await process.parts.reconciler.module_status("production"))["deployments"]
    assert {row["component"]: row["state"] for row in told["modules"]} == {
        "shop-schema": "skipped", "app-schema": "in sync"
    }  # fmt: skip
    site.repository.commit(spec)
    await process.look()
    process.worker.wake()
    assert await ended(process) == ["completed"]
    assert sorted(site.deployed()) == ["a", "b", "x", "y"]
