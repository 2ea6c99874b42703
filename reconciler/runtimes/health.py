"""Asking a service whether it is healthy, each time within a deadline, and waiting until it stays so."""

import asyncio
import os
import pwd
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from reconciler.frozen import frozen
from reconciler.runtimes.runtime import (
    CommandCheck,
    Endpoint,
    HttpCheck,
    Observed,
    OwnCheck,
    ServiceSpec,
    ServiceState,
    TcpCheck,
    environment_of,
    without_hidden,
)
from reconciler.runtimes.steadiness import Steadiness, Verdict

_STATUS_LINE_BYTES_MAX = 1024
_SAID_MAX = 400
_OUTPUT_BYTES_MAX = 64 * 1024
_END_S = 5.0


@frozen
class Outcome:
    """What came of waiting for an instance; `reason` says why it is not steady."""

    is_steady: bool
    observed: Observed | None
    reason: str = ""


async def why_unhealthy(spec: ServiceSpec, observed: Observed) -> str | None:
    """Why an instance is not healthy now; None where it is. Asks within the deadline of its check."""
    if observed.state is not ServiceState.HEALTHY:
        return observed.reason or f"it is {observed.state}"
    timeout_s = spec.health.timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            match spec.health.check:
                case OwnCheck():
                    return None
                case HttpCheck(port=port, path=path):
                    return await _http(_endpoint(observed, port), path)
                case TcpCheck(port=port):
                    return await _tcp(_endpoint(observed, port))
                case CommandCheck() if observed.is_checked:
                    return None
                case CommandCheck(argv=argv):
                    return await _command(spec, observed, argv)
    except TimeoutError:
        return f"its health check had no answer within {timeout_s:g} s"


def _endpoint(observed: Observed, port: str) -> Endpoint | str:
    for each in observed.endpoints:
        if each.name == port:
            return each
    return f"its port '{port}' is not reachable"


async def _open(at: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | str:
    try:
        return await asyncio.open_connection(at.host, at.port, limit=_STATUS_LINE_BYTES_MAX)
    except OSError as error:
        said = os.strerror(error.errno) if error.errno else str(error)
        return f"connecting to {at.host}:{at.port}: {said.lower()}"


async def _tcp(at: Endpoint | str) -> str | None:
    if isinstance(at, str):
        return at
    opened = await _open(at)
    if isinstance(opened, str):
        return opened
    await _let_go(opened[1])
    return None


async def _let_go(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


async def _http(at: Endpoint | str, path: str) -> str | None:
    if isinstance(at, str):
        return at
    opened = await _open(at)
    if isinstance(opened, str):
        return opened
    reader, writer = opened
    where = f"GET {path} on {at.host}:{at.port}"
    try:
        host = f"[{at.host}]" if ":" in at.host else at.host
        asked = f"GET {path} HTTP/1.1\r\nHost: {host}:{at.port}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        writer.write(asked.encode("utf-8", "replace"))
        await writer.drain()
        line = await reader.readline()
    except (OSError, ValueError):
        return f"{where}: the connection ended without an answer"
    finally:
        await _let_go(writer)
    words = line.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return f"{where}: what answers is no HTTP server"
    status = int(words[1])
    return None if 200 <= status < 400 else f"{where}: status {status}"


async def _command(spec: ServiceSpec, observed: Observed, argv: tuple[str, ...]) -> str | None:
    environment = environment_of(spec, {each.name: each.port for each in observed.endpoints})
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            cwd=spec.cwd or "/",
            start_new_session=True,
            user=spec.user,
            group=None if spec.user is None else pwd.getpwnam(spec.user).pw_gid,
            extra_groups=None if spec.user is None else [],
        )
    except (OSError, KeyError) as error:
        if isinstance(error, KeyError):
            return f"running '{argv[0]}': there is no user '{spec.user}'"
        return f"running '{argv[0]}': {(error.strerror or str(error)).lower()}"
    try:
        assert process.stdout is not None
        said = await _read(process.stdout)
        status = await process.wait()
    finally:
        # Also where it is over: what it left in its session goes with it.
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            await asyncio.shield(_wait(process))
    if status == 0:
        return None
    last = without_hidden(spec, said.decode("utf-8", "replace")).strip().rpartition("\n")[2][:_SAID_MAX]
    return f"'{argv[0]}' exited with {status}" + (f": {last}" if last else "")


async def _wait(process: asyncio.subprocess.Process) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            await process.wait()


async def _read(stream: asyncio.StreamReader) -> bytes:
    """The end of what it says: the rest is read too, so that it does not stand still, and let go."""
    kept = b""
    while chunk := await stream.read(_OUTPUT_BYTES_MAX):
        kept = (kept + chunk)[-_OUTPUT_BYTES_MAX:]
    return kept


async def until_steady(
    spec: ServiceSpec,
    look: Callable[[], Awaitable[Observed | None]],
    *,
    ask: Callable[[ServiceSpec, Observed], Awaitable[str | None]] = why_unhealthy,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Outcome:
    """Look at an instance again and again until it has been healthy for a while, or will not be.

    One whose port does not answer yet is asked more often than it is looked at.
    """
    steadiness = Steadiness(health=spec.health, begun=clock())
    observed: Observed | None = None
    while True:
        observed = await look()
        if observed is None:
            return Outcome(is_steady=False, observed=None, reason="it is not there any more")
        why = await ask(spec, observed)
        now = clock()
        steadiness = steadiness.seen(now, observed, why)
        verdict, reason = steadiness.verdict(now)
        if verdict is not Verdict.WAIT:
            return Outcome(is_steady=verdict is Verdict.STEADY, observed=observed, reason=reason)
        glances = why is not None and isinstance(spec.health.check, HttpCheck | TcpCheck)
        again = now + steadiness.pause_s(now)
        while (left_s := again - clock()) > 0:
            await sleep(min(left_s, steadiness.glance_s(clock())) if glances else left_s)
            if glances and clock() < again and await ask(spec, observed) is None:
                break
