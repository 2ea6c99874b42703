"""A compiled project of SQL objects: schemas, objects, and what they refer to; it decides nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.catalog.identifier import quote_qualified
from reconciler.frozen import frozen


class ObjectSort(StrEnum):
    """What a file of a project may make."""

    VIEW = "view"
    MATERIALIZED_VIEW = "materialized view"
    FUNCTION = "function"
    PROCEDURE = "procedure"

    @property
    def is_routine(self) -> bool:
        """Whether it is called and not read."""
        return self in (ObjectSort.FUNCTION, ObjectSort.PROCEDURE)


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """Schema and name as the catalog has them, unquoted; overloads of a routine share one."""

    schema: str
    name: str


@frozen
class Mention:
    """Where a statement names something: the name's characters in the statement's text, from 0.

    `text[start:end]` is the whole name as it is written, qualified or not. `target` is what is meant.
    In the statements of a schema's own file that is the schema: the target's `name` is empty then, and the
    text is one bare name. In `COMMENT ON INDEX` it is an `index` of the target, written as `schema.index`.
    `in_body` is true inside the text of a routine's body, which is only resolved when that runs.
    """

    start: int
    end: int
    target: ObjectName
    routine: bool = False
    in_body: bool = False
    index: str | None = None


@frozen
class SqlStatement:
    """One statement of a file: its text without the semicolon, its 1-based line, and what it names.

    `mentions` are those of objects of the project, the object itself included, in the order of the text;
    none overlaps another. `outside` are likewise those of declared externals, which unit tests replace.
    """

    text: str
    line: int
    mentions: tuple[Mention, ...] = ()
    outside: tuple[Mention, ...] = ()


@frozen
class SqlIndex:
    """An index on a materialized view of the project; `name` is empty where the server chooses one."""

    name: str
    unique: bool
    statement: SqlStatement


@frozen
class UnitTest:
    """A test of an object: what stands for each of its dependencies, and the rows that are expected.

    Columns are names with types as they are written; queries are the text between the parentheses.
    """

    name: str
    line: int
    mocks: tuple["Rows", ...]
    expected: "Rows"
    arguments: str = ""
    """What a routine is called with; empty for a relation."""


@frozen
class Rows:
    """Rows that stand for a relation: its name (empty for what is expected), columns, and a query."""

    relation: ObjectName | None
    columns: tuple[tuple[str, str], ...]
    query: str


@frozen
class SqlObject:
    """One object of a project, from one file.

    `creates` is one statement; more only where they are overloads of one routine. `options` are storage
    parameters and such (`security_barrier`), which are taken out of `hash`. `depends_on` are objects of the
    project, `externals` relations outside of it (declared), both without the object itself.
    `hash` covers the definition and the indexes, `metadata_hash` grants, comments and options: neither is
    moved by layout, comments in the text, the case of keywords or the order of indexes.
    """

    name: ObjectName
    sort: ObjectSort
    path: str
    creates: tuple[SqlStatement, ...]
    indexes: tuple[SqlIndex, ...] = ()
    grants: tuple[SqlStatement, ...] = ()
    comments: tuple[SqlStatement, ...] = ()
    options: Mapping[str, str]
    tests: tuple[UnitTest, ...] = ()
    depends_on: frozenset[ObjectName] = frozenset()
    externals: frozenset[ObjectName] = frozenset()
    hash: str
    metadata_hash: str

    @property
    def statements(self) -> tuple[SqlStatement, ...]:
        """All statements of its file, in the order in which they are run."""
        return (*self.creates, *(one.statement for one in self.indexes), *self.grants, *self.comments)

    @property
    def identity(self) -> str:
        """Sort and quoted name, as the catalog shows them too: `view analytics.daily`."""
        return f"{self.sort.value} {quote_qualified(self.name.schema, self.name.name)}"


@frozen
class SqlSchema:
    """One schema of a project, and what its own file says; without a file it has defaults.

    A `stable` schema is never swapped: what is in it is changed in place, so that what depends on it from
    outside stays bound. `settings` are set while its objects are built.
    """

    name: str
    path: str | None = None
    stable: bool = False
    owner: str | None = None
    grants: tuple[SqlStatement, ...] = ()
    default_privileges: tuple[SqlStatement, ...] = ()
    comment: SqlStatement | None = None
    settings: tuple[tuple[str, str], ...] = ()
    metadata_hash: str = ""


@frozen
class Project:
    """All objects of a component at a commit, in an order in which they can be made."""

    path: str
    schemas: Mapping[str, SqlSchema]
    objects: Mapping[ObjectName, SqlObject]
    """In dependency order; names break ties."""
    externals: frozenset[ObjectName] = frozenset()
    """Relations outside that the component declares."""


@frozen
class BuiltObject:
    """An object as the live generation of its schema has it recorded."""

    name: ObjectName
    sort: ObjectSort
    hash: str
    metadata_hash: str

    @property
    def identity(self) -> str:
        """Sort and quoted name, as those of a `SqlObject`."""
        return f"{self.sort.value} {quote_qualified(self.name.schema, self.name.name)}"


@frozen
class Production:
    """What is live and was built from a project: objects by name, schemas with whether they are stable.

    `schema_hashes` are the metadata hashes that schemas were made with; one that is left out is empty.
    """

    objects: Mapping[ObjectName, BuiltObject]
    schemas: Mapping[str, bool]
    schema_hashes: Mapping[str, str] = field(default_factory=dict)
