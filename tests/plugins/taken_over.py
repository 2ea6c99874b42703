"""A config repository and a database that another migration tool has deployed to, for tests that adopt it."""

import json
import os
from pathlib import Path

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
  deployments:
    - {name: eu, postgres: {dsn: {env: SHOP_DSN}}}
  components:
    - {name: db, kind: Database, database: DATABASE}
    - {name: shop-schema, kind: Module, database: {from: db}, path: modules/shop}
"""


class TakenOver:
    """What stands in `module` is committed as the module; nobody runs a daemon."""

    def __init__(self, folder: Path, server: Server, control: Dsn) -> None:
        self.module = folder / "module"
        self.module.mkdir()
        self.server = server
        self.database = server.create_database(f"taken_over_{os.urandom(4).hex()}")
        self._repository = GitRepository(folder / "repository")
        self._config = folder / "reconciler.yaml"
        self._config.write_text(
            f"control: {{dsn: {json.dumps(control.reveal())}}}\n"
            f"state_dir: {json.dumps(str(folder / 'state'))}\n"
            "listen: 127.0.0.1:1\n"
            f"sources: [{{name: shop, url: {json.dumps(str(self._repository.path))}, branch: main}}]\n"
        )

    def commit(self) -> None:
        """Commit the module as it stands."""
        files = {
            f"modules/shop/{path.relative_to(self.module)}": path.read_text()
            for path in self.module.rglob("*")
            if path.is_file() and path.suffix in {".sql", ".plan", ".conf", ".control"}
        }
        spec = {"environments/production.yaml": SPEC.replace("DATABASE", self.database)}
        self._repository.commit({**spec, **files}, "Change the shop")

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(
            app, [*arguments, "--config", str(self._config)], env={"SHOP_DSN": self.server.text()}
        )

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return self.server.run(query, database=self.database)

    def deployed(self) -> list[object]:
        """Names that we have recorded, in order."""
        return [name for (name,) in self.rows("select name from reconciler.changes order by position")]
