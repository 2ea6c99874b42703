"""The configuration of Caddy as values: which routes of ours stand in it, and how it is with others.

It speaks to nobody, and hands back what is not ours as it was.
"""

import copy
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from reconciler.errors import Conflict, PermanentError
from reconciler.frozen import frozen
from reconciler.runtimes.proxy import PlacedRoute
from reconciler.runtimes.runtime import Identity

Json = Any
_OURS = "reconciler"
_FALLBACK = "reconciler-none:"
_OUR_SERVER = re.compile(r"reconciler(-[0-9]+)?")
_DRAINING = "unix/@reconciler-"
_PASS_ON = frozenset({"encode", "headers", "request_body", "vars", "map", "tracing", "authentication"})
"""Handlers that let a request go on: routes of nothing else may stand before ours, and count for them."""
_NESTED_MAX = 8
_DIAL = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:/\[\]]+)):(?P<port>[0-9]{1,5})")


@frozen
class Place:
    """Where our routes belong: the server that listens at all of `listen`; `owner` tells ours from others'.

    `drain_s` is how long connections are drained when routes change, in a server that is ours.
    """

    proxy: str
    owner: str
    listen: tuple[str, ...]
    drain_s: float = 3.0


@frozen
class Changed:
    """What was made of a configuration; without one nothing is to be written. `refused` stays as it was."""

    config: Json
    refused: Mapping[Identity, PermanentError]


def standing(config: Json, place: Place) -> tuple[PlacedRoute, ...]:
    """All routes of an owner, by identity; those are edited that are not as they would be put."""
    found: dict[Identity, PlacedRoute] = {}
    try:
        wanted = _server_for(_servers(config), place)
    except PermanentError:
        wanted = None
    for name, server in sorted(_servers(config).items()):
        routes = _routes(server)
        for route, right in zip(routes, _arranged(routes), strict=True):
            mark = _Mark.of(route)
            if mark is None or mark.owner != place.owner:
                continue
            is_right = name == wanted and _id(route) == _id(right) and mark.check == _check(route)
            seen = _read(route, mark, edited=not is_right or mark.identity in found)
            first = found.get(mark.identity, seen)
            found[mark.identity] = seen if name == wanted else replace(first, edited=True)
    return tuple(found[key] for key in sorted(found, key=str))


def changed(
    config: Json, place: Place, changes: Mapping[Identity, PlacedRoute | None], *, token: str
) -> Changed:
    """Set routes, and take away those without a value; `token` is another one for every write."""
    made = copy.deepcopy(config) if isinstance(config, dict) else {}
    refused: dict[Identity, PermanentError] = {}
    for identity, route in changes.items():
        try:
            if route is not None:
                _put(made, place, route)
            else:
                _take_away(made, place, identity)
        except PermanentError as error:
            refused[identity] = error
    _tidy(made)
    if made == (config if isinstance(config, dict) else {}):
        return Changed(config=None, refused=refused)
    _drain(made, place, token)
    return Changed(config=made, refused=refused)


def _put(config: dict[str, Json], place: Place, route: PlacedRoute) -> None:
    servers = _servers(config)
    name = _server_for(servers, place)
    if name is not None:
        _refuse_a_second(route, place, name, _routes(servers[name]))
    _take_away(config, place, route.identity)
    if name is None:
        name = _add_server(config, place)
    server = _servers(config)[name]
    server["routes"] = _arranged([*_routes(server), _rendered(route, place)])


# ---- servers


def _servers(config: Json) -> dict[str, Json]:
    """The servers there are, by name; changes of it are changes of the configuration where it has some."""
    apps = config.get("apps") if isinstance(config, dict) else None
    http = apps.get("http") if isinstance(apps, dict) else None
    servers = http.get("servers") if isinstance(http, dict) else None
    return servers if isinstance(servers, dict) else {}


def _routes(server: Json) -> list[Json]:
    routes = server.get("routes") if isinstance(server, dict) else None
    return routes if isinstance(routes, list) else []


def _listens(server: Json) -> set[tuple[str, ...]]:
    listen = server.get("listen") if isinstance(server, dict) else None
    return {_address(each) for each in listen if isinstance(each, str)} if isinstance(listen, list) else set()


def _address(text: str) -> tuple[str, ...]:
    """An address so that those which Caddy takes for the same are."""
    network, slash, rest = text.rpartition("/") if not text.startswith("unix/") else ("unix", "/", text[5:])
    if network == "unix":
        return ("unix", rest)
    host, _, port = rest.rpartition(":")
    return (network if slash else "tcp", host.strip("[]").lower(), port)


