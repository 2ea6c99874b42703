"""Dry runs of specs and commits that are not the source's head: what they show, what they cannot reach."""

from typing import Any

import pytest

from reconciler.errors import NotFound, Refused, SpecError
from reconciler.plan.encode import to_json
from tests.plugins.git import git
from tests.plugins.site import Process, Site

CHANGES = {"a": "create table a();"}


class Watched(dict[str, str]):
    """Variables of a daemon; tells which were looked up."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: list[str] = []

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.append(key)
        return super().get(key, default)


@pytest.fixture
def environ(site: Site) -> Watched:
    site.environ = Watched({**site.environ, "PAYROLL_DSN": site.server.text()})
    return site.environ


@pytest.fixture
async def process(site: Site, environ: Watched) -> Process:
    site.commit(CHANGES, site.spec())
    made = site.process()
    await made.look()
    return made


def spec(site: Site, **changes: Any) -> str:
    return site.spec(**changes)["environments/production.yaml"]


async def preview(process: Process, text: str, **asked: Any) -> dict[str, Any]:
    plan = await process.parts.reconciler.preview("production", posted=text.encode(), **asked)
    return dict(to_json(plan))


async def test_a_posted_spec_is_planned(site: Site, process: Process) -> None:
    """It answers what the same text in the commit would, writes nothing, and the head stays what it is."""
    before = to_json(await process.parts.reconciler.preview("production"))
    assert await preview(process, spec(site)) == before
    found = await preview(process, spec(site, deployments=("eu", "us")))
    assert [row["name"] for row in found["deployments"]] == ["eu", "us"]
    assert found["commit"] == before["commit"]
    assert to_json(await process.parts.reconciler.preview("production")) == before
    names = [row[0] for row in site.server.run("select datname from pg_database")]
    assert site.database("us") not in names


async def test_folders_are_those_of_the_reference(site: Site, process: Process) -> None:
    """With a ref, the posted spec is planned against the modules of that commit."""
    git(site.repository.path, "switch", "--quiet", "--create", "more")
    site.commit({**CHANGES, "b": "create table b();"})
    git(site.repository.path, "switch", "--quiet", "main")
    narrow = await preview(process, spec(site), deployment="eu")
    wide = await preview(process, spec(site), ref="more", deployment="eu")
    pending = [
        [row["identity"] for row in each["deployments"][0]["pending"] if row["component"] == "shop-schema"]
        for each in (narrow, wide)
    ]
    assert pending[1] == [*pending[0], "change b"]


@pytest.mark.parametrize("name", ["PAYROLL_DSN", "ABSENT_DSN", "shop_dsn", "SHOP_DSN_"])
async def test_other_references_are_refused_unseen(
    site: Site, process: Process, environ: Watched, name: str
) -> None:
    """Another reference is refused before anything is looked up, in the same words set or not."""
    environ.asked.clear()
    with pytest.raises(Refused) as told:
        await preview(process, spec(site, dsn=name))
    assert str(told.value).replace(name, "X") == (
        "environment 'production' would connect through env X, which the commit that is followed does not "
        "use (connection references are resolved once they stand in the branch the daemon follows)"
    )
    assert environ.asked == []


async def test_one_foreign_reference_among_known_ones_is_refused(
    site: Site, process: Process, environ: Watched
) -> None:
    """One deployment that connects elsewhere is enough, also where another one is asked for."""
    mixed = spec(site, deployments=("eu", "us")).replace("SHOP_DSN", "PAYROLL_DSN", 1)
    environ.asked.clear()
    with pytest.raises(Refused, match="PAYROLL_DSN"):
        await preview(process, mixed, deployment="us")
    assert environ.asked == []


async def test_references_of_files_are_no_other_way(site: Site, process: Process, environ: Watched) -> None:
    """A file of the same content, or of the same name, is another reference."""
    environ.asked.clear()
    for place in ("/etc/hostname", "SHOP_DSN"):
        with pytest.raises((Refused, SpecError)):
            await preview(process, spec(site).replace("env: SHOP_DSN", f"file: {place}"))
    assert environ.asked == []


async def test_references_of_other_environments_are_refused(
    site: Site, process: Process, environ: Watched
) -> None:
    """What another environment of the same source connects through is not this one's."""
    site.commit(CHANGES, site.spec("payroll", dsn="PAYROLL_DSN"))
    await process.look()
    environ.asked.clear()
    with pytest.raises(Refused):
        await preview(process, spec(site, dsn="PAYROLL_DSN"))
    assert environ.asked == []


async def test_references_of_branches_are_held_to_the_same(
    site: Site, process: Process, environ: Watched
) -> None:
    """Neither the spec of a branch, nor a posted one that repeats it, brings a reference in."""
    git(site.repository.path, "switch", "--quiet", "--create", "grab")
    site.commit(CHANGES, site.spec(dsn="PAYROLL_DSN"))
    git(site.repository.path, "switch", "--quiet", "main")
    environ.asked.clear()
    reconciler = process.parts.reconciler
    with pytest.raises(Refused):
        await reconciler.preview("production", ref="grab")
    with pytest.raises(Refused):
        await reconciler.preview("production", ref="grab", posted=spec(site, dsn="PAYROLL_DSN").encode())
    with pytest.raises(Refused):
        await reconciler.apply("production", ref="grab", reason="", requested_by="test")
    assert environ.asked == []


async def test_a_reference_that_left_the_head_is_gone(site: Site, process: Process, environ: Watched) -> None:
    """Once the followed commit connects through another reference, the one before is as foreign as any."""
    before = spec(site)
    site.commit(CHANGES, site.spec(dsn="PAYROLL_DSN"))
    await process.look()
    environ.asked.clear()
    with pytest.raises(Refused, match="SHOP_DSN"):
        await preview(process, before)
    assert environ.asked == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "exactly one document"),
        ("{", "<posted>:2:1"),
        ("apiVersion: reconciler/v1\nkind: Environment\n", "<posted>"),
        ("\x00", "<posted>"),
        ("- &a [*a]\n", "<posted>"),
    ],
)
async def test_what_is_no_spec_is_told(process: Process, environ: Watched, text: str, why: str) -> None:
    """Whatever is posted, everything wrong in it is told with its place, and nothing is looked up."""
    environ.asked.clear()
    with pytest.raises(SpecError) as told:
        await preview(process, text)
    assert why in str(told.value)
    assert environ.asked == []


async def test_a_spec_for_another_environment_is_refused(
    site: Site, process: Process, environ: Watched
) -> None:
    """The posted spec is of the environment it is posted to; two at once are one too many."""
    environ.asked.clear()
    with pytest.raises(SpecError, match="must be 'production'"):
        await preview(process, site.spec("payroll")["environments/payroll.yaml"])
    with pytest.raises(SpecError, match="exactly one document"):
        await preview(process, spec(site) + "---\n" + site.spec("payroll")["environments/payroll.yaml"])
    with pytest.raises(NotFound):
        await process.parts.reconciler.preview("payroll", posted=spec(site).encode())
    assert environ.asked == []
