"""Readers through one generation after the other, built, live and gone: they read on and meet no error."""

import asyncio
import re
from pathlib import Path

from reconciler.execution.objects.switching import retire
from tests.plugins.generations import Draft, Stand, function, live, matview, view, work
from tests.plugins.postgres import Server

CYCLES = 20
READ = """
SELECT n FROM app.plain;
SELECT n FROM app.stored;
SELECT app.bound();
"""


def app(number: int) -> tuple[Draft, ...]:
    """A view, what is stored of it, and a function that is bound to that."""
    return (
        view("app.plain", f"SELECT id + {number} AS n FROM public.orders"),
        matview("app.stored", "SELECT n FROM {app}.plain", wave=1),
        function("app.bound", "() RETURNS bigint RETURN (SELECT sum(n) FROM {app}.stored)", wave=2),
    )


async def reading(stand: Stand, server: Server, script: Path, mode: str) -> asyncio.subprocess.Process:
    """Clients of pgbench that read until they are killed."""
    return await asyncio.create_subprocess_exec(
        server.bin_dir / "pgbench",
        *("-n", "-c", "4", "-j", "1", "-M", mode, "-T", "600", "-P", "1", "-R", "100", "-f", str(script)),
        server.text(stand.database),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )


async def progress(readers: asyncio.subprocess.Process) -> str:
    """The next line that is told of them."""
    assert readers.stderr is not None
    return (await asyncio.wait_for(readers.stderr.readline(), 60)).decode()


async def test_readers_meet_no_error(stand: Stand, postgres_server: Server, tmp_path: Path) -> None:
    """Simple and prepared, they read while every object is displaced and dropped again and again."""
    session = await stand.session()
    await live(stand, session, work("k0", *app(0)))
    script = tmp_path / "read.sql"
    script.write_text(READ)
    both = [await reading(stand, postgres_server, script, mode) for mode in ("simple", "prepared")]
    try:
        told = [await progress(one) for one in both]
        for number in range(1, CYCLES + 1):
            await live(stand, session, work(f"k{number}", *app(number)))
            await retire(session, f"k{number}", now=True)
        told += [await progress(one) for one in both]
        assert [one.returncode for one in both] == [None, None]
    finally:
        for one in both:
            one.kill()
    for one in both:
        assert one.stderr is not None
        told.append((await one.stderr.read()).decode())
        await one.wait()
    assert re.search(r"error|abort", "".join(told), re.IGNORECASE) is None, told
    assert all(re.match(r"progress: .* tps", line) for line in told[:4]), told
    assert stand.schemas == ["app", "public"]
