"""The example of services: database, module, job, service, and a real Caddy before it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.runtimes.exchange import NoAnswer
from reconciler.runtimes.process import ProcessRuntime
from reconciler.runtimes.runtime import Observed
from tests.plugins.caddy import Caddy, ask, caddy
from tests.plugins.daemon import Daemon, World
from tests.plugins.package import ROOT
from tests.plugins.services import until as until_async

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

EXAMPLE = ROOT / "examples" / "services"
HOST = "shop.localhost"


def _with_names(text: str, names: dict[str, str]) -> str:
    """A file of the example with other names in it, all of which it has."""
    for before, after in names.items():
        assert before in text
        text = text.replace(before, after)
    return text


class Shop:
    """The example beside a Caddy, its names changed to those of this run."""

    def __init__(self, world: World, proxy: Caddy) -> None:
        self.world = world
        self.proxy = proxy
        self.daemon: Daemon = world.daemon()
        self.runtime = ProcessRuntime(self.daemon.folder / "state" / "services")
        shutil.copytree(EXAMPLE, world.repository.path, dirs_exist_ok=True)
        key = self.daemon.folder / "age.txt"
        assert self.daemon.run("secret", "keygen", "--out", str(key)).returncode == 0
        names = {
            "/var/lib/reconciler": str(self.daemon.folder / "state"),
            "127.0.0.1:8080": f"127.0.0.1:{self.daemon.port}",
            "/srv/shop": str(world.repository.path),
            "interval: 5s": "interval: 1s, drift_interval: 2s",
            "/etc/reconciler/age.txt": str(key),
            "http://127.0.0.1:2019": proxy.admin,
            ":8000": f"127.0.0.1:{proxy.port}",
        }
        self.daemon.config.write_text(_with_names((EXAMPLE / "settings.yaml").read_text(), names))

    def change(self, **texts: str) -> str:
        """Commit the environment with other texts in it."""
        place = str(self.world.repository.path)
        names = {"/srv/shop": place, "steady: 2s": "steady: 100ms", **texts}
        names["database: shop\n"] = f"database: {self.world.database}\n"
        text = _with_names((EXAMPLE / "environments" / "production.yaml").read_text(), names)
        return self.world.repository.commit({"environments/production.yaml": text})

    async def instances(self) -> tuple[Observed, ...]:
        """What runs of it."""
        return await self.runtime.observe("production", "eu")

    async def close(self) -> None:
        """End all of it."""
        if self.daemon.process is not None:
            self.daemon.kill()
        for each in await self.instances():
            await self.runtime.remove(each.identity, each.instance)
        self.world.server.drop_database(self.world.database)
        for role in ("owner", "reader"):
            self.world.server.run(f'drop role if exists "{self.world.database}_{role}"')


@pytest.fixture
async def shop(world: World, tmp_path: Path) -> AsyncIterator[Shop]:
    """The example, not started yet."""
    folder = tmp_path / "caddy"
    folder.mkdir()
    with caddy(folder) as proxy:
        await proxy.until_up()
        made = Shop(world, proxy)
        yield made
        await made.close()


async def test_example_of_services(shop: Shop) -> None:
    """It is applied and answers; another commit replaces the service; a Caddy that forgot gets its route."""
    commit = shop.change()
    daemon = shop.daemon
    assert daemon.run("validate", str(shop.world.repository.path)).returncode == 0
    await asyncio.to_thread(daemon.start)
    await asyncio.to_thread(daemon.until_applied, commit)
    database = shop.world.database
    assert await ask(shop.proxy.port, HOST) == f"hello from the database {database}\n"
    assert daemon.plan()["in_sync"]
    (first,) = [each for each in await shop.instances() if each.identity.component == "api"]

    commit = shop.change(hello="good day")
    await asyncio.to_thread(daemon.until_applied, commit)
    assert await ask(shop.proxy.port, HOST) == f"good day from the database {database}\n"
    (second,) = [each for each in await shop.instances() if each.identity.component == "api"]
    assert second.instance != first.instance

    shop.proxy.kill()
    shop.proxy.start()
    await shop.proxy.until_up()
    await until_async(lambda: _answers(shop), "the route to be put back")


async def _answers(shop: Shop) -> bool:
    with suppress(NoAnswer):
        return (await ask(shop.proxy.port, HOST)).startswith("good day")
    return False
