"""The forecast of locks: what one transaction of statements takes, rather too many than too few."""

import pytest

from reconciler.catalog.sql_text import split
from reconciler.state.locks import forecast


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("create table t (id bigint primary key, name text not null)", 8),
        ("create table t (id serial primary key, x text unique, a bigint references o)", 12),
        ("create table t (like o including all)", 11),
        ("create index on t (a)", 1),
        ("alter table t add constraint u unique (a)", 2),
        ("create view v as select 1", 2),
        ("drop table a, b", 22),
        ("drop index a", 2),
        ("drop view a cascade", 10),
        ("drop schema a cascade", 32),
        ("create materialized view v as select 1", 16),
        ("alter table t alter column a type text", 22),
        ("create schema x create table a (id int primary key)", 8),
        ("create extension hstore", 72),
        ("set search_path = x", 0),
        ("-- nothing", 0),
    ],
)
def test_statements_take_locks(text: str, least: int) -> None:
    """As measured on servers, and not many times that."""
    assert least <= forecast(split(text)) <= 2 * least + 2
