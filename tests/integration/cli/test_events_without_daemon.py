"""Events that are followed where no daemon answers: read from the control database itself."""

import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.plugins.git import git_environment
from tests.plugins.site import Site, holds


def follow(site: Site, folder: Path, config: Path, told: Path) -> subprocess.Popen[bytes]:
    """A command that follows the events of the environment into a file."""
    command = ("events", "production", "--follow", "--output", "json", "--config", str(config))
    with told.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "reconciler", *command],
            env={**git_environment(), **site.environ},
            stdin=subprocess.DEVNULL,
            stdout=out,
            cwd=folder,
        )


async def test_events_are_followed_on_the_control_database(site: Site, tmp_path: Path) -> None:
    """Each is told once and in order as it happens, whoever writes it; Ctrl-C ends it well."""
    process = site.process()
    site.commit({"one": "create table one ();"}, site.spec())
    await process.look()
    config = tmp_path / "reconciler.yaml"
    config.write_text(
        f"control: {{dsn: {json.dumps(site.control.reveal())}}}\n"
        f"state_dir: {json.dumps(str(tmp_path / 'command'))}\n"
        # Port 1 answers nobody, so no daemon of whoever runs the tests is asked by accident.
        "listen: 127.0.0.1:1\n"
        f"sources: [{{name: shop, url: {json.dumps(str(site.repository.path))}}}]\n"
    )
    told = tmp_path / "followed"

    def is_told(kind: bytes) -> Callable[[], Awaitable[bool]]:
        async def found() -> bool:
            return kind in told.read_bytes()

        return found

    follower = follow(site, tmp_path, config, told)
    try:
        await holds(is_told(b"rollout.recorded"), "what happened before")
        process.work()
        await holds(is_told(b"rollout.completed"), "what happens now")
        await process.stop()
        rows = await site.control_rows(
            "SELECT id FROM reconciler_control.events WHERE environment = 'production' ORDER BY id"
        )
        wanted = [row[0] for row in rows]

        async def all_shown() -> bool:
            lines = told.read_text().splitlines(keepends=True)
            return [json.loads(line)["id"] for line in lines if line.endswith("\n")] == wanted

        await holds(all_shown, "all events, each once")
        follower.send_signal(signal.SIGINT)
        assert follower.wait(timeout=60) == 0
    finally:
        if follower.poll() is None:
            follower.kill()
        follower.wait()
