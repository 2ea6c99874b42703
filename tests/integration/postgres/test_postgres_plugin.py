"""The test servers themselves: shared, and gone with the last of their users however that one ended."""

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TEST = textwrap.dedent("""
    import os, pathlib, time

    def test_hang(postgres_server, private_postgres):
        servers = [postgres_server, private_postgres]
        said = pathlib.Path(os.environ["SAY"])
        said.with_suffix(".new").write_text("\\n".join(str(server.data_dir) for server in servers))
        said.with_suffix(".new").rename(said)
        time.sleep(600)
""")


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


async def test_killed_tests_leave_no_server(tmp_path: Path) -> None:
    """After kill -9 of a test run, its servers end, the shared one by its watchdog with its folder."""
    test = tmp_path / "test_hang.py"
    test.write_text(TEST)
    said = tmp_path / "said"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
        "-p", "tests.plugins.postgres", "-c", os.devnull, f"--basetemp={tmp_path / 'base'}", str(test),
        env={**os.environ, "SAY": str(said), "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
        stdout=asyncio.subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    await until(said.exists)
    shared, private = (Path(line) for line in said.read_text().splitlines())
    assert (shared / "postmaster.pid").exists()
    assert (private / "postmaster.pid").exists()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await until(lambda: not (private / "postmaster.pid").exists())
    await until(lambda: not shared.parent.exists())
