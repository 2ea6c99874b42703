"""The API of a container engine (Docker's, which Podman speaks too): calls, what they answer and refuse.

It knows the wire and the versions of the API, and nothing of services.
"""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from reconciler.runtimes.exchange import Address, Answer, NoAnswer

_VERSION = (1, 41)
"""What is spoken where the engine still does: that of Docker 20.10 and Podman 4."""
_CALL_S = 30.0
_LINE_BYTES_MAX = 1024 * 1024
_LINES_KEPT = 20
_SAID_MAX = 600


class EngineRefusal(Exception):
    """The engine answered that it will not, or cannot; `status` is that of HTTP."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status
        self.said = said


class Engine:
    """One engine, where it serves."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._prefix: str | None = None

    async def version(self) -> dict[str, Any]:
        """What it is, and which versions of the API it speaks."""
        answer = await self.address.whole("GET", "/version", within_s=_CALL_S)
        found = _json(answer)
        if answer.status != 200 or not isinstance(found, dict) or "ApiVersion" not in found:
            raise NoAnswer(f"{self.address.text}: what answers is no container engine")
        return found

    async def get(self, path: str, /, **query: Any) -> Any:
        """Ask for something."""
        return _json(await self._call("GET", path, query))

    async def post(self, path: str, body: Any = None, /, *, within_s: float = _CALL_S, **query: Any) -> Any:
        """Have something done."""
        text = b"" if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        return _json(await self._call("POST", path, query, body=text, headers=headers, within_s=within_s))

    async def put(self, path: str, body: bytes, /, **query: Any) -> None:
        """Bring an archive in."""
        headers = {"content-type": "application/x-tar"}
        await self._call("PUT", path, query, body=body, headers=headers)

    async def delete(self, path: str, /, **query: Any) -> None:
        """Have something removed."""
        await self._call("DELETE", path, query)

    async def read(self, path: str, /, *, bytes_max: int, **query: Any) -> bytes:
        """Read what is no JSON; raises TooLarge."""
        return (await self._call("GET", path, query, bytes_max=bytes_max)).body

    async def progress(
        self,
        path: str,
        body: bytes = b"",
        /,
        *,
        within_s: float,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> list[str]:
        """Have something done that tells how it goes, to its end; returns its last words.

        What fails on the way raises EngineRefusal with those as notes.
        """
        kept: deque[str] = deque(maxlen=_LINES_KEPT)
        target = await self._target(path, query)
        try:
            async with (
                asyncio.timeout(within_s),
                self.address.ask("POST", target, headers=headers, body=body) as (answer, chunks),
            ):
                rest = b""
                async for chunk in chunks:
                    *lines, rest = (rest + chunk).split(b"\n")
                    if len(rest) > _LINE_BYTES_MAX:
                        raise NoAnswer(f"{self.address.text}: a line of its answer is too long")
                    for line in lines:
                        _note(line, answer.status, kept)
                _note(rest, answer.status, kept)
        except TimeoutError:
            raise NoAnswer(f"{self.address.text}: it was not done within {within_s:g} s") from None
        if answer.status >= 300:
            raise EngineRefusal(answer.status, f"status {answer.status}")
        return list(kept)

    async def _target(self, path: str, query: Mapping[str, Any]) -> str:
        if self._prefix is None:
            self._prefix = _prefix(await self.version())
        given = {
            name: json.dumps(value) if isinstance(value, dict) else value for name, value in query.items()
        }
        return f"{self._prefix}{quote(path)}" + (f"?{urlencode(given)}" if given else "")

    async def _call(self, method: str, path: str, query: Mapping[str, Any], **how: Any) -> Answer:
        target = await self._target(path, query)
        try:
            answer = await self.address.whole(method, target, **{"within_s": _CALL_S, **how})
        except NoAnswer:
            # Who answers next may be another release of the engine.
            self._prefix = None
            raise
        if answer.status >= 300 and answer.status != 304:
            said = _json(answer)
            message = said.get("message") if isinstance(said, dict) else None
            raise EngineRefusal(answer.status, str(message or f"status {answer.status}")[:_SAID_MAX])
        return answer


def _prefix(version: Mapping[str, Any]) -> str:
    """The oldest version that it still speaks, and that has all that is asked of it."""
    oldest = str(version.get("MinAPIVersion") or "1.0").split(".")
    try:
        major, minor = max(_VERSION, (int(oldest[0]), int(oldest[1])))
    except (ValueError, IndexError):
        major, minor = _VERSION
    return f"/v{major}.{minor}"


def is_too_old(version: Mapping[str, Any]) -> bool:
    """Whether an engine does not have all that is asked of it."""
    newest = str(version.get("ApiVersion")).split(".")
    return not all(part.isdigit() for part in newest) or tuple(map(int, newest)) < _VERSION


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body) if answer.body.strip() else None
    except ValueError:
        return None


def _note(line: bytes, status: int, kept: deque[str]) -> None:
    """Keep what a line of progress says; raises what it says that went wrong."""
    if not line.strip():
        return
    try:
        said = json.loads(line)
    except ValueError:
        return
    if not isinstance(said, dict):
        return
    wrong = said.get("error") or (said.get("message") if status >= 300 else None)
    if wrong is not None:
        refusal = EngineRefusal(status if status >= 300 else 500, str(wrong)[:_SAID_MAX])
        for each in kept:
            refusal.add_note(each)
        raise refusal
    text = str(said.get("stream") or "").strip()
    if text:
        kept.append(text[:_SAID_MAX])
