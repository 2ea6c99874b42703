"""Projects of SQL objects made by hand, as a compiler would make them from files."""

from collections.abc import Collection, Iterable, Mapping

from reconciler.catalog.identifier import quote_qualified
from reconciler.diff.model import ObjectsDiff
from reconciler.diff.objects import BuiltState, compare
from reconciler.objects.model import (
    BuiltObject,
    Mention,
    ObjectName,
    ObjectSort,
    Production,
    Project,
    SqlObject,
    SqlSchema,
    SqlStatement,
)
from reconciler.state.desired import DesiredObjects


def named(text: str) -> ObjectName:
    """`core.open` as a value."""
    schema, _, name = text.partition(".")
    return ObjectName(schema, name)


def statement(
    *parts: str | ObjectName,
    line: int = 1,
    in_body: Collection[ObjectName] = (),
    outside: Collection[ObjectName] = (),
) -> SqlStatement:
    """A statement from its parts: text as it stands, and names as mentions."""
    text, mentions = "", list[Mention]()
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        written = quote_qualified(part.schema, part.name)
        mentions.append(
            Mention(start=len(text), end=len(text) + len(written), target=part, in_body=part in in_body)
        )
        text += written
    return SqlStatement(
        text=text,
        line=line,
        mentions=tuple(one for one in mentions if one.target not in outside),
        outside=tuple(one for one in mentions if one.target in outside),
    )


def sql_object(
    name: str,
    *needs: str,
    sort: ObjectSort = ObjectSort.VIEW,
    hash_: str = "1",
    metadata_hash: str = "",
) -> SqlObject:
    """An object that names what it needs: in a query, or in the body of a routine."""
    own, needed = named(name), [named(need) for need in needs]
    if sort.is_routine:
        parts: list[str | ObjectName] = [f"CREATE {sort.value} ", own, "() LANGUAGE sql AS $$ SELECT 1"]
        for need in needed:
            parts += [" FROM ", need]
        create = statement(*parts, " $$", in_body=needed)
    else:
        parts = [f"CREATE {sort.value} ", own, " AS SELECT 1 AS one"]
        for number, need in enumerate(needed):
            parts += [" FROM " if number == 0 else ", ", need]
        create = statement(*parts)
    return SqlObject(
        name=own,
        sort=sort,
        path=f"objects/{own.schema}/{own.name}.sql",
        creates=(create,),
        options={},
        depends_on=frozenset(needed),
        hash=hash_,
        metadata_hash=metadata_hash,
    )


def project(*objects: SqlObject, stable: Collection[str] = (), schemas: Iterable[SqlSchema] = ()) -> Project:
    """A project of objects that are given in dependency order; schemas are theirs, and those given."""
    own = {name: SqlSchema(name=name) for name in (*(one.name.schema for one in objects), *stable)}
    own |= {name: SqlSchema(name=name, stable=True) for name in stable}
    own |= {schema.name: schema for schema in schemas}
    return Project(path="objects", schemas=own, objects={one.name: one for one in objects})


def production(of: Project, *, schemas: Mapping[str, bool] | None = None) -> Production:
    """What is live after a project was built."""
    return Production(
        objects={
            name: BuiltObject(name=name, sort=one.sort, hash=one.hash, metadata_hash=one.metadata_hash)
            for name, one in of.objects.items()
        },
        schemas={name: one.stable for name, one in of.schemas.items()} if schemas is None else schemas,
        schema_hashes={name: one.metadata_hash for name, one in of.schemas.items()},
    )


def desired(of: Project, *, component: str = "analytics") -> DesiredObjects:
    """A component that wants a project."""
    return DesiredObjects(
        component=component,
        stage="objects",
        database_component="shop-db",
        database="shop",
        path="objects",
        project=of,
    )


NOTHING_BUILT = Production(objects={}, schemas={})


def compared(of: Project, live: Production, *, forced: Collection[str] = ()) -> ObjectsDiff:
    """What is pending of a project where that is live and nothing else is there."""
    return compare(desired(of), BuiltState(production=live), place=("production", "eu"), forced=forced)
