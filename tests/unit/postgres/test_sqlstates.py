"""The table of SQLSTATEs: what passes and what stays, for every code that the driver knows."""

import psycopg
import pytest
from psycopg import errors

from reconciler.errors import DatabaseUnavailable, LeaseLost, LockNotAcquired, PermanentError, TemporaryError
from reconciler.postgres.failure import DatabaseMissing, is_transient, translate
from reconciler.postgres.sqlstates import BY_CLASS, BY_CODE, EPOCH_IS_OVER, UNTRANSLATED, verdict

KNOWN = sorted(
    {
        found.sqlstate
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, psycopg.Error) and found.sqlstate
    }
)
PASSING = {
    *("08000", "08001", "08003", "08004", "08006", "08007", "08P01"),
    *("25006", "25P03", "40000", "40001", "40003", "40P01"),
    *("53000", "53100", "53200", "53300", "55006", "55P03"),
    *("57000", "57P01", "57P02", "57P03", "57P04", "57P05", "58000", "58030", "72000", "HV00N"),
}


def test_exactly_these_codes_pass() -> None:
    """Of all codes there are, the connection, other transactions, resources and locks pass; else a person."""
    assert {code for code in KNOWN if verdict(code).passes} == PASSING
    assert verdict(EPOCH_IS_OVER).error is LeaseLost


def test_every_class_is_listed_with_why() -> None:
    """No code of PostgreSQL is left to the rule for what nobody knows, and each row says why."""
    assert {code[:2] for code in KNOWN} <= set(BY_CLASS)
    assert all(len(found.why) > 10 for table in (BY_CLASS, BY_CODE, UNTRANSLATED) for found in table.values())


def test_no_code_repeats_its_class() -> None:
    """A code stands in the table only where it means something else than its class."""
    known = [code for code in BY_CODE if code != EPOCH_IS_OVER]
    assert [code for code in known if BY_CODE[code].error is BY_CLASS[code[:2]].error] == []
    assert set(known) <= set(KNOWN)


@pytest.mark.parametrize("code", KNOWN)
def test_judged_and_translated_alike(code: str) -> None:
    """Whether an error is tried again is the same before and after it was said in our words."""
    error = errors.lookup(code)("no")
    told = translate(error, "trying")
    assert is_transient(error) is is_transient(told) is isinstance(told, TemporaryError)
    assert isinstance(told, TemporaryError | PermanentError)
    assert f"[{code}]" in told.message


def test_what_the_errors_become() -> None:
    """Locks, servers that are away and databases that are missing are told apart by type."""
    expected = {
        "40P01": LockNotAcquired,
        "55P03": LockNotAcquired,
        "57P01": DatabaseUnavailable,
        "25006": DatabaseUnavailable,
        "3D000": DatabaseMissing,
        "40001": TemporaryError,
        "42601": PermanentError,
    }
    assert {code: type(translate(errors.lookup(code)("no"), "trying")) for code in expected} == expected


@pytest.mark.parametrize(
    ("code", "message", "passes"),
    [
        ("XX000", "tuple concurrently updated", True),
        ("XX000", "cache lookup failed for relation 16384", True),
        ("XX000", "unexpected chunk number 1", False),
        ("XX001", "tuple concurrently updated", False),
        ("ZZ999", "nobody knows", False),
    ],
)
def test_errors_of_the_server_itself(code: str, message: str, passes: bool) -> None:
    """Of what the server says of itself only meeting others passes; a code nobody knows does not."""
    assert verdict(code, message).passes is passes
