"""Modules that globs find, on real databases: deployed in order and side by side, added and removed."""

import shutil

from reconciler.state.task import ModuleTask, TaskVerb
from tests.integration.worker.test_module_by_hand import CONSENT, MEET, run, settled, there
from tests.integration.worker.test_worker_operations import ended
from tests.plugins.modules import tables
from tests.plugins.site import Process, Site


def spec(site: Site, more: str = "", components: str = "") -> dict[str, str]:
    """The database, and all modules of the repository by one component."""
    (name, text), *_rest = site.spec(more=more).items()
    found = text.replace("name: shop-schema", "name: everything").replace(
        "path: modules/shop", "modules: '*/**'"
    )
    return {name: found + components}


def extension(files: dict[str, str]) -> dict[str, str]:
    return {name.replace("modules/", "extensions/deep/"): text for name, text in files.items()}


async def deploy(site: Site, process: Process, files: dict[str, str]) -> list[str]:
    site.repository.commit(files)
    await process.look()
    process.worker.wake()
    return await ended(process)


async def test_what_globs_find_is_deployed_in_order_and_side_by_side(site: Site) -> None:
    """Two modules that wait for each other to be under way both end; what requires them comes last."""
    process = site.process()
    process.work()
    files = {
        **spec(site),
        **tables("o1", project="a-last", requires={"o1": "shop:s1 base:b1"}),
        **tables("s1"),
        **extension(tables("b1", project="base")),
    }
    files["modules/shop/deploy/s1.sql"] += MEET
    files["extensions/deep/base/deploy/b1.sql"] += MEET
    assert await deploy(site, process, files) == ["completed"]
    assert site.deployed()[-1] == "o1"
    rows = site.rows("select component, project from reconciler.modules order by 1")
    assert rows == [("a-last", "a-last"), ("base", "base"), ("shop", "shop")]
    await settled(process)


async def test_a_folder_that_goes_is_a_module_that_left_the_spec(site: Site) -> None:
    """One commit adds a module and deploys it, the next takes it away: it is pruned with consent."""
    process = site.process()
    process.work()
    policy = "  policy: {prune: true, allowHazards: [DELETES_DATA, REVERTS_CHANGE]}\n"
    assert await deploy(site, process, {**spec(site, policy), **tables("s1")}) == ["completed"]
    assert await deploy(site, process, tables("e1", project="extra")) == ["completed"]
    assert there(site) == ["e1", "s1"]
    shutil.rmtree(site.repository.path / "modules/extra")
    assert await deploy(site, process, {}) == ["completed"]
    assert there(site) == ["s1"]
    await settled(process)


async def test_found_modules_are_known_by_their_names(site: Site) -> None:
    """By hand one goes to a target and back, as a declared one; and one may have a component of its own."""
    process = site.process()
    process.work()
    files = {
        **spec(site, "  policy: {mode: observe}\n"),
        **tables("s1", "s2"),
        **tables("x1", project="extra"),
    }
    site.repository.commit(files)
    await process.look()
    asked = ModuleTask(verb=TaskVerb.DEPLOY, module="shop", to="s1", createdb=True)
    assert await run(process, asked) == ["completed"]
    assert there(site) == ["s1"]
    assert await run(process, ModuleTask(verb=TaskVerb.DEPLOY)) == ["completed"]
    assert there(site) == ["s1", "s2", "x1"]
    back = ModuleTask(verb=TaskVerb.REVERT, module="shop", everything=True)
    assert await run(process, back, consent=CONSENT) == ["completed"]
    assert there(site) == ["x1"]
    own = "    - {name: mine, kind: Module, database: {from: shop-db}, path: modules/shop, to: s1}\n"
    assert await deploy(site, process, spec(site, components=own)) == ["completed"]
    assert there(site) == ["s1", "x1"]
