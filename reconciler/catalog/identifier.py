"""Names and literals as PostgreSQL writes them: quoting, and the length it cuts names to; pure text."""

import re

IDENTIFIER_MAX = 63
"""Bytes of a name that PostgreSQL keeps (NAMEDATALEN - 1)."""

# PostgreSQL 18's key words that a bare name cannot be: all but the unreserved ones
_KEYWORDS_TEXT = """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit
    boolean both case cast char character check coalesce collate collation column concurrently
    constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user dec decimal default deferrable desc distinct do else end except
    exists extract false fetch float for foreign freeze from full grant greatest group grouping
    having ilike in initially inner int integer intersect interval into is isnull join json
    json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar
    json_serialize json_table json_value lateral leading least left like limit localtime
    localtimestamp merge_action national natural nchar none normalize not notnull null nullif
    numeric offset on only or order out outer overlaps overlay placing position precision primary
    real references returning right row select session_user setof similar smallint some substring
    symmetric system_user table tablesample then time timestamp to trailing treat trim true union
    unique user using values varchar variadic verbose when where window with xmlattributes xmlconcat
    xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
"""
_KEYWORDS = frozenset([*_KEYWORDS_TEXT.split(), "inout"])  # codespell:ignore inout
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


def quote_identifier(name: str) -> str:
    """Quote a name where PostgreSQL's `quote_ident` does, and only there."""
    if _PLAIN.fullmatch(name) and name not in _KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def quote_qualified(*names: str) -> str:
    """Quote the parts of a qualified name: `shop."Order"`."""
    return ".".join(quote_identifier(name) for name in names)


def quote_literal(text: str) -> str:
    """Quote a string as PostgreSQL's `quote_literal` does, which no setting of the session changes."""
    escaped = text.replace("'", "''")
    return f"E'{escaped.replace(chr(92), chr(92) * 2)}'" if "\\" in text else f"'{escaped}'"


def why_not_a_name(name: str) -> str | None:
    """Say why PostgreSQL could not keep a name as it is written; None where it can."""
    if not name:
        return "a name cannot be empty"
    if "\0" in name:
        return "a name cannot hold a NUL character"
    length = len(name.encode("utf-8", "surrogatepass"))
    if length > IDENTIFIER_MAX:
        return f"PostgreSQL cuts names to {IDENTIFIER_MAX} bytes, and this one has {length}"
    return None


def truncate(name: str) -> str:
    """Cut a name to the length PostgreSQL keeps, never inside a character."""
    return name.encode("utf-8", "surrogatepass")[:IDENTIFIER_MAX].decode("utf-8", "ignore")
