"""A control database with the control schema installed."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from reconciler.control import install
from reconciler.postgres.connection import Dsn
from tests.plugins.control import Control


@pytest.fixture
async def control(control_database: Dsn) -> AsyncIterator[Control]:
    """A control database with its schema installed."""
    async with AsyncExitStack() as stack:
        found = Control(control_database, stack)
        found.connection = await found.connect()
        await install.install(found.connection)
        yield found
