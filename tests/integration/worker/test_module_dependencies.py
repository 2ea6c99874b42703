"""Reworks, tags, extensions and requirements between modules, on real databases."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.worker.test_worker_operations import ended
from tests.plugins.site import Process, Site

WHO = "2026-01-01T00:00:00Z Ada <ada@example.org>"
MODULES = """\
    - {name: app-schema, kind: Module, database: {from: shop-db}, path: modules/app}
    - {name: base-schema, kind: Module, database: {from: shop-db}, path: modules/base, to: "@v1"}
"""


def plan(*lines: str, project: str = "shop") -> dict[str, str]:
    body = "".join(f"{line} {WHO}\n" for line in lines)
    return {f"modules/{project}/sqitch.plan": f"%project={project}\n\n{body}"}


def scripts(project: str = "shop", **texts: str) -> dict[str, str]:
    """Deploy scripts by their names, with `_v` for `@v`."""
    return {f"modules/{project}/deploy/{name.replace('_v', '@v')}.sql": text for name, text in texts.items()}


@pytest.fixture
def odd_extension() -> Iterator[str]:
    """A folder, readable to the server whoever runs it, with an extension whose name needs quotes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "extension"
        folder.mkdir()
        (folder / "Odd-Name.control").write_text("default_version = '1'\n")
        (folder / "Odd-Name--1.sql").write_text("create function odd() returns int return 1;\n")
        for path in (Path(name), folder, *folder.iterdir()):
            path.chmod(0o755)
        yield name


def recorded(site: Site) -> list[tuple[str, str, list[str]]]:
    """Changes as they are recorded, with their tags, in the order of deployment."""
    query = """
        select project, name, array(
            select t.name from reconciler.tags as t where t.change_id = c.change_id order by 1
        ) from reconciler.changes as c order by position"""
    return [(project, name, list(tags)) for project, name, tags in site.rows(query)]


async def deploy(site: Site, process: Process, files: Mapping[str, str]) -> list[str]:
    site.repository.commit(files)
    await process.look()
    process.worker.wake()
    return await ended(process)


async def settled(process: Process) -> bool:
    """Say whether another pass finds nothing to do."""
    before = len(await process.rollouts())
    await process.look()
    return len(await process.rollouts()) == before


async def test_a_rework_from_zero_deploys_both_instances(site: Site) -> None:
    """The older one runs its own script first, each is recorded once, and nothing is left to do."""
    process = site.process()
    process.work()
    files = {
        **site.spec(),
        **plan("log", "x [log]", "@v1", "y [x]", "x [x@v1 y]"),
        **scripts(
            log="create table log (id int generated always as identity, said text);",
            x_v1="insert into log (said) values ('x@v1');",
            y="insert into log (said) values ('y');",
            x="insert into log (said) values ('x');",
        ),
    }
    assert await deploy(site, process, files) == ["completed"]
    assert site.rows("select said from log order by id") == [("x@v1",), ("y",), ("x",)]
    assert [row[1:] for row in recorded(site)] == [("log", []), ("x@v1", ["v1"]), ("y", []), ("x", [])]
    assert await settled(process)


async def test_a_change_is_tagged_and_reworked_after_its_deployment(site: Site) -> None:
    """Both come in one commit: the older instance is known by the new tag, its script is not run again."""
    process = site.process()
    process.work()
    first = "create table x (); "
    assert await deploy(site, process, {**site.spec(), **plan("x"), **scripts(x=first)}) == ["completed"]
    files = {
        **plan("x", "@v1", "x [x@v1]", "y"),
        **scripts(x_v1=first, x="alter table x add n int;", y="select 1"),
    }
    assert await deploy(site, process, files) == ["completed"]
    assert recorded(site) == [("shop", "x@v1", ["v1"]), ("shop", "x", []), ("shop", "y", [])]
    assert await settled(process)
    again = {
        **plan("x", "@v1", "x [x@v1]", "y", "@v2", "x"),
        **scripts(x_v2=files["modules/shop/deploy/x.sql"]),
    }
    assert await deploy(site, process, {**again, **scripts(x="alter table x add m int;")}) == ["completed"]
    assert [row[1:] for row in recorded(site)] == [("x@v1", ["v1"]), ("x@v2", []), ("y", ["v2"]), ("x", [])]
    assert await settled(process)


async def test_identical_scripts_are_different_changes(site: Site) -> None:
    """Two changes with the same bytes, also with none, both are deployed and recorded."""
    process = site.process()
    process.work()
    files = {**site.spec(), **plan("a", "b", "c", "d"), **scripts(a="select 1", b="select 1", c="", d="")}
    assert await deploy(site, process, files) == ["completed"]
    assert [row[1] for row in recorded(site)] == ["a", "b", "c", "d"]


async def test_modules_and_extensions_come_in_the_order_of_what_they_require(
    site: Site, odd_extension: str
) -> None:
    """Extensions first and once, then as much of a module as a tag asks for, then what requires that."""
    site.environ["SHOP_DSN"] += f" options='-c extension_control_path=$system:{odd_extension}'"
    process = site.process()
    process.work()
    spec = {name: text + MODULES for name, text in site.spec().items()}
    needs = "requires = 'cube, Odd-Name, earthdistance, base'\n"
    files = {
        **spec,
        **plan("s1 [app:a1]"),
        **scripts(s1="create table s as select * from a;"),
        "modules/shop/shop.control": "requires = 'Odd-Name'\n",
        **plan("a1 [base:@v1 base:b1@v1]", project="app"),
        **scripts("app", a1="create table a as select odd() as id, b.* from b;"),
        "modules/app/app.control": needs,
        **plan("b1", "b2", "@v1", "b3", project="base"),
        **scripts("base", b1="create table b ();", b2="alter table b add n int;", b3="drop table b;"),
    }
    assert await deploy(site, process, files) == ["completed"]
    assert [row[:2] for row in recorded(site)] == [
        ("base", "b1"),
        ("base", "b2"),
        ("app", "a1"),
        ("shop", "s1"),
    ]
    query = "select extname from pg_extension where extname <> 'plpgsql' order by oid"
    assert site.rows(query) == [("cube",), ("Odd-Name",), ("earthdistance",)]
    assert await settled(process)


async def test_nothing_runs_while_anything_required_is_missing(site: Site) -> None:
    """Extensions, changes and conflicts of all modules are told together, and no module is begun."""
    process = site.process()
    process.work()
    spec = {name: text + MODULES for name, text in site.spec().items()}
    files = {
        **spec,
        **plan("s1 [app:a1 gone:x]"),
        **scripts(s1="select 1"),
        **plan("a1 [base:@v2]", "a2 [!a1]", project="app"),
        **scripts("app", a1="select 1", a2="select 1"),
        **plan("b1", "@v1", "b2", "@v2", project="base"),
        **scripts("base", b1="select 1", b2="select 1"),
        "modules/base/base.control": "requires = 'no-such-Extension'\n",
    }
    site.repository.commit(files)
    await process.look()
    environment = await process.environment()
    said = " ".join(row.message for row in environment.conditions)
    assert "extension 'no-such-Extension', required by module 'base', is not available" in said
    assert (
        "missing required changes: 'base:@v2' (component 'base-schema' goes only up to its target '@v1')"
        in said
    )
    assert "'a2' conflicts with 'a1', which is to be deployed before it" in said
    assert "'app:a1' (component 'app-schema', which deploys it, is blocked), 'gone:x' (no module" in said
