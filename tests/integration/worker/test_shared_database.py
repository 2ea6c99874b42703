"""Environments that share a database: one that writes is no reason for the others to write or to fail."""

import asyncio

from tests.plugins.site import Gate, Process, Site, holds


def _spec(site: Site, name: str) -> dict[str, str]:
    text = site.spec(name)[f"environments/{name}.yaml"]
    text = text.replace(f"{site.prefix}_{name}_${{deployment}}", f"{site.prefix}_shared_eu")
    return {f"environments/{name}.yaml": text.replace("path: modules/shop", f"path: modules/{name}")}


def _commit(site: Site, modules: dict[str, dict[str, str]]) -> str:
    files: dict[str, str] = {}
    for name, changes in modules.items():
        files |= {**_spec(site, name), **site.repository.module(changes, name=name)}
    return site.repository.commit(files)


async def _ended(process: Process, name: str, commit: str) -> bool:
    environment = await process.environment(name)
    return environment.applied_commit == commit


async def test_a_neighbour_that_writes_causes_no_rollout_and_no_failed_attempt(site: Site) -> None:
    """While one deploys, the other has nothing to do; what it gets to do is done at the first attempt."""
    process = site.process()
    process.work()
    first = _commit(site, {"one": {"gate": "create table gate ();"}, "two": {"a": "create table a ();"}})
    await process.look()
    for name in ("one", "two"):
        await holds(lambda name=name: _ended(process, name, first), f"{name} to be applied")  # type: ignore[misc]
        await process.look()
    gate = Gate(site, name="shared")
    await gate.close()
    _commit(
        site,
        {
            "one": {"gate": "create table gate ();", "behind": Gate.SCRIPT},
            "two": {"a": "create table a ();"},
        },
    )
    await process.look()
    await gate.until_waited_for()
    before = await process.rollouts("two")
    await process.look()
    plan = await process.parts.reconciler.preview("two")
    assert plan.in_sync
    assert await process.rollouts("two") == before
    last = _commit(
        site,
        {
            "one": {"gate": "create table gate ();", "behind": Gate.SCRIPT},
            "two": {"a": "create table a ();", "b": "create table b ();"},
        },
    )
    look = asyncio.create_task(process.look())
    await gate.open()
    await look

    async def settled() -> bool:
        await process.look()
        return await _ended(process, "two", last) and await _ended(process, "one", last)

    await holds(settled, "both to be applied")
    for name in ("one", "two"):
        for rollout in await process.rollouts(name):
            # One that a newer commit replaced before its turn came has none.
            assert all(operation.attempts <= 1 for operation in rollout.operations)
    assert sorted(site.deployed("eu", "shared")) == ["a", "b", "behind", "gate"]


async def test_drift_is_not_taken_for_our_doing_after_a_neighbour_wrote(site: Site) -> None:
    """What somebody altered by hand before a neighbour's rollout is drift after both rollouts."""
    process = site.process()
    process.work()
    modules = {"one": {"gate": "create table gate ();"}, "two": {"a": "create table a ();"}}
    first = _commit(site, modules)
    await process.look()
    for name in ("one", "two"):
        await holds(lambda name=name: _ended(process, name, first), f"{name} to be applied")  # type: ignore[misc]
        await process.look()
    await asyncio.to_thread(site.rows, "alter table a add column by_hand int", "eu", "shared")
    gate = Gate(site, name="shared")
    await gate.close()
    last = _commit(
        site,
        {
            "one": {**modules["one"], "behind": Gate.SCRIPT},
            "two": {**modules["two"], "b": "create table b ();"},
        },
    )
    await process.look()
    await gate.until_waited_for()
    await gate.open()

    async def settled() -> bool:
        await process.look()
        return await _ended(process, "two", last) and await _ended(process, "one", last)

    await holds(settled, "both to be applied")
    plan = await process.parts.reconciler.preview("two")
    assert [row.identity for row in plan.deployments[0].drift] == ["table public.a"]
