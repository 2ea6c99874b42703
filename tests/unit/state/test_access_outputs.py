"""What others are given to get into a database, and where the server is that it lives on."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from reconciler.spec.parse import parse_tree
from reconciler.state.access import Login, access_outputs
from reconciler.state.left import left_state
from reconciler.state.live import LiveInstance, LivePrograms
from reconciler.state.programs import DATABASE_OUTPUTS, DesiredServer
from reconciler.state.servers import Address, address_of
from reconciler.state.tracked import TrackedComponent, TrackedPrograms

OWNER = Login(user="shop:owner@x", password="p/a?s#s w%rd")
READER = Login(user="shop_reader", password="other")
ON = DesiredServer(service="pg", port="sql", user="postgres")


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ({"host": "db.example.com", "port": "5433", "sslmode": "verify-full"}, {"sslmode": "verify-full"}),
        ({"host": "/run/postgresql"}, {"port": "5432"}),
        ({"hostaddr": "::1", "port": "5432"}, {"host": "::1"}),
        (
            {"host": "a,b", "port": "5432,5433", "target_session_attrs": "primary"},
            {"host": "a,b", "port": "5432,5433", "target_session_attrs": "primary"},
        ),
        ({}, {"host": "localhost", "port": "5432"}),
    ],
    ids=["tls", "socket", "version-6", "several", "default"],
)
def test_a_url_says_what_the_daemon_was_told(server: dict[str, str], expected: dict[str, str]) -> None:
    """libpq reads from it the same host, port and mode, and user, password and database as they are."""
    made = access_outputs(server, "my shop/1", OWNER, READER)
    assert made.keys() == DATABASE_OUTPUTS.keys()
    for name, login in (("url", OWNER), ("readerUrl", READER)):
        read = conninfo_to_dict(str(made[name]))
        wanted = {**{key: value for key, value in server.items() if key != "hostaddr"}, **expected}
        assert {key: read[key] for key in wanted} == wanted
        assert (read["user"], read["password"], read["dbname"]) == (login.user, login.password, "my shop/1")


def test_a_port_is_a_number() -> None:
    """Where all hosts have the same one; several are told as they stand."""
    assert access_outputs({"port": "5433"}, "shop", OWNER, READER)["port"] == 5433
    assert access_outputs({"host": "a,b", "port": "1,2"}, "shop", OWNER, READER)["port"] == "1,2"


def seen(name: str, *endpoints: tuple[str, str, int]) -> LivePrograms:
    return LivePrograms(
        instances={"pg": (LiveInstance(instance=name, state="healthy", endpoints=endpoints),)}
    )


def tracked(**more: str) -> TrackedPrograms:
    values = {"definition_hash": "h", **more}
    one = TrackedComponent(component="pg", kind="Service", stage="servers", **values)  # type: ignore[arg-type]
    return TrackedPrograms(components={"pg": one})


def test_a_server_is_where_its_live_instance_is() -> None:
    """The port is found by its name; an instance that is taking the place of a dead one will do."""
    there = seen("a", ("sql", "127.0.0.1", 4001))
    assert address_of(ON, tracked(instance="a"), there) == Address(host="127.0.0.1", port=4001)
    assert address_of(ON, tracked(instance="old", applying="a"), there) == Address(
        host="127.0.0.1", port=4001
    )


def test_never_applied_is_not_unknown() -> None:
    """A service of which nothing was ever live holds nothing; one that is gone may hold anything."""
    assert address_of(ON, TrackedPrograms(), LivePrograms()) is None
    begun = tracked(applying="a", definition_hash="")
    assert address_of(ON, begun, seen("a", ("sql", "127.0.0.1", 1))) is None
    assert address_of(ON, tracked(), LivePrograms()) == "it was stopped"
    assert address_of(ON, tracked(instance="a"), LivePrograms()) == "its instance a is not there"
    hidden = LivePrograms(unknown={"pg": "it runs on machine 'two'"})
    assert address_of(ON, tracked(instance="a"), hidden) == "it runs on machine 'two'"
    assert "has no port 'sql'" in str(address_of(ON, tracked(instance="a"), seen("a")))


def test_what_left_is_still_where_it_was() -> None:
    """A database on a service is looked for there when its deployment left, by the port the spec means."""
    text = """
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  deployments: [{name: eu, postgres: {dsn: {env: EU}}}]
  components:
    - name: pg
      kind: Service
      runtime: {process: {command: [/bin/pg], ports: [{name: sql}]}}
    - {name: shop-db, kind: Database, on: {from: pg}, database: shop}
    - {name: own-db, kind: Database, database: own}
"""
    (parsed,) = parse_tree({"environments/a.yaml": text.encode()}, lambda _path: None)
    assert parsed.spec is not None, parsed.problems
    left = left_state(parsed.spec, "eu", commit="c", declared_at="d")
    assert [part.on for part in left.databases] == [ON, None]
