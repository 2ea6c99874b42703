"""Read from a parse tree what a statement outside of transactions works on; it decides nothing."""

from collections.abc import Callable, Mapping
from typing import Any

from reconciler.catalog.sql_facts import Node, Target

REPEATABLE = "repeatable"
"""Running it once more does no harm, however far it got."""


def read(node: str, body: Node) -> Target | None:
    """Return the target of a statement that cannot run in a transaction; None where nothing is known."""
    reader = _READERS.get(node)
    return reader(body) if reader else None


def quoted(name: str) -> str:
    """An identifier as it is written in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _range(value: Any) -> str:
    if not isinstance(value, Mapping):
        return ""
    parts = (value.get(key) for key in ("schemaname", "relname"))
    return ".".join(quoted(str(part)) for part in parts if part)


def _names(item: Any) -> str:
    names = item.get("List", {}).get("items") or [] if isinstance(item, Mapping) else []
    return ".".join(quoted(str(name.get("String", {}).get("sval", ""))) for name in names)


def _index(body: Node) -> Target:
    name = str(body.get("idxname") or "")
    return Target(
        sort="create-index", name=quoted(name) if name else "", relation=_range(body.get("relation"))
    )


def _drop(body: Node) -> Target:
    return Target(sort="drop-index", name=_names((body.get("objects") or [{}])[0]))


def _reindex(body: Node) -> Target:
    concurrently = any(
        item.get("DefElem", {}).get("defname") == "concurrently" for item in body.get("params") or []
    )
    return Target(sort="reindex" if concurrently else REPEATABLE)


def _detach(body: Node) -> Target | None:
    for item in body.get("cmds") or []:
        command = item.get("AlterTableCmd", {})
        if command.get("subtype") == "AT_DetachPartition":
            partition = command.get("def", {}).get("PartitionCmd", {}).get("name")
            return Target(sort="detach", name=_range(partition), relation=_range(body.get("relation")))
    return None


def _named(sort: str, key: str) -> Callable[[Node], Target]:
    return lambda body: Target(sort=sort, name=str(body.get(key) or ""))


def _repeatable(_body: Node) -> Target:
    return Target(sort=REPEATABLE)


_READERS: Mapping[str, Callable[[Node], Target | None]] = {
    "IndexStmt": _index,
    "DropStmt": _drop,
    "ReindexStmt": _reindex,
    "AlterTableStmt": _detach,
    "CreatedbStmt": _named("create-database", "dbname"),
    "DropdbStmt": _named("drop-database", "dbname"),
    "CreateTableSpaceStmt": _named("create-tablespace", "tablespacename"),
    "DropTableSpaceStmt": _named("drop-tablespace", "tablespacename"),
    "CreateSubscriptionStmt": _named("create-subscription", "subname"),
    "DropSubscriptionStmt": _named("drop-subscription", "subname"),
    "VacuumStmt": _repeatable,
    "ClusterStmt": _repeatable,
    "AlterSubscriptionStmt": _repeatable,
    "AlterDatabaseStmt": _repeatable,
    "AlterSystemStmt": _repeatable,
    "DiscardStmt": _repeatable,
}
