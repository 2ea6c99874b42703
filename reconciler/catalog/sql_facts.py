"""Read from a parse tree what applying a statement safely needs to know; it decides nothing."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.catalog import sql_lexer
from reconciler.frozen import frozen

Node = Mapping[str, Any]
"""The body of a parse tree node, as libpg_query's JSON has it."""


@dataclass(frozen=True, slots=True)
class Danger:
    """Something a statement does to what is stored: in words, and to which relation where that is named."""

    message: str
    relation: str | None = None


@frozen
class Target:
    """What a statement that runs outside of transactions works on, to find out later what became of it.

    `name` and `relation` are quoted; `name` is empty where the server chooses one.
    """

    sort: str
    name: str = ""
    relation: str = ""


@frozen
class Facts:
    """What one statement is and does, as far as its text tells.

    `transaction` names transaction control; `bare` is true where it carries no option, chain or savepoint.
    `savepoint` is the one it is of, which leaves the transaction around it as it is.
    `outside_transaction` says why it cannot run inside a transaction block.
    `makes` are the relations it makes that cannot have been there before.
    """

    transaction: str | None = None
    bare: bool = True
    savepoint: str | None = None
    outside_transaction: str | None = None
    deletes: tuple[Danger, ...] = ()
    rewrites: tuple[Danger, ...] = ()
    makes: tuple[str, ...] = ()
    sets: str | None = None
    client_data: str | None = None
    target: Target | None = None

    @property
    def begins_or_ends(self) -> bool:
        """Whether it is transaction control of more than a savepoint."""
        return self.transaction is not None and self.savepoint is None


NOTHING = Facts()

_TRANSACTION_WORDS = {
    "TRANS_STMT_BEGIN": "BEGIN",
    "TRANS_STMT_START": "BEGIN",
    "TRANS_STMT_COMMIT": "COMMIT",
    "TRANS_STMT_ROLLBACK": "ROLLBACK",
    "TRANS_STMT_SAVEPOINT": "SAVEPOINT",
    "TRANS_STMT_RELEASE": "RELEASE SAVEPOINT",
    "TRANS_STMT_ROLLBACK_TO": "ROLLBACK TO SAVEPOINT",
    "TRANS_STMT_PREPARE": "PREPARE TRANSACTION",
    "TRANS_STMT_COMMIT_PREPARED": "COMMIT PREPARED",
    "TRANS_STMT_ROLLBACK_PREPARED": "ROLLBACK PREPARED",
}
_HOLDING_DATA = {
    "OBJECT_TABLE": "table",
    "OBJECT_MATVIEW": "materialized view",
    "OBJECT_SCHEMA": "schema",
}
# dropping these with CASCADE takes the columns along that use them
_HELD_BY_COLUMNS = {"OBJECT_TYPE": "type", "OBJECT_DOMAIN": "domain", "OBJECT_EXTENSION": "extension"}
_REWRITING = {
    "AT_AlterColumnType": "changes the type of a column of",
    "AT_SetLogged": "sets LOGGED on",
    "AT_SetUnLogged": "sets UNLOGGED on",
    "AT_SetAccessMethod": "changes the access method of",
    "AT_SetTableSpace": "moves to another tablespace",
    "AT_SetExpression": "changes a generated column of",
}
_TABLE_LIKE = frozenset({"OBJECT_TABLE", "OBJECT_MATVIEW"})
_VOLATILE = frozenset({
    "clock_timestamp", "gen_random_bytes", "gen_random_uuid", "nextval", "random", "random_normal",
    "statement_timestamp", "timeofday", "uuid_generate_v1", "uuid_generate_v4", "uuidv4", "uuidv7",
})  # fmt: skip
_SERIAL = frozenset({"serial", "serial2", "serial4", "serial8", "bigserial", "smallserial"})
_DELETING_TEXT = re.compile(
    r"\b(?:drop\s+(?:table|schema|materialized\s+view|owned)|drop\s+column|truncate)\b",
    re.IGNORECASE,
)
_NOT_RUN_NOW = frozenset({"CreateFunctionStmt", "RuleStmt", "PrepareStmt", "ViewStmt"})


