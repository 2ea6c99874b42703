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


def test_a_list_that_is_a_link_is_told_as_one(tmp_path: Path) -> None:
    """It is not taken for absent: in a commit a link is only text."""
    (tmp_path / "environments").mkdir()
    (tmp_path / "lists").mkdir()
    (tmp_path / "environments/tenants.yaml").write_text(SPEC)
    (tmp_path / "real.csv").write_text("name\nacme\n")
    (tmp_path / "lists/tenants.csv").symlink_to("../real.csv")
    (problem,) = check(tmp_path, "environments").problems
    assert (problem.file, problem.line) == ("environments/tenants.yaml", 5)
    assert "'lists/tenants.csv' was not read: it is a symbolic link" in problem.message
    assert "links are not followed" in str(problem.hint)
