"""What becomes of a configuration of Caddy when routes are set in it and taken away."""

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from reconciler.errors import Conflict
from reconciler.runtimes.caddy_config import Place, changed, standing
from reconciler.runtimes.proxy import PlacedRoute
from reconciler.runtimes.runtime import Identity

PLACE = Place(proxy="edge", owner="one", listen=(":80",))
USERS_ROUTES = [
    {"handle": [{"handler": "encode", "encodings": {"gzip": {}}}]},
    {
        "match": [{"host": ["www.example.com"]}],
        "terminal": True,
        "handle": [
            {
                "handler": "subroute",
                "routes": [
                    {"handle": [{"handler": "headers"}]},
                    {
                        "match": [{"path": ["/Admin/*"]}],
                        "handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": "127.0.0.1:1"}]}],
                    },
                    {"match": [{"path": ["/post"], "method": ["POST"]}], "handle": [{"handler": "error"}]},
                    {"handle": [{"handler": "file_server"}]},
                ],
            }
        ],
    },
    {"handle": [{"handler": "static_response", "body": "everything else"}]},
]
USERS: dict[str, Any] = {
    "admin": {"listen": "127.0.0.1:2019"},
    "logging": {"logs": {"default": {"level": "WARN"}}},
    "apps": {
        "http": {"http_port": 80, "servers": {"srv0": {"listen": [":80"], "routes": USERS_ROUTES}}},
        "tls": {"automation": {"policies": [{"on_demand": False}]}},
    },
}


def route(
    component: str = "edge", host: str = "shop.example.com", path: str = "/", **other: Any
) -> PlacedRoute:
    made = PlacedRoute(
        identity=Identity(environment="production", deployment="eu", component=component),
        host=host,
        path=path,
        upstream=("127.0.0.1", 8080),
        definition_hash="sha256:1",
    )
    return replace(made, **other)


def put(config: Any, *routes: PlacedRoute, place: Place = PLACE, token: str = "t") -> Any:
    made = changed(config, place, {each.identity: each for each in routes}, token=token)
    assert not made.refused, made.refused
    return config if made.config is None else made.config


def refused(config: Any, new: PlacedRoute, place: Place = PLACE) -> str:
    made = changed(config, place, {new.identity: new}, token="t")
    assert made.config is None
    (error,) = made.refused.values()
    assert isinstance(error, Conflict)
    return error.message


def ids(config: Any, server: str = "reconciler") -> list[str]:
    found = []
    for each in config["apps"]["http"]["servers"][server]["routes"]:
        mark = each.get("@id", "").split(":")
        found.append(mark[4] if mark[0] == "reconciler" else mark[0])
    return found


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(None, id="nothing"),
        pytest.param({}, id="empty"),
        pytest.param({"admin": {"disabled": False}}, id="no-apps"),
        pytest.param({"apps": {"tls": {}}}, id="no-http"),
        pytest.param({"apps": {"http": {"servers": None}}}, id="no-servers"),
    ],
)
def test_a_server_of_its_own(before: Any) -> None:
    """Where nobody listens a server is made, which knows nothing but our routes, and no certificates."""
    made = put(before, route())
    server = made["apps"]["http"]["servers"]["reconciler"]
    assert server["listen"] == [":80", "unix/@reconciler-t"]
    assert server["automatic_https"] == {"disable": True}
    assert server["routes"][-1]["handle"] == [{"handler": "static_response", "status_code": 404}]
    assert made["apps"]["http"]["shutdown_delay"] == "3000000us"
    assert standing(made, PLACE) == (route(),)


def test_nothing_is_written_twice() -> None:
    """What stands there already is no change, though a write would have another token."""
    made = put(None, route())
    same = changed(made, PLACE, {route().identity: route()}, token="other")
    assert same.config is None
    gone = changed(made, PLACE, {route("nobody").identity: None}, token="other")
    assert gone.config is None