def read(node: str, body: Node, *, has_delete: bool = True) -> Facts:
    """Return the facts of a statement, from its node name and body.

    `has_delete` false says that nothing in it is a `DELETE`, which spares a walk through all of it.
    """
    reader = _READERS.get(node)
    facts = reader(body) if reader else NOTHING
    if node in _NOT_RUN_NOW or not has_delete:
        return facts
    deletes = tuple(_unqualified_deletes(node, body))
    return facts if not deletes else _with_deletes(facts, deletes)


def _with_deletes(facts: Facts, deletes: tuple[Danger, ...]) -> Facts:
    return Facts(
        outside_transaction=facts.outside_transaction,
        deletes=facts.deletes + deletes,
        rewrites=facts.rewrites,
        makes=facts.makes,
    )


def _unqualified_deletes(node: str, body: Node) -> Iterator[Danger]:
    """Find `DELETE` without `WHERE` in the statement and in what it contains, without recursion."""
    pending: list[tuple[str, Any]] = [(node, body)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, Mapping):
            if name == "DeleteStmt" and "whereClause" not in value:
                relation = relation_name(value.get("relation"))
                yield Danger(f"deletes every row of {relation}", relation)
            pending.extend(value.items())
        elif isinstance(value, list):
            pending.extend(("", item) for item in value)


def relation_name(range_var: Any) -> str:
    """Return the name of a relation as the text has it: `shop.orders`, `orders`."""
    if not isinstance(range_var, Mapping):
        return "?"
    parts = (range_var.get(key) for key in ("catalogname", "schemaname", "relname"))
    return ".".join(str(part) for part in parts if part)


def _object_name(item: Any) -> str:
    """Return the name that a `DROP` gives: a list of strings, one string or a type name."""
    if not isinstance(item, Mapping):
        return "?"
    if "String" in item:
        return str(item["String"].get("sval", ""))
    names = item.get("List", {}).get("items") or item.get("TypeName", {}).get("names") or []
    return ".".join(_object_name(name) for name in names)


def _options(body: Node, key: str = "options") -> dict[str, str]:
    """Return the options of a statement as text; one that is only named reads `true`."""
    found: dict[str, str] = {}
    for item in body.get(key) or []:
        option = item.get("DefElem", {}) if isinstance(item, Mapping) else {}
        argument = option.get("arg")
        found[str(option.get("defname", "")).lower()] = "true" if argument is None else _option_text(argument)
    return found


def _option_text(argument: Any) -> str:
    value: Any = next(iter(argument.values()), {}) if isinstance(argument, Mapping) else {}
    if not isinstance(value, Mapping):
        return ""
    if "boolval" in value:
        return "true" if value["boolval"] not in (False, {}) else "false"
    if "ival" in value:
        return "true" if value["ival"] else "false"
    return str(value.get("sval", "false")).lower()


