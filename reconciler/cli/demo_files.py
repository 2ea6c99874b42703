"""The sample config repository: what `demo` commits and `init` writes."""

_ENVIRONMENT = """\
# yaml-language-server: $schema=../schemas/environment.schema.json
apiVersion: reconciler/v1
kind: Environment
metadata:
  name: production
spec:
  deployments:
    - name: eu
      postgres: {dsn: {env: SHOP_DSN}}
    - name: us
      postgres: {dsn: {env: SHOP_DSN}}
  rollout:
    order: rolling
  components:
    - name: shop-db
      kind: Database
      database: shop_${deployment}
      extensions: [citext]
    - name: shop-schema
      kind: Module
      database: {from: shop-db}
      path: modules/shop
"""

_PLAN = """\
%syntax-version=1.0.0
%project=shop

schema 2026-01-05T09:00:00Z Shop Team <shop@example.com> # The schema of the shop
customers [schema] 2026-01-05T09:10:00Z Shop Team <shop@example.com> # Who buys
orders [customers] 2026-01-05T09:20:00Z Shop Team <shop@example.com> # What was bought
@v1.0.0 2026-01-05T09:30:00Z Shop Team <shop@example.com> # First release
"""

_LOYALTY = """\

loyalty [customers] 2026-02-02T10:00:00Z Shop Team <shop@example.com> # Points of a customer
"""


def _scripts(name: str, deploy: str, verify: str, revert: str) -> dict[str, str]:
    kinds = {
        "deploy": ("-- Deploy shop:{} to pg", deploy, "COMMIT"),
        "verify": ("-- Verify shop:{} on pg", verify, "ROLLBACK"),
        "revert": ("-- Revert shop:{} from pg", revert, "COMMIT"),
    }
    return {
        f"modules/shop/{kind}/{name}.sql": f"{title.format(name)}\n\nBEGIN;\n\n{body}\n\n{end};\n"
        for kind, (title, body, end) in kinds.items()
    }


FIRST_COMMIT: dict[str, str] = {
    "environments/production.yaml": _ENVIRONMENT,
    "modules/shop/sqitch.plan": _PLAN,
    **_scripts(
        "schema",
        "CREATE SCHEMA shop;",
        "SELECT pg_catalog.has_schema_privilege('shop', 'usage');",
        "DROP SCHEMA shop;",
    ),
    **_scripts(
        "customers",
        """CREATE TABLE shop.customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email public.citext NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);""",
        "SELECT id, email, created_at FROM shop.customers WHERE false;",
        "DROP TABLE shop.customers;",
    ),
    **_scripts(
        "orders",
        """CREATE TABLE shop.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES shop.customers (id),
    total_cents bigint NOT NULL CHECK (total_cents >= 0),
    placed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_customer_idx ON shop.orders (customer_id);""",
        "SELECT id, customer_id, total_cents, placed_at FROM shop.orders WHERE false;",
        "DROP TABLE shop.orders;",
    ),
}
"""Path to text of the first commit."""

SECOND_COMMIT: dict[str, str] = {
    "modules/shop/sqitch.plan": _PLAN + _LOYALTY,
    **_scripts(
        "loyalty",
        "ALTER TABLE shop.customers ADD COLUMN points integer NOT NULL DEFAULT 0;",
        "SELECT points FROM shop.customers WHERE false;",
        "ALTER TABLE shop.customers DROP COLUMN points;",
    ),
}
"""What the second commit of the demonstration adds."""