def test_the_last_one_leaves_nothing_behind() -> None:
    """All that was made for routes goes with the last of them; the rest is to the byte as it was."""
    users = {**USERS, "apps": {"http": {"servers": {"srv0": {"listen": [":8080"], "routes": USERS_ROUTES}}}}}
    before = json.dumps(users)
    made = put(users, route(), route("other", path="/other"))
    one = changed(made, PLACE, {route().identity: None}, token="u").config
    assert ids(one) == ["other", "reconciler-none"]
    none = changed(one, PLACE, {route("other").identity: None}, token="v").config
    assert json.dumps(none) == before
    assert json.dumps(users) == before


def test_a_delay_of_the_user_stays() -> None:
    """A delay that was set by somebody is neither changed nor taken away."""
    users = {"apps": {"http": {"shutdown_delay": "5s", "servers": {}}}}
    made = put(users, route())
    assert made["apps"]["http"]["shutdown_delay"] == "5s"
    assert changed(made, PLACE, {route().identity: None}, token="u").config == users


def test_each_write_closes_an_address() -> None:
    """Each configuration has an address of its own: Caddy drains connections only where one is closed."""
    first = put(None, route(), token="a")
    second = put(first, route(upstream=("127.0.0.1", 8081)), token="b")
    assert second["apps"]["http"]["servers"]["reconciler"]["listen"] == [":80", "unix/@reconciler-b"]


def test_a_server_with_certificates() -> None:
    """Who listens at 443 wants certificates; HTTP/3 needs that every address there is one of the network."""
    made = put(None, route(), place=replace(PLACE, listen=(":80", ":443")))
    assert made["apps"]["http"]["servers"]["reconciler"]["listen"] == [":80", ":443"]
    assert "automatic_https" not in made["apps"]["http"]["servers"]["reconciler"]


def test_in_a_server_of_the_user() -> None:
    """Ours stand behind what lets requests pass and before what may answer them; nothing else changes."""
    before = copy.deepcopy(USERS)
    made = put(USERS, route())
    server = made["apps"]["http"]["servers"]["srv0"]
    assert [each for each in server["routes"] if "@id" not in each] == USERS_ROUTES
    assert "@id" in server["routes"][1]
    assert before == USERS
    server["routes"] = USERS_ROUTES
    assert made == USERS


def test_the_longest_path_is_asked_first() -> None:
    """The route of a host is asked before one of all in its domain, and of each the longest path first."""
    made = None
    for each in (
        route("all"),
        route("wild", host="*.example.com", path="/api"),
        route("api", path="/api"),
        route("deep", path="/api/v2/"),
        route("wild-all", host="*.example.com"),
    ):
        made = put(made, each)
    assert ids(made) == ["deep", "api", "all", "wild", "wild-all", "reconciler-none"]
    match = [each.get("match") for each in made["apps"]["http"]["servers"]["reconciler"]["routes"]]
    assert match[0] == [{"host": ["shop.example.com"], "path": ["/api/v2", "/api/v2/*"]}]
    assert match[2] == [{"host": ["shop.example.com"]}]


@pytest.mark.parametrize(
    ("new", "who"),
    [
        pytest.param(route("edge2"), "the route of production/eu/edge has it", id="ours"),
        pytest.param(
            route("edge2", host="Shop.Example.com"), "the route of production/eu/edge", id="in-capitals"
        ),
        pytest.param(route(host="www.example.com"), "route 2 of server 'srv0'", id="a-site"),
        pytest.param(
            route(host="www.example.com", path="/admin/"), "route 2 of server 'srv0'", id="below-a-site"
        ),
    ],
)
def test_a_host_and_path_has_one_route(new: PlacedRoute, who: str) -> None:
    """A second route for a host and path is refused, and says whose the first is; nothing is written."""
    assert who in refused(put(USERS, route()), replace(new, upstream=("127.0.0.1", 9)))


def test_of_another_control_database() -> None:
    """A route that another reconciler set is never taken over, nor taken away, nor shown as ours."""
    made = put(None, route())
    other = replace(PLACE, owner="two")
    assert "of another reconciler ('one') has it" in refused(made, route(), other)
    assert standing(made, other) == ()
    assert changed(made, other, {route().identity: None}, token="t").config is None


