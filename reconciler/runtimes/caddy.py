"""Routes in Caddy, through its admin API: read as a whole, changed in one write that yields to others'.

It changes nothing of Caddy's configuration but routes of its own, and what `caddy_config` says beside them.
"""

import asyncio
import json
import random
import secrets
import time
from typing import Any

from reconciler.errors import PermanentError, RuntimeUnavailable
from reconciler.frozen import frozen
from reconciler.runtimes.caddy_config import Changed, Place, changed, standing
from reconciler.runtimes.exchange import Address, Answer, NoAnswer, TooLarge
from reconciler.runtimes.proxy import PlacedRoute
from reconciler.runtimes.runtime import Identity

_READ_TRIES = 3
_WRITE_TRIES = 10
_PAUSE_S = 0.02
_SAID_MAX = 300


@frozen
class _Seen:
    """The whole configuration, and what this state of it is called."""

    config: Any
    etag: str


@frozen
class _Waiting:
    """A change that somebody waits for."""

    identity: Identity
    route: PlacedRoute | None
    done: asyncio.Future[None]


class CaddyProxy:
    """One Caddy.

    `admin` is its admin API (`http://127.0.0.1:2019` or `unix:///path`), `listen` where our routes listen:
    a server that does so already takes them, else one is made. `owner` tells whose routes they are: daemons
    with one control database have the same. What comes while something is being written is written together.
    Within `within_s` it has to tell its configuration; a write may take three times that.
    """

    def __init__(
        self,
        *,
        name: str,
        admin: str,
        owner: str,
        listen: tuple[str, ...] = (":80",),
        drain_s: float = 3.0,
        within_s: float = 15.0,
    ) -> None:
        self._name = name
        self._read_within_s = within_s
        self._write_within_s = 3 * within_s + drain_s
        self._address = Address(text=admin)
        self._place = Place(proxy=name, owner=owner, listen=listen, drain_s=drain_s)
        self._lock = asyncio.Lock()
        self._waiting: list[_Waiting] = []

    @property
    def name(self) -> str:
        """What the settings call it."""
        return self._name

    async def why_not(self) -> str | None:
        """Why it cannot be used; None where its configuration can be read."""
        if fault := self._address.fault():
            return f"the admin API of proxy '{self._name}': {fault}"
        try:
            await self._read()
        except RuntimeUnavailable as error:
            return str(error)
        return None

    async def observe(self, environment: str, deployment: str) -> tuple[PlacedRoute, ...]:
        """Our routes of a deployment, by component. Raises RuntimeUnavailable where nothing can be said."""
        seen = await self._read()
        return tuple(
            route
            for route in standing(seen.config, self._place)
            if (route.identity.environment, route.identity.deployment) == (environment, deployment)
        )

    async def put(self, route: PlacedRoute) -> None:
        """Set a route, or lead it elsewhere; once this returns no new request goes where it led before."""
        await self._change(route.identity, route)

    async def remove(self, identity: Identity) -> None:
        """Take a route away, if it is there."""
        await self._change(identity, None)

    async def _change(self, identity: Identity, route: PlacedRoute | None) -> None:
        """Have a change written: with others that wait, by whoever is next."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        mine = _Waiting(identity=identity, route=route, done=done)
        self._waiting.append(mine)
        try:
            async with self._lock:
                if not done.done():
                    await self._write_all(mine)
        finally:
            self._waiting = [each for each in self._waiting if each is not mine]
        done.result()

    async def _write_all(self, mine: _Waiting) -> None:
        taken, self._waiting = self._waiting, []
        refused: dict[Identity, PermanentError] = {}
        error: RuntimeUnavailable | None = None
        try:
            refused.update((await self._write({each.identity: each.route for each in taken})).refused)
        except RuntimeUnavailable as failed:
            error = failed
        except BaseException:
            # We are given up; the others are not, and the next of them writes.
            self._waiting = [*(each for each in taken if each is not mine), *self._waiting]
            raise
        for each in taken:
            why = error or refused.get(each.identity)
            if why is None:
                each.done.set_result(None)
            else:
                each.done.set_exception(why)
                each.done.exception()  # whoever gave up waiting does not have to hear of it

    async def _write(self, changes: dict[Identity, PlacedRoute | None]) -> Changed:
        for attempt in range(_WRITE_TRIES):
            seen = await self._read()
            made = changed(seen.config, self._place, changes, token=secrets.token_hex(6))
            if made.config is None or await self._send(seen, made.config):
                return made
            await asyncio.sleep(random.uniform(0.5, 1.5) * _PAUSE_S * 2 ** min(attempt, 3))  # noqa: S311
        raise RuntimeUnavailable(
            f"changing routes in proxy '{self._name}': somebody else changed its configuration each of "
            f"{_WRITE_TRIES} times",
            hint="it is tried again; see what else writes to the admin API of that Caddy",
        )

    async def _read(self) -> _Seen:
        answer = await self._configuration()
        etag = answer.headers.get("etag", "")
        try:
            config = json.loads(answer.body) if answer.status == 200 and etag else ""
        except (ValueError, RecursionError):
            config = ""
        if config is not None and not isinstance(config, dict):
            raise RuntimeUnavailable(
                f"reading the routes of proxy '{self._name}' at {self._address.text}: what answers is no "
                f"admin API of Caddy (status {answer.status})",
                hint="let `admin` in the settings name the admin API of a Caddy that is 2.6 or later",
            )
        return _Seen(config=config, etag=etag)

    async def _configuration(self) -> Answer:
        """Ask for all of it; again where that breaks off, for whoever changes it starts the API anew."""
        until = time.monotonic() + self._read_within_s
        for _ in range(_READ_TRIES - 1):
            try:
                return await self._ask("GET", "/config/", within_s=self._read_within_s)
            except RuntimeUnavailable:
                if time.monotonic() + _PAUSE_S >= until:
                    raise
                await asyncio.sleep(_PAUSE_S)
        return await self._ask("GET", "/config/", within_s=max(0.1, until - time.monotonic()))

    async def _send(self, seen: _Seen, config: dict[str, Any]) -> bool:
        """Write what changed where the configuration still is what was seen; returns whether it was."""
        if isinstance(seen.config, dict) and isinstance(seen.config.get("apps"), dict):
            target, body = "/config/apps/http", config["apps"]["http"]
        elif isinstance(seen.config, dict):
            target, body = "/config/apps", config["apps"]
        else:
            target, body = "/config/", config
        answer = await self._ask(
            "POST", target, body=json.dumps(body).encode(), etag=seen.etag, within_s=self._write_within_s
        )
        if answer.status == 412:
            return False
        if 200 <= answer.status < 300:
            return True
        said = answer.body[:_SAID_MAX].decode("utf-8", "replace").strip()
        raise RuntimeUnavailable(
            f"changing routes in proxy '{self._name}': Caddy refuses its new configuration with status "
            f"{answer.status}: {said}",
            hint="it keeps the one it had; what it says names what is in the way",
        )

    async def _ask(
        self, method: str, target: str, *, body: bytes = b"", etag: str | None = None, within_s: float
    ) -> Answer:
        headers = {"content-type": "application/json"} if body else {}
        headers |= {"if-match": etag} if etag is not None else {}
        # On a socket file Caddy takes no name of a host for its own.
        headers |= {"host": ""} if self._address.text.startswith("unix:") else {}
        try:
            return await self._address.whole(method, target, headers=headers, body=body, within_s=within_s)
        except (NoAnswer, TooLarge) as error:
            doing = "reading the routes of" if method == "GET" else "changing routes in"
            raise RuntimeUnavailable(
                f"{doing} proxy '{self._name}': its admin API at {error}",
                hint="nothing is assumed of its routes; start Caddy, or mend `admin` in the settings",
            ) from None
