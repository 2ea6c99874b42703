"""SQL objects of several components and environments: who waits for whom, and who keeps out of whose way."""

from tests.plugins.objects_site import ORDERS, ask, beside, calm, ended, files, rolled, schemas, spec
from tests.plugins.site import Site, holds

TOTALS = "CREATE VIEW totals AS SELECT sum(amount) AS total FROM public.orders;"
SECOND = (
    "    - {name: board, kind: Objects, database: {from: shop-db}, path: objects/board, after: [reports],"
    " externals: [reports.totals]}\n"
)


def with_second(site: Site, rollout: str = "") -> dict[str, str]:
    """An environment with another component of objects behind the first one."""
    return {name: text + SECOND for name, text in spec(site, rollout=rollout).items()}


async def test_one_component_reads_what_another_makes_in_the_same_commit(site: Site) -> None:
    """Behind the one that it comes after, a component finds what that one made live just now."""
    process = site.process()
    process.work()
    board = files({"board/all": "CREATE VIEW all AS SELECT total FROM reports.totals;"}, path="objects/board")
    board = {name.replace("all.sql", "sums.sql"): text.replace("all", "sums") for name, text in board.items()}
    site.commit(ORDERS, {**with_second(site), **files({"reports/totals": TOTALS}), **board})
    await rolled(process)

    assert site.rows("SELECT total FROM board.sums") == [(60,)]
    await calm(process)


async def test_each_promotion_of_an_operation_is_let_go_on_its_own(site: Site) -> None:
    """With two components, the operation waits before each switch, and is reverted as a whole."""
    process = site.process()
    process.work()
    board = files(
        {"board/sums": "CREATE VIEW sums AS SELECT total FROM reports.totals;"}, path="objects/board"
    )
    texts = {**files({"reports/totals": TOTALS}), **board}
    site.commit(ORDERS, {**with_second(site, "promotion: manual"), **texts})
    await rolled(process, state="waiting_for_promotion")
    assert {"reports", "board"}.isdisjoint(schemas(site))
    rollout = (await process.rollouts())[0].id
    await process.parts.reconciler.request(rollout, "promote", deployment=None, requested_by="ada")
    process.worker.wake()

    async def first_is_live() -> bool:
        return "reports" in schemas(site)

    await holds(first_is_live, "the first switch")
    operation = await ended(process)
    assert operation.state.value == "waiting_for_promotion"
    assert "board" not in schemas(site)
    assert (await ask(process, "promote")).state.value == "revert_window"
    assert site.rows("SELECT total FROM board.sums") == [(60,)]

    assert (await ask(process, "revert")).state.value == "reverted"
    assert {"reports", "board"}.isdisjoint(schemas(site))


async def test_an_environment_leaves_the_schemas_of_another_alone(site: Site) -> None:
    """Of two environments that make one schema, the second is told whose it is, and changes nothing."""
    process = site.process()
    process.work()
    site.commit(ORDERS, {**spec(site), **files({"reports/totals": TOTALS})})
    await rolled(process)
    ((_, text),) = spec(site).items()
    other = text.replace("metadata: {name: production}", "metadata: {name: staging}")
    other = other.replace("path: objects/reports", "path: objects/other")
    changed = {"reports/totals": "CREATE VIEW totals AS SELECT 0 AS total;"}
    site.commit(ORDERS, {"environments/staging.yaml": other, **files(changed, path="objects/other")})
    await process.look()
    process.worker.wake()
    told = str(await process.environment("staging"))

    assert "belongs to component 'reports' of environment 'production'" in told
    assert site.rows("SELECT total FROM reports.totals") == [(60,)]
    assert beside(site) == []


async def test_many_objects_are_made_side_by_side_whatever_stands_in_their_way(site: Site) -> None:
    """Writers share forty views; a schema of others that has the name of the staging one stays theirs."""
    process = site.process()
    process.work()
    many = {f"reports/v{number}": f"CREATE VIEW v{number} AS SELECT {number} AS n;" for number in range(40)}
    environment = spec(site, rollout="promotion: manual")
    site.commit(ORDERS, {**environment, **files(many)})
    await rolled(process, state="waiting_for_promotion")
    (staged,) = beside(site)
    site.commit(ORDERS, files({"reports/v0": "CREATE VIEW v0 AS SELECT 'other' AS n;"}))
    await rolled(process, state="waiting_for_promotion")
    assert staged not in beside(site)
    site.rows(f'CREATE SCHEMA "{staged}"; SELECT 1')
    site.commit(ORDERS, {**spec(site, objects=", retain: 0s"), **files(many)})
    operation = await rolled(process, state="completed")

    assert {step.kind: step.said for step in operation.steps}["stage-objects"] == "40 of 40 objects made"
    assert site.rows("SELECT n FROM reports.v39") == [(39,)]
    assert beside(site) == [staged]
