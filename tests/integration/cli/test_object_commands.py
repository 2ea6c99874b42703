"""`reconciler objects test` and `explain` on a real server: what passes, what fails, what is live."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import psycopg
import pytest
from typer.testing import CliRunner, Result

from reconciler.cli.main import app
from reconciler.execution.scratch import PREFIX
from tests.plugins.generations import Stand, live, view, work
from tests.plugins.postgres import Server

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {{name: production}}
spec:
  deployments:
    - {{name: eu, postgres: {{dsn: {{env: EU_DSN}}}}}}
  components:
    - {{name: db, kind: Database, database: "{database}", extensions: [citext]}}
    - {{name: reports, kind: Objects, database: {{from: db}}, path: objects, externals: [public.orders]}}
"""
MOCK = "  MOCK public.orders(day date, total int) AS (VALUES ('2026-01-01'::date, 1), ('2026-01-01', 2))\n"
DAILY = f"""\
CREATE VIEW daily AS SELECT day, sum(total) AS total FROM orders GROUP BY day;
EXECUTE UNIT TEST good
{MOCK}  EXPECTED (day date, total bigint) AS (VALUES ('2026-01-01'::date, 3::bigint));
EXECUTE UNIT TEST other_rows
{MOCK}  EXPECTED (day date, total bigint) AS (VALUES ('2026-01-01'::date, 4::bigint));
EXECUTE UNIT TEST twice
{MOCK}  EXPECTED (day date, total bigint) AS (
    VALUES ('2026-01-01'::date, 3::bigint), ('2026-01-01'::date, 3::bigint));
EXECUTE UNIT TEST other_type
{MOCK}  EXPECTED (day date, total int) AS (VALUES ('2026-01-01'::date, 3));
EXECUTE UNIT TEST unmocked
  EXPECTED (day date, total bigint) AS (VALUES ('2026-01-01'::date, 3::bigint));
"""


class Workplace:
    """A work tree with a component of SQL objects, and the server of its one deployment."""

    def __init__(self, root: Path, server: Server, database: str) -> None:
        self.root = root
        self.server = server
        self.database = database
        for path, text in {
            "environments/production.yaml": SPEC.format(database=database),
            "objects/reports/daily.sql": DAILY,
            "objects/reports/late.sql": "CREATE VIEW late AS SELECT * FROM daily",
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["objects", *arguments], env={"EU_DSN": self.server.text()})

    def tested(self, *arguments: str, code: int) -> dict[str, dict[str, Any]]:
        """Run tests and give what came of them by name."""
        result = self.run("test", "--output", "json", *arguments)
        assert result.exit_code == code, result.output
        answer = json.loads(result.stdout)
        assert answer["passed"] is (code == 0)
        return {row["test"]: row for row in answer["tests"]}


@pytest.fixture
def workplace(
    tmp_path: Path, postgres_server: Server, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workplace]:
    monkeypatch.chdir(tmp_path)
    yield Workplace(tmp_path, postgres_server, fresh_database)
    left = postgres_server.run(f"SELECT datname FROM pg_database WHERE starts_with(datname, '{PREFIX}')")
    assert fresh_database not in [row[0] for row in left]


def test_each_sort_of_failure_is_told_by_its_name(workplace: Workplace, tmp_path: Path) -> None:
    """Rows differ as often as they occur, types have to be those expected, and nothing is read unmocked."""
    xml = tmp_path / "results.xml"
    found = workplace.tested("--dsn-env", "EU_DSN", "--junit", str(xml), code=5)
    outcomes = {name: row["outcome"] for name, row in found.items()}
    assert outcomes == {
        "good": "passed",
        "other_rows": "failed",
        "twice": "failed",
        "other_type": "error",
        "unmocked": "error",
    }
    assert found["other_rows"]["rows"] == [
        {"label": "MISSING", "values": ["2026-01-01", "4"]},
        {"label": "UNEXPECTED", "values": ["2026-01-01", "3"]},
    ]
    assert found["twice"]["rows"] == [{"label": "MISSING", "values": ["2026-01-01", "3"]}]
    assert "integer" in found["other_type"]["message"]
    assert "nothing stands for public.orders" in found["unmocked"]["message"]
    assert (found["good"]["component"], found["good"]["line"]) == ("reports", 2)
    root = ET.fromstring(xml.read_text())
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("5", "2", "2")
    failures = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert (failures["good"], failures["twice"]) == ([], ["failure"])
    text = workplace.run("test", "reports.daily#other_rows", "--dsn-env", "EU_DSN")
    assert text.exit_code == 5
    assert [line.split("|")[0].strip() for line in text.stdout.splitlines()] == [
        "failed reports.daily#other_rows (objects/reports/daily.sql:5)",
        "",
        "MISSING",
        "UNEXPECTED",
    ]


def test_tests_run_in_the_live_database_and_leave_nothing(workplace: Workplace) -> None:
    """There a mock has to have the types that the live relation has; all of it is rolled back."""
    with psycopg.connect(workplace.server.text(workplace.database), autocommit=True) as by_hand:
        by_hand.execute("CREATE TABLE public.orders (day date, total bigint)")
        before = by_hand.execute("SELECT count(*) FROM pg_namespace").fetchone()
        found = workplace.tested("reports.daily#good", "--live", code=5)
        assert found["good"]["outcome"] == "error"
        assert "in its mock" in found["good"]["message"]
        by_hand.execute("ALTER TABLE public.orders ALTER total TYPE int")
        assert set(workplace.tested("reports.*#good", "--live", code=0)) == {"good"}
        assert by_hand.execute("SELECT count(*) FROM pg_namespace").fetchone() == before


def test_explain_compares_with_what_is_live(workplace: Workplace) -> None:
    """Before anything is built all is new; afterwards the chain back to what changed is told."""
    result = workplace.run("explain", "late", "--live")
    assert result.exit_code == 0, result.output
    assert "rebuilt (build)\n  reports.late because it is new" in result.stdout
    (workplace.root / "objects/reports/other.sql").write_text("CREATE VIEW other AS SELECT 1 AS one")

    async def build() -> None:
        with psycopg.connect(workplace.server.text(workplace.database), autocommit=True) as by_hand:
            by_hand.execute("CREATE TABLE public.orders (day date, total int)")
            stand = Stand(dsn=workplace.server.dsn, database=workplace.database, by_hand=by_hand)
            session = await stand.session()
            drafts = (view("reports.daily", "SELECT 1 AS day"), view("reports.late", "SELECT 1 AS day"))
            await live(stand, session, work("made", *drafts, component="reports"))
            await session.finish()

    asyncio.run(build())
    found = json.loads(workplace.run("explain", "reports.other", "--live", "--output", "json").stdout)
    assert found["compared"] is True
    assert found["rebuilt"]["because"] == "it is new"
    found = json.loads(workplace.run("explain", "reports.daily", "--live", "--output", "json").stdout)
    assert found["rebuilt"]["because"] == "its definition changed"