@pytest.mark.parametrize("path", ["/post", "/admin/users", "/other"])
def test_beside_a_site(path: str) -> None:
    """A path that a site does not name for all requests may be led elsewhere."""
    assert standing(put(USERS, route(host="www.example.com", path=path)), PLACE)[0].path == path


def test_two_at_once() -> None:
    """Of two that want the same in one write the second is refused; the first is set."""
    first, second = route(), route("edge2")
    made = changed(None, PLACE, {first.identity: first, second.identity: second}, token="t")
    assert list(made.refused) == [second.identity]
    assert standing(made.config, PLACE) == (first,)


def test_addresses_that_are_shared_in_part() -> None:
    """Where a server listens at some of the addresses only, no server can be made: the settings are wrong."""
    message = refused(USERS, route(), replace(PLACE, listen=(":80", ":8080")))
    assert message.endswith("'srv0' listens at only some of :80, :8080")
    assert standing(USERS, replace(PLACE, listen=(":80", ":8080"))) == ()


def test_other_addresses() -> None:
    """When the settings name other addresses, routes are shown as edited and move with the next write."""
    moved = replace(PLACE, listen=("tcp/127.0.0.1:8080",))
    made = put(None, route())
    assert standing(made, moved) == (route(edited=True),)
    made = put(made, route(), place=moved)
    assert list(made["apps"]["http"]["servers"]) == ["reconciler-2"]
    assert standing(made, moved) == (route(),)


def _upstream(made: Any) -> None:
    made["handle"][2]["upstreams"][0]["dial"] = "10.0.0.1:81"


def _header(made: Any) -> None:
    made["handle"].insert(0, {"handler": "headers"})


def _nonsense(made: Any) -> None:
    made["match"], made["handle"] = None, [7]


@pytest.mark.parametrize(
    ("edit", "upstream"),
    [
        pytest.param(_upstream, ("10.0.0.1", 81), id="led-elsewhere"),
        pytest.param(_header, ("127.0.0.1", 8080), id="a-header-more"),
        pytest.param(_nonsense, ("", 0), id="nonsense"),
    ],
)
def test_edited_by_hand(edit: Any, upstream: tuple[str, int]) -> None:
    """What was changed by hand is told, with where it leads now, and put right by the next write."""
    made = put(None, route())
    edit(made["apps"]["http"]["servers"]["reconciler"]["routes"][0])
    (found,) = standing(made, PLACE)
    assert found.edited
    assert found.upstream == upstream
    assert standing(put(made, route()), PLACE) == (route(),)


def test_hidden_behind_another() -> None:
    """A route that something stands before is told as edited, for requests do not reach it."""
    made = put(USERS, route())
    routes = made["apps"]["http"]["servers"]["srv0"]["routes"]
    routes.append(routes.pop(1))
    assert standing(made, PLACE) == (route(edited=True),)
    assert standing(put(made, route()), PLACE) == (route(),)


def test_copied_by_hand() -> None:
    """A copy in another server is told once, as edited, and goes with the next write."""
    made = put(USERS, route())
    servers = made["apps"]["http"]["servers"]
    servers["srv1"] = {"listen": [":81"], "routes": [copy.deepcopy(servers["srv0"]["routes"][1])]}
    assert standing(made, PLACE) == (route(edited=True),)
    again = put(made, route(upstream=("::1", 80)))
    assert again["apps"]["http"]["servers"]["srv1"]["routes"] == []
    assert standing(again, PLACE) == (route(upstream=("::1", 80)),)


@pytest.mark.parametrize(
    "garbage", [{"apps": 7}, {"apps": {"http": []}}, {"apps": {"http": {"servers": {"a": 1}}}}]
)
def test_what_nobody_would_write(garbage: Any) -> None:
    """A configuration in no form that is known has no routes of ours."""
    assert standing(garbage, PLACE) == ()
