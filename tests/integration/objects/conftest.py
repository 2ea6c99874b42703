"""A database to build generations of SQL objects in."""

from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg
import pytest

from tests.plugins.generations import Stand


@pytest.fixture
async def stand(postgres_server, fresh_database) -> AsyncIterator[Stand]:
    """An empty database to build generations in, with tables in `public` to read."""
    with psycopg.connect(postgres_server.text(fresh_database), autocommit=True) as by_hand:
        made = Stand(dsn=postgres_server.dsn, database=fresh_database, by_hand=by_hand)
        made.run("CREATE TABLE public.orders (id int, amount int)")
        made.run("INSERT INTO public.orders SELECT g, g * 10 FROM generate_series(1, 10) AS g")
        yield made
        for session in made.opened:
            with suppress(psycopg.Error):
                await session.abandon()
        made.forget_roles()
