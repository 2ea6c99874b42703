"""A planner with all it stands on, and small specs and modules to plan."""

from collections.abc import Callable
from pathlib import Path

from reconciler.events import Event
from reconciler.planner.planner import Planner, PlannerLimits
from reconciler.postgres.connection import Connections
from reconciler.source.access import SourceAccess
from reconciler.source.repository import Repository
from reconciler.spec.values import SecretReference
from tests.plugins.git import GitRepository


class Setting:
    """A planner with all it stands on."""

    def __init__(self, repository: GitRepository, state_dir: Path, dsns: dict[str, str]) -> None:
        self.source = Repository(
            SourceAccess(name="site", url=str(repository.path), branch="main"), state_dir=state_dir
        )
        self.dsns = dsns
        self.connections = Connections(per_database=2)
        self.events: list[Event] = []
        self.planner = Planner(
            sources={"site": self.source},
            paths={"site": "environments"},
            connections=self.connections,
            resolve_secret=self._secret,
            limits=PlannerLimits(),
            emit=self.events.append,
        )

    def _secret(self, reference: SecretReference) -> str:
        return self.dsns[reference.env or ""]

    async def close(self) -> None:
        await self.source.close()
        await self.connections.close()


MakeSetting = Callable[[str], Setting]


def environment(name: str, database: str, *, path: str = "modules/shop", dsn: str = "SITE_DSN") -> str:
    """A spec of one deployment with one module."""
    return (
        "apiVersion: reconciler/v1\nkind: Environment\n"
        f"metadata: {{name: {name}}}\n"
        "spec:\n"
        "  deployments:\n"
        f"    - {{name: eu, postgres: {{dsn: {{env: {dsn}}}}}}}\n"
        "  components:\n"
        f"    - {{name: db, kind: Database, database: {database}}}\n"
        f"    - {{name: m, kind: Module, database: {{from: db}}, path: {path}}}\n"
    )


def module(name: str, **scripts: str) -> dict[str, str | bytes | None]:
    """The files of a module of given changes."""
    lines = "".join(f"{each} 2026-01-01T00:00:00Z A <a@example.org> # n\n" for each in scripts)
    plan = f"%syntax-version=1.0.0\n%project={name}\n\n{lines}"
    return {
        f"modules/{name}/sqitch.plan": plan,
        **{f"modules/{name}/deploy/{each}.sql": text for each, text in scripts.items()},
    }
