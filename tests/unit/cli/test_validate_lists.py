"""`reconciler validate` over lists of deployments."""

from pathlib import Path

from reconciler.cli.validate import check

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: tenants}
spec:
  deploymentsFrom: {file: lists/tenants.csv, postgres: {dsn: {env: TENANTS_DSN}}}
  components:
    - {name: db, kind: Database, database: "t_${deployment}"}
"""


def test_what_is_wrong_in_a_list_is_named_by_line(tmp_path: Path) -> None:
    """Offline, before anything is pushed; a list that is sound gives its environment."""
    (tmp_path / "environments").mkdir()
    (tmp_path / "lists").mkdir()
    (tmp_path / "environments/tenants.yaml").write_text(SPEC)
    (tmp_path / "lists/tenants.csv").write_text("name\nacme\nacme\nBad Name\n")
    found = check(tmp_path, "environments")
    assert [(problem.file, problem.line) for problem in found.problems] == [
        ("lists/tenants.csv", 3),
        ("lists/tenants.csv", 4),
    ]
    (tmp_path / "lists/tenants.csv").write_text("name\nacme\n")
    assert check(tmp_path, "environments").problems == ()
