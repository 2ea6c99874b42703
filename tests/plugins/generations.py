"""Generations of SQL objects for tests: drafts of objects, the work that builds them, a fenced session."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from typing_extensions import override

from reconciler.execution.interference import Interference
from reconciler.execution.objects.readiness import make_ready
from reconciler.execution.objects.sending import Manner
from reconciler.execution.objects.staging import stage
from reconciler.execution.objects.switching import promote
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.objects.model import ObjectName, ObjectSort
from reconciler.objects.staging_text import SchemaTexts, StagedTexts
from reconciler.objects.work import ObjectToStage, SchemaToStage, Work
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.generations import TrackedGeneration
from reconciler.tracking.record import Actor

BY = Actor(commit="c" * 40, operation="op-1", committer="reconciler")
VIEW, MATVIEW, FUNCTION = ObjectSort.VIEW, ObjectSort.MATERIALIZED_VIEW, ObjectSort.FUNCTION


@dataclass(frozen=True)
class Draft:
    """An object of a test. `{app}` in texts is the schema `app`, wherever that stands just then."""

    name: str
    text: str
    sort: ObjectSort = VIEW
    wave: int = 0
    indexes: Sequence[str] = ()
    metadata: Sequence[str] = ()
    told: bool = False


@dataclass(frozen=True)
class Schema:
    """A schema of a test, with what its own file says."""

    name: str
    said: Sequence[str] = ()
    owner: str | None = None
    retired: bool = False


def view(name: str, query: str, **more: Any) -> Draft:
    """A view."""
    return Draft(name, f"CREATE VIEW {_written(name)} AS {query}", **more)


def matview(name: str, query: str, **more: Any) -> Draft:
    """A materialized view."""
    text = f"CREATE MATERIALIZED VIEW {_written(name)} AS {query}"
    return Draft(name, text, MATVIEW, **more)


def function(name: str, rest: str, **more: Any) -> Draft:
    """A function; `rest` begins with its parameters."""
    return Draft(name, f"CREATE OR REPLACE FUNCTION {_written(name)}{rest}", FUNCTION, **more)


def _written(name: str) -> str:
    schema, _, rest = name.partition(".")
    return "{" + schema + "}." + rest


def work(
    key: str,
    *drafts: Draft,
    schemas: Sequence[Schema] = (),
    reads: Sequence[str] = (),
    component: str = "reports",
    staging: Mapping[str, str] | None = None,
) -> Work:
    """The work that builds drafts, in the schemas that they name."""
    named = {one.name: one for one in schemas}
    for one in drafts:
        named.setdefault(one.name.split(".")[0], Schema(one.name.split(".")[0]))
    live = {name: name for name in [*named, *reads]}
    beside = {**live, **{name: f"{name}__{key}" for name, one in named.items() if not one.retired}}
    beside.update(staging or {})
    waves = 1 + max((one.wave for one in drafts), default=0)
    return Work(
        key=key,
        component=component,
        schemas=(
            *(_schema(one, key, beside) for one in named.values()),
            *(SchemaToStage(name=name, sort="read") for name in reads),
        ),
        waves=tuple(
            tuple(_object(one, beside, live) for one in drafts if one.wave == wave) for wave in range(waves)
        ),
    )


def _schema(one: Schema, key: str, beside: Mapping[str, str]) -> SchemaToStage:
    texts = SchemaTexts(
        creates=(f'CREATE SCHEMA "{beside[one.name]}"', *(text.format(**beside) for text in one.said)),
        owner=f'ALTER SCHEMA "{beside[one.name]}" OWNER TO {one.owner}' if one.owner else None,
    )
    return SchemaToStage(
        name=one.name,
        sort="retired" if one.retired else "swapped",
        staging=None if one.retired else beside[one.name],
        old_name=f"{one.name}__old_{key}",
        texts=None if one.retired else texts,
    )


def _object(one: Draft, beside: Mapping[str, str], live: Mapping[str, str]) -> ObjectToStage:
    schema, name = one.name.split(".", 1)
    text = one.text.format(**beside)
    fill = f"REFRESH MATERIALIZED VIEW {beside[schema]}.{name}" if one.sort is MATVIEW else None
    return ObjectToStage(
        name=ObjectName(schema, name),
        sort=one.sort,
        hash=one.text,
        metadata_hash=" ".join(one.metadata),
        texts=StagedTexts(
            name=ObjectName(schema, name),
            sort=one.sort,
            schema=beside[schema],
            creates=(text + "\nWITH NO DATA" if fill else text,),
            fill=fill,
            indexes=tuple(each.format(**beside) for each in one.indexes),
            metadata=tuple(each.format(**beside) for each in one.metadata),
        ),
        in_switch=(one.text.format(**live),) if one.told else (),
        path=f"objects/{schema}/{name}.sql",
    )


class Struck(BaseException):
    """The process died here, as far as a test can tell."""


class StrikeOnce(Interference):
    """Dies at a point."""

    active = True

    def __init__(self, point: str) -> None:
        self._point = point

    @override
    def at(self, point: str) -> None:
        if point == self._point:
            raise Struck(point)


@dataclass
class Stand:
    """A database under test: opens sessions, runs SQL by hand, and says what is there."""

    dsn: Any
    database: str
    by_hand: psycopg.Connection[tuple[Any, ...]]
    opened: list[DatabaseSession] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)

    async def session(self, *, environment: str = "production", deployment: str = "eu") -> DatabaseSession:
        """Take the fence and open the database for writing."""
        owner = FenceOwner(
            control_id="control-1", environment=environment, deployment=deployment, operation="op-1"
        )
        opened = await open_session(
            self.dsn, self.database, owner, limits=Limits(fence_wait_s=60), install_tracking=True
        )
        self.opened.append(opened)
        return opened

    async def stage(self, session: DatabaseSession, wanted: Work, **more: Any) -> TrackedGeneration:
        """Build a generation."""
        return await stage(session, wanted, BY, **more)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run statements by hand, and give the rows of the last one."""
        cursor = self.by_hand.execute(sql.SQL(statement))
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []

    def role(self, options: str = "") -> str:
        """Make a role of this test only."""
        self.roles.append(f"role_{secrets.token_hex(6)}")
        self.run(f"CREATE ROLE {self.roles[-1]} {options}")
        return self.roles[-1]

    def forget_roles(self) -> None:
        """Drop the roles, with all they own."""
        for name in self.roles:
            self.run(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")

    @property
    def schemas(self) -> list[str]:
        """The schemas that are there."""
        return [
            row[0]
            for row in self.run(
                "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|reconciler$)'"
                " ORDER BY 1"
            )
        ]

    def state(self, key: str) -> str:
        """The state of the newest generation of a key."""
        query = "SELECT state::text FROM reconciler.generations WHERE key = '{}' ORDER BY generation DESC"
        return str(self.run(query.format(key))[0][0])


QUICK = Manner(lock_timeout_s=0.1, attempts=3)


async def live(stand: Stand, session: DatabaseSession, wanted: Work, **more: Any) -> None:
    """Build a generation, make it ready and live."""
    await ready(stand, session, wanted)
    await promote(session, wanted.key, **more)


async def ready(stand: Stand, session: DatabaseSession, wanted: Work) -> None:
    """Build a generation and make it ready."""
    await stand.stage(session, wanted)
    await make_ready(session, wanted, deadline_s=60)
