"""Promotions by command, where no daemon answers: what waits is told, goes live by a word, and goes back."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reconciler.cli.main import app
from reconciler.postgres.connection import Dsn
from tests.plugins.git import GitRepository
from tests.plugins.postgres import Server

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  rollout: {order: barrier, promotion: manual, maxParallel: 1}
  deployments:
    - {name: eu, variables: {place: eu}, postgres: {dsn: {env: SHOP_DSN}}}
    - {name: us, variables: {place: us}, postgres: {dsn: {env: SHOP_DSN}}}
  components:
    - {name: db, kind: Database, database: "DATABASE_${place}"}
    - {name: reports, kind: Objects, database: {from: db}, path: objects/reports}
"""


class Reports:
    """A repository with one view, two databases of it, and the command line."""

    def __init__(self, repository: GitRepository, server: Server, control: Dsn, folder: Path) -> None:
        name = f"reports_{os.urandom(4).hex()}"
        self.databases = {place: f"{name}_{place}" for place in ("eu", "us")}
        self.server = server
        self._repository = repository
        self._environ = {"SHOP_DSN": server.text()}
        self._config = folder / "reconciler.yaml"
        self._config.write_text(
            f"control: {{dsn: {json.dumps(control.reveal())}}}\n"
            f"state_dir: {json.dumps(str(folder / 'state'))}\n"
            "listen: 127.0.0.1:1\n"
            f"sources: [{{name: shop, url: {json.dumps(str(repository.path))}, branch: main}}]\n"
        )
        self._repository.write({"environments/production.yaml": SPEC.replace("DATABASE", name)})

    def commit(self, number: int) -> None:
        """The view gives a number."""
        self._repository.commit(
            {"objects/reports/reports/answer.sql": f"CREATE VIEW answer AS SELECT {number} AS number;"},
            f"Answer {number}",
        )

    def live(self) -> dict[str, int | None]:
        """What each database answers; None where there is no view."""
        found: dict[str, int | None] = {}
        for place, database in self.databases.items():
            ((there,),) = self.server.run("SELECT to_regclass('reports.answer')::text", database=database)
            found[place] = None
            if there is not None:
                ((found[place],),) = self.server.run("SELECT number FROM reports.answer", database=database)
        return found

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--config", str(self._config)], env=self._environ)


@pytest.fixture
def reports(
    git_repository: GitRepository, postgres_server: Server, control_database: Dsn, tmp_path: Path
) -> Iterator[Reports]:
    found = Reports(git_repository, postgres_server, control_database, tmp_path)
    yield found
    for database in found.databases.values():
        found.server.drop_database(database)


def test_staged_by_a_command_and_let_go_by_others(reports: Reports) -> None:
    """All are staged with one place, go live in turn, and one goes back; each step says what is next."""
    reports.commit(1)
    applied = reports("apply", "production")
    assert applied.exit_code == 6, applied.output
    assert "us: waiting_for_promotion" in applied.stdout
    assert reports.live() == {"eu": None, "us": None}
    status = reports("status", "production").stdout
    assert "waits for promotion" in status
    assert "eu (rollout 1) waits for somebody to let it go live" in status
    assert "us (rollout 1) waits for its turn: first is 'eu', which is waiting_for_promotion" in status
    assert "let it go live with: reconciler promote 1 --deployment eu" in status
    refused = reports("promote", "1", "--deployment", "us")
    assert refused.exit_code == 1
    assert "it is the turn of 'eu'" in refused.output

    gone = reports("promote", "1", "--deployment", "eu")
    assert gone.exit_code == 0, gone.output
    assert reports.live() == {"eu": 1, "us": None}
    assert "staged reports (" in reports("show", "1").stdout
    assert reports("promote", "1").exit_code == 0
    assert reports.live() == {"eu": 1, "us": 1}
    status = reports("status", "production")
    assert status.exit_code == 0, status.output
    assert "take what is live back with: reconciler revert 1" in status.stdout

    back = reports("revert", "1", "--deployment", "us", "--reason", "wrong number")
    assert back.exit_code == 0, back.output
    assert reports.live() == {"eu": 1, "us": None}
    assert "reverted" in reports("show", "1").stdout
    assert reports("skip-revert", "1").exit_code == 0
    late = reports("revert", "1", "--deployment", "eu")
    assert "its window is over" in late.output