def _server_for(servers: Mapping[str, Json], place: Place) -> str | None:
    """The server that listens where our routes belong, whoever made it; None where nobody listens there."""
    wanted = {_address(each) for each in place.listen}
    for name in sorted(servers):
        there = _listens(servers[name])
        if wanted <= there:
            return name
        if wanted & there:
            raise Conflict(
                f"looking for the server of the routes in proxy '{place.proxy}': '{name}' listens at only "
                f"some of {', '.join(place.listen)}",
                hint="let `listen` in the settings name addresses of one server, or such as nobody has",
            )
    return None


def _add_server(config: dict[str, Json], place: Place) -> str:
    servers = config
    for part in ("apps", "http", "servers"):
        if not isinstance(servers.get(part), dict):
            servers[part] = {}
        servers = servers[part]
    names = (_OURS if number == 1 else f"{_OURS}-{number}" for number in range(1, len(servers) + 2))
    name = next(name for name in names if name not in servers)
    servers[name] = {
        "listen": list(place.listen),
        "routes": [
            {
                "@id": f"{_FALLBACK}{name}",
                "handle": [{"handler": "static_response", "status_code": 404}],
            }
        ],
    }
    if not _has_tls(servers[name]):
        servers[name]["automatic_https"] = {"disable": True}
    return name


def _has_tls(server: Json) -> bool:
    return any(each[-1] == "443" for each in _listens(server))


def _is_ours(name: str, server: Json) -> bool:
    """Whether a server is there for routes of ours alone."""
    return _OUR_SERVER.fullmatch(name) is not None and any(_is_fallback(route) for route in _routes(server))


def _is_fallback(route: Json) -> bool:
    return _id(route).startswith(_FALLBACK)


def _tidy(config: dict[str, Json]) -> None:
    """Take our servers away that have no route any more, and with the last of them what came with it."""
    servers = _servers(config)
    for name in [name for name, server in servers.items() if _is_ours(name, server)]:
        if all(_is_fallback(route) for route in _routes(servers[name])):
            del servers[name]
    if not any(_is_ours(*each) for each in servers.items()):
        http = (config.get("apps") or {}).get("http")
        if isinstance(http, dict) and _is_our_delay(http.get("shutdown_delay")):
            del http["shutdown_delay"]


def _is_our_delay(value: Json) -> bool:
    """Written in microseconds, as nobody else does."""
    return isinstance(value, str) and value.endswith("000us")


def _drain(config: dict[str, Json], place: Place, token: str) -> None:
    """See to it that the next change drains connections.

    Caddy ends idle connections when its configuration changes, and a request that comes at that moment is
    lost. Only where an address is closed by the change, it waits before (`shutdown_delay`), and says so to
    handlers: ours answer with `Connection: close` then. So each configuration has one that goes with it.
    """
    servers = {name: server for name, server in _servers(config).items() if _is_ours(name, server)}
    for server in servers.values():
        if not _has_tls(server):
            kept = [each for each in server["listen"] if not str(each).startswith(_DRAINING)]
            server["listen"] = [*kept, f"{_DRAINING}{token}"]
    http = config["apps"]["http"] if servers else {}
    if servers and ("shutdown_delay" not in http or _is_our_delay(http["shutdown_delay"])):
        http["shutdown_delay"] = f"{round(place.drain_s * 1000)}000us"


# ---- routes


@frozen
class _Mark:
    """What the id of a route of ours says of it."""

    owner: str
    identity: Identity
    check: str
    definition_hash: str

    @classmethod
    def of(cls, route: Json) -> "_Mark | None":
        parts = _id(route).split(":", 6)
        if len(parts) != 7 or parts[0] != _OURS:
            return None
        _, owner, environment, deployment, component, check, definition_hash = parts
        identity = Identity(environment=environment, deployment=deployment, component=component)
        return cls(owner=owner, identity=identity, check=check, definition_hash=definition_hash)


def _id(route: Json) -> str:
    found = route.get("@id") if isinstance(route, dict) else None
    return found if isinstance(found, str) else ""


def _check(route: Mapping[str, Json]) -> str:
    """A hash of all that a route does."""
    body = {key: value for key, value in route.items() if key != "@id"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]


def _rendered(route: PlacedRoute, place: Place) -> dict[str, Json]:
    host, port = route.upstream
    path = _plain(route.path)
    match: dict[str, Json] = {"host": [route.host.lower()]}
    if path != "/":
        match["path"] = [path, f"{path}/*"]
    made = {
        "match": [match],
        "handle": [
            {
                # Read when the answer is sent: a slow request may outlast the moment it was asked in.
                "handler": "map",
                "source": "{http.shutting_down}",
                "destinations": ["{reconciler.connection}"],
                "mappings": [{"input": "true", "outputs": ["close"]}],
                "defaults": ["keep-alive"],
            },
            {
                "handler": "headers",
                "response": {
                    "set": {"Connection": ["{reconciler.connection}"]},
                    "require": {"status_code": [2, 3, 4, 5]},  # not 101: that connection becomes another
                    "deferred": True,
                },
            },
            {
                "handler": "reverse_proxy",
                "upstreams": [{"dial": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}],
                # A service that is replaced in place, or starts again, is not there for a moment.
                "load_balancing": {"try_duration": "5s", "try_interval": "100ms"},
            },
        ],
        "terminal": True,
    }
    parts = [_OURS, place.owner, *_names(route.identity), _check(made), route.definition_hash]
    return {"@id": ":".join(parts), **made}


