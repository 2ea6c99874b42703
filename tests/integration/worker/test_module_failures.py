"""Several modules of which one fails: what is there then, what is recorded, and how it goes on."""

import pytest

from tests.integration.worker.test_module_by_hand import ended, there
from tests.plugins.modules import tables
from tests.plugins.site import Site

MODULES = ("one", "two", "three", "four", "five")
AFTER = {
    "change": ["one_a", "one_b", "three_a", "two_a", "two_b"],
    "module": ["one_a", "one_b", "two_a", "two_b"],
}
STATES = {
    "change": {"three_a": "done", "three_b": "failed"},
    "module": {"three_a": "failed", "three_b": "failed"},
}


def five(site: Site, transaction: str) -> dict[str, str]:
    """Modules of two changes each, every one of which requires the one before it."""
    ((name, text),) = site.spec().items()
    lines = text.splitlines(keepends=True)[:-1]
    lines += [
        f"    - {{name: {each}, kind: Module, database: {{from: shop-db}}, path: modules/{each},"
        f" transaction: {transaction}}}\n"
        for each in MODULES
    ]
    files = {name: "".join(lines)}
    for before, each in zip(("", *MODULES), MODULES, strict=False):
        needs = {f"{each}_a": f"{before}:{before}_b"} if before else None
        files |= tables(f"{each}_a", f"{each}_b", project=each, requires=needs)
    return files


@pytest.mark.parametrize("transaction", ["change", "module"])
async def test_third_of_five_modules_fails(site: Site, transaction: str) -> None:
    """What is done stays, the one that fails goes back as its transaction says, the rest is not begun."""
    files = five(site, transaction)
    good = files["modules/three/deploy/three_b.sql"]
    files["modules/three/deploy/three_b.sql"] = f"{good}\nselect nosuch;\n"
    process = site.process()
    site.repository.commit(files)
    await process.look()
    process.work()
    assert await ended(process, (await process.rollouts())[0].id) == ["failed"]
    assert there(site) == AFTER[transaction]
    recorded = "select name from reconciler.changes order by 1"
    assert [name for (name,) in site.rows(recorded)] == AFTER[transaction]
    rollout = await process.parts.reconciler.rollout((await process.rollouts())[0].id)
    operation = rollout.operations[0]
    told = {step.identity.removeprefix("change "): step.state for step in operation.steps}
    for name, state in {
        **dict.fromkeys(("one_a", "one_b", "two_a", "two_b"), "done"),
        **STATES[transaction],
        **dict.fromkeys(("four_a", "four_b", "five_a", "five_b"), "skipped"),
    }.items():
        assert (name, told[name]) == (name, state)
    assert operation.error is not None
    assert operation.error["what"] == "deploy-change change three_b"
    assert operation.error["where"] == "modules/three/deploy/three_b.sql:3"
    failed = site.rows("select name, sqlstate, file, line from reconciler.events where kind = 'fail'")
    assert failed == [("three_b", "42703", "modules/three/deploy/three_b.sql", 3)]
    site.repository.commit({"modules/three/deploy/three_b.sql": good})
    await process.look()
    assert await ended(process, (await process.rollouts())[0].id) == ["completed"]
    assert len(there(site)) == 10
