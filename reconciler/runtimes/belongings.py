"""Containers, networks and volumes of one owner on an engine: found by labels, made and removed.

What has no label of its owner is not touched; when something is made, and why it goes, is decided elsewhere.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from reconciler.errors import Conflict
from reconciler.runtimes import container_sight as sight
from reconciler.runtimes import container_texts as texts
from reconciler.runtimes.engine import Engine, EngineRefusal
from reconciler.runtimes.exchange import NoAnswer
from reconciler.runtimes.runtime import Identity, ServiceSpec

_STOP_S = 30.0
_AGAIN_S = 0.05
_GOES_TRIES = 600
_INSPECTED_AT_ONCE = 8


class suppress_status:  # noqa: N801
    """Go on where the engine refuses with one of these: what was to be done is done, or another does it."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = statuses

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        return isinstance(error, EngineRefusal) and error.status in self._statuses


class Belongings:
    """All that an owner has on an engine."""

    def __init__(self, engine: Engine, owner: str) -> None:
        self._engine = engine
        self._owner = owner

    async def all(self, identity: Identity, instance: str | None = None) -> list[dict[str, Any]]:
        """All containers of ours with these labels, as they are."""
        labels = texts.labels_of(self._owner, identity, instance)
        wanted = [f"{name}={value}" for name, value in labels.items()]
        listed = await self._engine.get("/containers/json", all=1, filters={"label": wanted})
        some = asyncio.Semaphore(_INSPECTED_AT_ONCE)

        async def inspected(identifier: str) -> dict[str, Any] | None:
            async with some:
                return await self.inspected(identifier)

        found = await asyncio.gather(*(inspected(str(each["Id"])) for each in listed or []))
        return [each for each in found if each is not None]

    async def inspected(self, identifier: str) -> dict[str, Any] | None:
        """A container as it is; None where it is not there."""
        try:
            found = await self._engine.get(f"/containers/{identifier}/json")
        except EngineRefusal as refusal:
            if refusal.status == 404:
                return None
            raise
        return found if isinstance(found, dict) else None

    async def find(self, identity: Identity, instance: str) -> dict[str, Any] | None:
        """The container of an instance; where labels were copied, the one that has the name too."""
        found = await self.all(identity, instance)
        return min(found, key=sight.is_renamed, default=None)

    async def faults_there(self, spec: ServiceSpec) -> list[str]:
        """All that this engine cannot do for it."""
        found = []
        for name in spec.networks:
            try:
                await self._engine.get(f"/networks/{name}")
            except EngineRefusal as refusal:
                if refusal.status != 404:
                    raise
                found.append(f"its engine has no network '{name}'; 'docker network create {name}' makes it")
        if spec.limits.cpus is not None:
            there = int((await self._engine.get("/info") or {}).get("NCPU") or 0)
            if there and spec.limits.cpus > there:
                found.append(
                    f"a limit of {spec.limits.cpus:g} processors is above the {there} that there are"
                )
        return found

    async def check_name(self, identity: Identity, name: str) -> None:
        """Who has the name is ours, made by another a moment ago; else it is somebody's."""
        holder = await self.inspected(name)
        if holder is not None and (holder["Config"].get("Labels") or {}).get(texts.OWNER) != self._owner:
            raise Conflict(
                f"starting service '{identity}': a container that is not ours has the name '{name}'",
                hint="rename or remove that container",
            )

    async def volume(self, identity: Identity, data: str) -> None:
        """See to it that the volume of some data is there, and ours."""
        name = texts.volume_name(identity, data)
        labels = texts.labels_of(self._owner, identity) | {texts.DATA: data}
        there = await self._engine.post("/volumes/create", {"Name": name, "Labels": labels})
        if (there.get("Labels") or {}) != labels:
            raise Conflict(
                f"starting service '{identity}': the volume '{name}' is there and not ours",
                hint=f"its labels would be {labels}; move what it holds elsewhere, or remove it",
            )

    async def network(self, identity: Identity) -> str:
        """The network of a deployment, made where it is not there; services find each other there by name."""
        name = texts.network_name(self._owner, identity.environment, identity.deployment)
        labels = texts.labels_of(self._owner, _deployment(identity))
        there = await self._networks_of(identity)
        if not there:
            await self._engine.post(
                "/networks/create", {"Name": name, "CheckDuplicate": True, "Labels": labels}
            )
            there = await self.only_network(identity)
        if not there:
            raise NoAnswer(f"{self._engine.address.text}: its network '{name}' is gone again")
        return there[0]

    async def only_network(self, identity: Identity) -> list[str]:
        """An engine may give a name twice to two who ask at once; nobody can start there until one goes."""
        there = await self._networks_of(identity)
        for other in there[1:]:
            with suppress_status(403, 404, 409):
                await self._engine.delete(f"/networks/{other}")
        return there

    async def _networks_of(self, identity: Identity) -> list[str]:
        labels = texts.labels_of(self._owner, _deployment(identity))
        wanted = [f"{name}={value}" for name, value in labels.items()]
        listed = await self._engine.get("/networks", filters={"label": wanted})
        return [
            str(each["Id"]) for each in sorted(listed or [], key=lambda each: (each["Created"], each["Id"]))
        ]

    async def forget_network(self, identity: Identity) -> None:
        """Remove the network of a deployment of which nothing is left; while it is used it stays."""
        if await self.all(_deployment(identity)):
            return
        for each in await self._networks_of(identity):
            with suppress_status(403, 404, 409):
                await self._engine.delete(f"/networks/{each}")

    async def end(self, found: Mapping[str, Any]) -> None:
        """Stop a container in its grace, and remove it with what it kept for itself."""
        identifier, labels = found["Id"], found["Config"]["Labels"]
        grace_s = 10
        with suppress(ValueError):
            grace_s = texts.stop_s(float(labels.get(texts.GRACE, "")))
        engine = self._engine
        with suppress_status(304, 404, 409):
            await engine.post(f"/containers/{identifier}/stop", t=grace_s, within_s=grace_s + _STOP_S)
        await self.delete(identifier)

    async def delete(self, identifier: str) -> None:
        """Remove a container with its anonymous volumes, and see it gone."""
        with suppress_status(404, 409):
            await self._engine.delete(f"/containers/{identifier}", v=1, force=1)
        # Another may be at it, and is not done before it is gone.
        for _ in range(_GOES_TRIES):
            if await self.inspected(identifier) is None:
                return
            await asyncio.sleep(_AGAIN_S)
        raise NoAnswer(f"{self._engine.address.text}: its container '{identifier[:12]}' does not go")


def _deployment(identity: Identity) -> Identity:
    return Identity(environment=identity.environment, deployment=identity.deployment, component="")