def _names(identity: Identity) -> tuple[str, str, str]:
    return identity.environment, identity.deployment, identity.component


def _read(route: Json, mark: _Mark, *, edited: bool) -> PlacedRoute:
    """A route of ours as it stands; what cannot be read of it is empty."""
    host, path, dial = "", "/", ""
    try:
        match = route["match"][0]
        host = str(match["host"][0])
        path = str(match.get("path", ["/"])[0])
        dial = next(
            str(each["upstreams"][0]["dial"])
            for each in route["handle"]
            if each.get("handler") == "reverse_proxy"
        )
    except (KeyError, IndexError, TypeError, AttributeError, StopIteration):
        edited = True
    found = _DIAL.fullmatch(dial)
    upstream = (found["six"] or found["host"], int(found["port"])) if found else (dial, 0)
    return PlacedRoute(
        identity=mark.identity,
        host=host,
        path=path,
        upstream=upstream,
        definition_hash=mark.definition_hash,
        edited=edited or found is None,
    )


def _plain(path: str) -> str:
    return path.rstrip("/") or "/"


def _take_away(config: dict[str, Json], place: Place, identity: Identity) -> None:
    for server in _servers(config).values():
        marks = [(route, _Mark.of(route)) for route in _routes(server)]
        kept = [
            route
            for route, mark in marks
            if mark is None or mark.owner != place.owner or mark.identity != identity
        ]
        if len(kept) < len(marks):
            server["routes"] = kept


def _arranged(routes: list[Json]) -> list[Json]:
    """Ours before the first that may answer in their place, by host and longest path; the rest as it was."""
    ours = sorted((route for route in routes if _Mark.of(route) is not None), key=_order)
    others = [route for route in routes if _Mark.of(route) is None]
    at = next((index for index, route in enumerate(others) if not _passes_on(route)), len(others))
    return [*others[:at], *ours, *others[at:]]


def _order(route: Json) -> tuple[Json, ...]:
    mark = _Mark.of(route)
    assert mark is not None
    read = _read(route, mark, edited=False)
    return (read.host.startswith("*"), -len(_plain(read.path)), read.host, read.path, _id(route))


def _handlers(route: Json) -> list[Json]:
    handle = route.get("handle") if isinstance(route, dict) else None
    return [each for each in handle if isinstance(each, dict)] if isinstance(handle, list) else []


def _passes_on(route: Json) -> bool:
    handlers = _handlers(route)
    return all(each.get("handler") in _PASS_ON for each in handlers) and not route.get("terminal")


# ---- who has a host and path


def _refuse_a_second(route: PlacedRoute, place: Place, server: str, routes: list[Json]) -> None:
    wanted = (route.host.lower(), _plain(route.path).lower())
    for index, each in enumerate(routes):
        mark = _Mark.of(each)
        if mark is not None and mark.owner == place.owner and mark.identity == route.identity:
            continue
        if wanted not in _claims(each, None, "/", 0):
            continue
        if mark is None:
            whose = (
                f"route {index} of server '{server}' in the configuration of Caddy has it, and is not ours"
            )
        elif mark.owner == place.owner:
            whose = f"the route of {mark.identity} has it"
        else:
            whose = f"the route of {mark.identity} of another reconciler ('{mark.owner}') has it"
        raise Conflict(
            f"setting the route of {route.identity} for {route.host}{route.path} in proxy '{place.proxy}': "
            f"{whose}",
            hint="remove one of the two, or give one another host or path",
        )


def _claims(route: Json, hosts: Iterable[str] | None, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Hosts and paths that a route answers for, whatever else a request is; none where it names no host."""
    if depth > _NESTED_MAX or not isinstance(route, dict):
        return
    sets = route.get("match")
    for match in sets if isinstance(sets, list) and sets else [{}]:
        if not isinstance(match, dict) or not match.keys() <= {"host", "path"}:
            continue
        named = [str(each).lower() for each in match["host"]] if "host" in match else hosts
        paths = (
            [_plain(str(each).rstrip("*")).lower() for each in match["path"]] if "path" in match else [path]
        )
        for each in paths:
            for handler in _handlers(route):
                if handler.get("handler") == "subroute":
                    for nested in _routes(handler):
                        yield from _claims(nested, named, each, depth + 1)
                elif handler.get("handler") not in _PASS_ON:
                    yield from ((host, each) for host in named or ())
