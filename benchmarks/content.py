"""Config repositories for benchmarks: environment files, and change modules in Sqitch's form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DSN_VARIABLE = "BENCH_DSN"
_SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {{name: {name}}}
spec:
  deployments:
    - name: one
      postgres: {{dsn: {{env: {variable}}}}}
  components:
    - {{name: data, kind: Database, database: {database}}}
    - {{name: schema, kind: Module, database: {{from: data}}, path: modules/{name}}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One environment, its database and its module, whose objects stand in a schema of its name."""

    name: str
    database: str


def places(count: int, *, shared: bool = False) -> tuple[Place, ...]:
    """Environments with a database each, or all on one."""
    return tuple(
        Place(name=f"e{number:04d}", database="bench_shared" if shared else f"bench_{number:04d}")
        for number in range(count)
    )


def spec(place: Place) -> dict[str, str]:
    """The file of an environment."""
    text = _SPEC.format(name=place.name, database=place.database, variable=DSN_VARIABLE)
    return {f"environments/{place.name}.yaml": text}


def module(place: Place, changes: Sequence[str], *, revert: bool = True) -> dict[str, str]:
    """Plan file and scripts of a module: change number k is the body `changes[k]`."""
    lines = [plan_line(number) for number in range(len(changes))]
    plan = f"%syntax-version=1.0.0\n%project={place.name}\n\n" + "".join(lines)
    files = {f"modules/{place.name}/sqitch.plan": plan}
    for number, body in enumerate(changes):
        files |= scripts(place, number, body, revert=revert)
    return files


def plan_line(number: int) -> str:
    """One line of a plan file."""
    seconds = f"{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}"
    return f"c{number} 2026-01-01T{seconds}Z Bench <bench@example.org> # change {number}\n"


def scripts(place: Place, number: int, body: str, *, revert: bool = True) -> dict[str, str]:
    """Deploy script of a change, and, as a careful team writes them, verify and revert scripts."""
    folder, name = f"modules/{place.name}", f"c{number}"
    files = {
        f"{folder}/deploy/{name}.sql": f"-- Deploy {place.name}:{name} to pg\n\nBEGIN;\n\n{body}\n\nCOMMIT;\n"
    }
    if revert:
        files |= {
            f"{folder}/verify/{name}.sql": f"-- Verify {name}\n\nBEGIN;\n\nSELECT 1;\n\nROLLBACK;\n",
            f"{folder}/revert/{name}.sql": f"-- Revert {name}\n\nBEGIN;\n\nSELECT 1;\n\nCOMMIT;\n",
        }
    return files


def small_module(place: Place) -> list[str]:
    """Three changes as small modules have them: a schema, a table, an index."""
    return [
        f"CREATE SCHEMA {place.name};",
        f"CREATE TABLE {place.name}.items (id bigint PRIMARY KEY, name text NOT NULL, at timestamptz);",
        f"CREATE INDEX items_name ON {place.name}.items (name);",
    ]


def more_table(place: Place, number: int) -> str:
    """A further change: one table."""
    return f"CREATE TABLE {place.name}.more{number} (id bigint PRIMARY KEY, name text NOT NULL);"


def one_more(place: Place, number: int, body: str, plan: str) -> Mapping[str, str]:
    """Files that add change `number` to a module with this plan file."""
    return {
        f"modules/{place.name}/sqitch.plan": plan + plan_line(number),
        **scripts(place, number, body),
    }