def _on(options: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    return options[name] in ("true", "on", "1", "yes") if name in options else default


def _transaction(body: Node) -> Facts:
    bare = not any(body.get(key) for key in ("options", "chain", "savepoint_name", "gid"))
    word = _TRANSACTION_WORDS.get(str(body.get("kind")), "transaction control")
    return Facts(transaction=word, bare=bare, savepoint=body.get("savepoint_name"))


def _drop(body: Node) -> Facts:
    kind = str(body.get("removeType"))
    names = [_object_name(item) for item in body.get("objects") or []]
    if kind in _HOLDING_DATA:
        word = _HOLDING_DATA[kind]
        deletes = tuple(
            Danger(f"drops {word} {name}", None if kind == "OBJECT_SCHEMA" else name) for name in names
        )
    elif kind in _HELD_BY_COLUMNS and body.get("behavior") == "DROP_CASCADE":
        word = _HELD_BY_COLUMNS[kind]
        deletes = tuple(
            Danger(f"drops {word} {name} and, by CASCADE, the columns that use it") for name in names
        )
    else:
        deletes = ()
    concurrently = "DROP INDEX CONCURRENTLY" if body.get("concurrent") else None
    return Facts(deletes=deletes, outside_transaction=concurrently)


def _alter_table(body: Node) -> Facts:
    objtype, table = str(body.get("objtype")), relation_name(body.get("relation"))
    deletes: list[Danger] = []
    rewrites: list[Danger] = []
    outside = None
    for item in body.get("cmds") or []:
        command = item.get("AlterTableCmd", {})
        subtype = str(command.get("subtype"))
        if subtype == "AT_DropColumn" and objtype in ("OBJECT_TABLE", "OBJECT_TYPE"):
            deletes.append(Danger(f"drops column {command.get('name')} of {table}", table))
        elif subtype in _REWRITING and objtype in _TABLE_LIKE:
            rewrites.append(Danger(f"{_REWRITING[subtype]} {table}", table))
        elif subtype == "AT_AddColumn" and objtype == "OBJECT_TABLE" and _fills_rows(command.get("def")):
            rewrites.append(Danger(f"adds a column to {table} whose value is computed for each row", table))
        elif subtype == "AT_DetachPartition" and _concurrent_partition(command):
            outside = "ALTER TABLE … DETACH PARTITION CONCURRENTLY"
    return Facts(deletes=tuple(deletes), rewrites=tuple(rewrites), outside_transaction=outside)


def _concurrent_partition(command: Node) -> bool:
    return bool(command.get("def", {}).get("PartitionCmd", {}).get("concurrent"))


def _fills_rows(definition: Any) -> bool:
    """Say whether a new column needs a value of its own in each row that is there already."""
    column = definition.get("ColumnDef", {}) if isinstance(definition, Mapping) else {}
    type_names = (column.get("typeName") or {}).get("names") or []
    if any(_object_name(name) in _SERIAL for name in type_names):
        return True
    for item in column.get("constraints") or []:
        constraint = item.get("Constraint", {})
        kind = constraint.get("contype")
        if kind == "CONSTR_IDENTITY":
            return True
        if kind == "CONSTR_GENERATED" and constraint.get("generated_kind", "s") != "v":
            return True
        if kind == "CONSTR_DEFAULT" and _calls_volatile(constraint.get("raw_expr")):
            return True
    return False


def _calls_volatile(expression: Any) -> bool:
    pending = [expression]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            names = value.get("FuncCall", {}).get("funcname") or []
            if names and _object_name(names[-1]) in _VOLATILE:
                return True
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return False


def _truncate(body: Node) -> Facts:
    names = [relation_name(item.get("RangeVar")) for item in body.get("relations") or []]
    return Facts(deletes=tuple(Danger(f"truncates {name}", name) for name in names))


def _index(body: Node) -> Facts:
    return Facts(outside_transaction="CREATE INDEX CONCURRENTLY" if body.get("concurrent") else None)


def _reindex(body: Node) -> Facts:
    kind = str(body.get("kind", "")).removeprefix("REINDEX_OBJECT_")
    if kind in ("SCHEMA", "SYSTEM", "DATABASE"):
        return Facts(outside_transaction=f"REINDEX {kind}")
    concurrent = _on(_options(body, "params"), "concurrently")
    return Facts(outside_transaction="REINDEX CONCURRENTLY" if concurrent else None)


def _vacuum(body: Node) -> Facts:
    if not body.get("is_vacuumcmd"):
        return NOTHING
    if not _on(_options(body), "full"):
        return Facts(outside_transaction="VACUUM")
    names = [relation_name(item.get("VacuumRelation", {}).get("relation")) for item in body.get("rels") or []]
    rewrites = tuple(Danger(f"rewrites {name} by VACUUM FULL", name) for name in names or ["every table"])
    return Facts(outside_transaction="VACUUM", rewrites=rewrites)


def _cluster(body: Node) -> Facts:
    if not body.get("relation"):
        return Facts(outside_transaction="CLUSTER", rewrites=(Danger("rewrites every clustered table"),))
    name = relation_name(body.get("relation"))
    return Facts(rewrites=(Danger(f"rewrites {name} by CLUSTER", name),))


def _create_subscription(body: Node) -> Facts:
    options = _options(body)
    makes_slot = _on(options, "connect", default=True) and _on(options, "create_slot", default=True)
    return Facts(outside_transaction="CREATE SUBSCRIPTION with a replication slot" if makes_slot else None)


def _alter_subscription(body: Node) -> Facts:
    kind = str(body.get("kind", "")).removeprefix("ALTER_SUBSCRIPTION_")
    if kind.startswith("REFRESH"):
        return Facts(outside_transaction="ALTER SUBSCRIPTION … REFRESH PUBLICATION")
    if kind.endswith("_PUBLICATION") and _on(_options(body), "refresh", default=True):
        return Facts(outside_transaction="ALTER SUBSCRIPTION … PUBLICATION with refresh")
    return NOTHING


def _alter_database(body: Node) -> Facts:
    moves = "tablespace" in _options(body)
    return Facts(outside_transaction="ALTER DATABASE … SET TABLESPACE" if moves else None)


def _drop_database(body: Node) -> Facts:
    return Facts(
        outside_transaction="DROP DATABASE", deletes=(Danger(f"drops database {body.get('dbname')}"),)
    )


def _drop_owned(_body: Node) -> Facts:
    return Facts(deletes=(Danger("drops everything a role owns"),))


def _discard(body: Node) -> Facts:
    return Facts(
        outside_transaction="DISCARD ALL" if body.get("target", "DISCARD_ALL") == "DISCARD_ALL" else None
    )


def _move_all(_body: Node) -> Facts:
    return Facts(rewrites=(Danger("moves every table of a tablespace"),))


def _copy(body: Node) -> Facts:
    if body.get("filename"):
        return NOTHING
    return Facts(client_data="COPY … FROM stdin" if body.get("is_from") else "COPY … TO stdout")


def _do(body: Node) -> Facts:
    """Look into the text of a `DO` block, which runs at once; what it puts together as text stays unseen."""
    texts = [
        str(item["DefElem"].get("arg", {}).get("String", {}).get("sval", ""))
        for item in body.get("args") or []
        if item.get("DefElem", {}).get("defname") == "as"
    ]
    code = " ".join(text[token.start : token.end] for text in texts for token in sql_lexer.tokens(text))
    found = _DELETING_TEXT.search(code)
    return (
        Facts(deletes=(Danger(f"a DO block runs {' '.join(found.group().upper().split())}"),))
        if found
        else NOTHING
    )


def _create_table(body: Node) -> Facts:
    made = () if body.get("if_not_exists") else (relation_name(body.get("relation")),)
    return Facts(makes=made)


def _create_table_as(body: Node) -> Facts:
    made = () if body.get("if_not_exists") else (relation_name(body.get("into", {}).get("rel")),)
    return Facts(makes=made)


def _select(body: Node) -> Facts:
    into = body.get("intoClause")
    return Facts(makes=(relation_name(into.get("rel")),)) if isinstance(into, Mapping) else NOTHING


def _set(body: Node) -> Facts:
    return Facts(sets=str(body.get("name", "all")))


def _outside(what: str) -> Callable[[Node], Facts]:
    return lambda _body: Facts(outside_transaction=what)


_READERS: Mapping[str, Callable[[Node], Facts]] = {
    "TransactionStmt": _transaction,
    "DropStmt": _drop,
    "AlterTableStmt": _alter_table,
    "AlterTableMoveAllStmt": _move_all,
    "TruncateStmt": _truncate,
    "IndexStmt": _index,
    "ReindexStmt": _reindex,
    "VacuumStmt": _vacuum,
    "ClusterStmt": _cluster,
    "CreateSubscriptionStmt": _create_subscription,
    "AlterSubscriptionStmt": _alter_subscription,
    # whether a slot hangs on it is not in the text
    "DropSubscriptionStmt": _outside("DROP SUBSCRIPTION"),
    "CreatedbStmt": _outside("CREATE DATABASE"),
    "DropdbStmt": _drop_database,
    "AlterDatabaseStmt": _alter_database,
    "CreateTableSpaceStmt": _outside("CREATE TABLESPACE"),
    "DropTableSpaceStmt": _outside("DROP TABLESPACE"),
    "AlterSystemStmt": _outside("ALTER SYSTEM"),
    "DropOwnedStmt": _drop_owned,
    "DiscardStmt": _discard,
    "CopyStmt": _copy,
    "DoStmt": _do,
    "CreateStmt": _create_table,
    "CreateTableAsStmt": _create_table_as,
    "SelectStmt": _select,
    "VariableSetStmt": _set,
}
