"""What the catalog of one database holds, as values that can be compared and stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

Fingerprint = NewType("Fingerprint", str)
"""Hex digest of an object's canonical definition."""


class ObjectKind(StrEnum):
    """Kinds of catalog object that are read, fingerprinted and compared."""

    SCHEMA = "schema"
    EXTENSION = "extension"
    TABLE = "table"
    FOREIGN_TABLE = "foreign table"
    VIEW = "view"
    MATERIALIZED_VIEW = "materialized view"
    SEQUENCE = "sequence"
    INDEX = "index"
    CONSTRAINT = "constraint"
    TRIGGER = "trigger"
    POLICY = "policy"
    RULE = "rule"
    FUNCTION = "function"
    PROCEDURE = "procedure"
    AGGREGATE = "aggregate"
    TYPE = "type"
    DOMAIN = "domain"
    PUBLICATION = "publication"
    EVENT_TRIGGER = "event trigger"
    DEFAULT_PRIVILEGES = "default privileges"
    DATABASE = "database"


@dataclass(frozen=True, slots=True)
class CatalogObject:
    """One object: its kind, its quoted name, its canonical definition and the hash of that.

    `name` is schema-qualified and quoted where PostgreSQL would quote, with input types for routines and
    with the table for what is unique only within one (constraints, triggers, policies, rules):
    `shop.orders`, `shop.orders_idx`, `shop.total(integer)`, `shop.orders.orders_pkey`.
    `definition` is canonical JSON text of an object of attributes (columns, grants, owner, text, …).
    """

    kind: ObjectKind
    name: str
    definition: str
    fingerprint: Fingerprint

    @property
    def identity(self) -> str:
        """Kind and name, unique within a database: `index shop.orders_idx`."""
        return f"{self.kind.value} {self.name}"


@dataclass(frozen=True, slots=True)
class DatabaseIdentity:
    """Which physical database this is; another identity under the same content is a copy."""

    system_identifier: str
    database_oid: int
    server_major: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """All managed objects of one database at one moment, by identity."""

    objects: Mapping[str, CatalogObject]
