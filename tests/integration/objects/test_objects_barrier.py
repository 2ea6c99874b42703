"""SQL objects of several deployments: none goes live before all can, then one by one, or none at all."""

from typing import Any

from tests.plugins.objects_site import AT_WORK, ORDERS, files
from tests.plugins.site import Process, Site, holds

PLACES = ("eu", "us", "ap")
COMPONENT = (
    "    - {name: reports, kind: Objects, database: {from: shop-db}, path: objects/reports,"
    " externals: [public.orders]}\n"
)
TIMES = (
    "SELECT extract(epoch FROM ready_at)::float, extract(epoch FROM promoted_at)::float"
    " FROM reconciler.generations ORDER BY generation DESC LIMIT 1"
)


async def over(process: Process, *, ends: set[str]) -> list[str]:
    """The states of the newest rollout once each of its operations is in one of some."""

    async def rests() -> bool:
        return set(await process.states()) <= ends

    await holds(rests, f"all operations to be one of {sorted(ends)}")
    return await process.states()


async def roll(process: Process) -> None:
    await process.look()
    process.worker.wake()


async def test_under_a_barrier_all_are_staged_before_the_first_goes_live(site: Site) -> None:
    """Deployments go live in order once the last one is ready; where one cannot be, none does."""
    process = site.process()
    process.work()
    ((name, text),) = site.spec(deployments=PLACES, more="  rollout: {order: barrier}\n").items()
    view = "CREATE MATERIALIZED VIEW daily AS SELECT 1 AS n, 2 AS total FROM public.orders;"
    site.commit(ORDERS, {name: text + COMPONENT, **files({"reports/daily": view})})
    await roll(process)
    assert await over(process, ends={"revert_window"}) == ["revert_window"] * 3
    times: list[Any] = [site.rows(TIMES, place)[0] for place in PLACES]
    assert max(ready for ready, _ in times) < min(promoted for _, promoted in times)
    assert [promoted for _, promoted in times] == sorted(promoted for _, promoted in times)

    broken = view.replace("2 AS total", "1 / (CASE :'deployment' WHEN 'us' THEN id - id ELSE 1 END) AS total")
    site.commit(ORDERS, files({"reports/daily": broken}))
    await roll(process)
    states = await over(process, ends={"failed", "waiting_for_promotion", "cancelled"})

    assert AT_WORK.isdisjoint(states)
    assert states[1] == "failed"
    assert "revert_window" not in states
    for place in PLACES:
        assert site.rows("SELECT DISTINCT total FROM reports.daily", place) == [(2,)]
