"""A look at a text or branch that nobody follows yet connects through nothing that is new in it."""

import pytest

from reconciler.errors import Refused
from reconciler.reconcile.heads import check_connections
from reconciler.spec.parse import parse_file
from reconciler.state.desired import DesiredState
from reconciler.state.resolve import resolve

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: shop}
spec:
  deployments: [{name: eu, postgres: {dsn: {env: EU}, provisionDsn: {env: EU_NARROW}}}]
  components:
    - name: pg
      kind: Service
      runtime: {process: {command: [postgres], ports: [{name: sql}, {name: other}]}}
    - {name: db, kind: Database, database: shop, on: {from: pg, port: sql, password: {env: PG}}}
"""
MORE = """\
    - {name: pg2, kind: Service, runtime: {process: {command: [postgres], ports: [{name: sql}]}}}
    - {name: db2, kind: Database, database: shop2, on: {from: pg2, password: {env: ANY}}}
"""


def states(text: str) -> list[DesiredState]:
    (parsed,) = parse_file("e.yaml", text.encode())
    assert parsed.spec is not None, parsed.problems
    return [resolve(parsed.spec, "eu", "c" * 40, {})]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("{env: EU}", "{env: X}", "env X"),
        ("{env: EU_NARROW}", "{env: X}", "env X"),
        ("{env: PG}", "{env: X}", "service 'pg'"),
        ("port: sql, password", "port: other, password", "service 'pg'"),
        ("password: {env: PG}", "user: root, password: {env: PG}", "service 'pg'"),
    ],
)
def test_what_is_new_is_not_connected_through(old: str, new: str, told: str) -> None:
    """Another reference, role or port is refused by its name, and nothing of it is opened."""
    with pytest.raises(Refused, match=f"would connect through {told}.* does not use"):
        check_connections("shop", states(SPEC.replace(old, new)), states(SPEC))


def test_what_is_followed_and_what_never_ran_may_be_looked_at() -> None:
    """The same connections are fine, and so is a database on a service that nobody has started yet."""
    check_connections("shop", states(SPEC), states(SPEC))
    check_connections("shop", states(SPEC + MORE), states(SPEC))
    with pytest.raises(Refused):
        check_connections("shop", states(SPEC), ())
