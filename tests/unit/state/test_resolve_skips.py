"""`skip: true` reaches the desired state of every kind of component, and of what globs find."""

from reconciler.spec.parse import parse_file
from reconciler.state.resolve import resolve

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: shop}
spec:
  deployments: [{name: eu, postgres: {dsn: {env: EU}}}]
  components:
    - {name: reports, kind: Objects, skip: true, database: {from: data}, path: objects/reports}
    - {name: live, kind: Objects, database: {from: data}, path: objects/live}
    - {name: all, kind: Module, skip: true, database: {from: data}, modules: "modules/*"}
    - {name: one, kind: Module, skip: false, database: {from: data}, path: modules/one}
    - {name: data, kind: Database, skip: true, database: shop}
    - {name: a-data, kind: Database, skip: true, database: other}
"""
PLAN = "%project={name}\n\na 2026-01-01T00:00:00Z Ada <ada@example.org>\n"


def test_every_kind_can_be_skipped() -> None:
    """Skipped components are told by stage and name; a module that globs find is skipped with them."""
    files = {
        f"modules/{name}/sqitch.plan": PLAN.format(name=name).encode() for name in ("one", "two", "three")
    }
    files |= {f"modules/{name}/deploy/a.sql": b"select 1;" for name in ("one", "two", "three")}
    files |= {
        f"objects/{name}/{name}/x.sql": f"CREATE VIEW {name}.x AS SELECT 1 AS one;".encode()
        for name in ("reports", "live")
    }
    (parsed,) = parse_file("f.yaml", SPEC.encode())
    assert parsed.problems == ()
    assert parsed.spec is not None
    desired = resolve(parsed.spec, "eu", "c" * 40, files)
    assert desired.skipped == ("a-data", "data", "three", "two", "reports")


def test_the_flag_is_true_or_false() -> None:
    """Text in its place is a problem."""
    (parsed,) = parse_file("f.yaml", SPEC.replace("skip: false", "skip: 'yes'").encode())
    assert [problem.message for problem in parsed.problems] == ["must be true or false, not text"]
