"""A deployment whose server does not answer, beside others that a commit changes."""

import socket
from typing import Any

from tests.plugins.site import Site, holds

BASE = {"a": "create table a ();"}
MORE = {**BASE, "b": "create table b ();"}
PATIENT: dict[str, Any] = {"connect_timeout": 300, "read_timeout": 300}


async def test_who_was_silent_before_keeps_no_rollout_from_being_recorded(site: Site) -> None:
    """A commit reaches the others while connecting to it hangs; it is told to be what it was."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        host, port = hole.getsockname()
        # Refused as long as nobody listens.
        site.environ["HOLE_DSN"] = f"host={host} port={port} dbname=postgres user=nobody"
        spec = {
            path: text.replace(
                "- name: us\n      postgres: {dsn: {env: SHOP_DSN}}",
                "- name: us\n      postgres: {dsn: {env: HOLE_DSN}}",
            )
            for path, text in site.spec(deployments=("eu", "us", "asia")).items()
        }
        site.commit(BASE, spec)
        process = site.process(**PATIENT)
        await process.look()
        process.work()

        async def over() -> bool:
            return all(item.finished_at is not None for item in await process.rollouts())

        await holds(over, "the first rollout to end")
        environment = await process.environment()
        known = {item.name: item.unavailable for item in environment.deployments}
        assert [name for name, why in known.items() if why] == ["us"]
        hole.listen(8)
        site.commit(MORE)
        await process.look(full=False)

        async def recorded() -> bool:
            return len(await process.rollouts()) == 2

        await holds(recorded, "the second rollout to be recorded")
        assert [item.deployment for item in (await process.rollouts())[0].operations] == ["eu", "asia"]
        await holds(over, "the second rollout to end")
        assert {item.name: item.unavailable for item in (await process.environment()).deployments} == known
        await process.stop()
        await process.parts.passes.close()
