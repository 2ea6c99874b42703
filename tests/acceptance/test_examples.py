"""Every example is valid, and lands in a real PostgreSQL as it stands."""

import shutil
from pathlib import Path

import pytest

from tests.plugins.daemon import ConfigRepository, World
from tests.plugins.git import git

ROOT = Path(__file__).resolve().parents[2] / "examples"
EXAMPLES = sorted(path.parent.name for path in ROOT.glob("*/environments"))
EXAMPLES.remove("services")  # it needs a proxy, and is tried with the system's programs


@pytest.fixture
def example_world(world: World, request: pytest.FixtureRequest) -> World:
    """A world whose repository is a copy of the example, secrets pointed at the test server."""
    shutil.copytree(ROOT / request.param, world.repository.path, dirs_exist_ok=True)
    secret = world.folder / "dsn"
    secret.write_text(world.server.text())
    for spec in (world.repository.path / "environments").glob("*.yaml"):
        text = spec.read_text().replace("/run/secrets/initech-dsn", str(secret))
        # Databases of a run of their own: other tests share the server.
        for name in ("shop_", "${prefix}_"):
            text = text.replace(f"database: {name}", f"database: {world.database}_{name}")
        spec.write_text(text)
    world.extra |= {"SHOP_DSN": world.server.text(), "TENANTS_DSN": world.server.text()}
    return world


@pytest.mark.parametrize("example_world", EXAMPLES, indirect=True)
def test_example_is_applied(example_world: World) -> None:
    """The example validates offline, is applied to all its deployments, and then nothing is left to do."""
    world = example_world
    assert isinstance(world.repository, ConfigRepository)
    commit = world.repository.commit()
    daemon = world.daemon().start()
    assert daemon.run("validate", str(world.repository.path)).returncode == 0
    name = next((world.repository.path / "environments").glob("*.yaml")).stem
    try:
        daemon.until_applied(commit, name)
        assert daemon.plan(name)["in_sync"]
        assert git(world.repository.path, "status", "--porcelain") == ""
    finally:
        daemon.kill()
        rows = world.server.run(f"select datname from pg_database where datname like '{world.database}%'")
        for (database,) in rows:
            world.server.drop_database(str(database))
