"""Planners on a real repository and real databases."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.plugins.git import GitRepository
from tests.plugins.planning import MakeSetting, Setting
from tests.plugins.postgres import Server


@pytest.fixture
async def make_setting(
    tmp_path: Path, git_repository: GitRepository, postgres_server: Server
) -> AsyncIterator[MakeSetting]:
    """Make planners, each with a mirror of its own, of one repository."""
    async with AsyncExitStack() as stack:

        def make(name: str) -> Setting:
            made = Setting(git_repository, tmp_path / name, {"SITE_DSN": postgres_server.text()})
            stack.push_async_callback(made.close)
            return made

        yield make


@pytest.fixture
def setting(make_setting: MakeSetting) -> Setting:
    """The one planner of a test."""
    return make_setting("state")


@pytest.fixture
def databases(postgres_server: Server) -> Iterator[list[str]]:
    """Names of three empty databases."""
    names = [postgres_server.create_database() for _ in range(3)]
    yield names
    for name in names:
        postgres_server.drop_database(name)
