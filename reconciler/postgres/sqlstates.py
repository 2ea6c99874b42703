"""What each SQLSTATE means for trying again, as one table: by code, else by class; it does nothing itself.

A code or class that is not listed does not pass: what nobody thought of is told to a person at once, and not
after all attempts are spent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from reconciler.errors import (
    DatabaseUnavailable,
    LeaseLost,
    LockNotAcquired,
    PermanentError,
    ReconcilerError,
    TemporaryError,
)

EPOCH_IS_OVER = "RC001"
"""What the fence of a managed database raises when another writer has taken over."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error of the server becomes, and why; trying again may help where that is temporary."""

    error: type[ReconcilerError]
    why: str

    @property
    def passes(self) -> bool:
        """Whether trying again may help."""
        return issubclass(self.error, TemporaryError)


_AWAY, _LATER, _LOCKED, _STAYS = DatabaseUnavailable, TemporaryError, LockNotAcquired, PermanentError

BY_CLASS: Mapping[str, Verdict] = MappingProxyType({
    "02": Verdict(_STAYS, "a script found no data where it needs some"),
    "03": Verdict(_STAYS, "a statement came too early; its order is the script's"),
    "08": Verdict(_AWAY, "the connection is gone or was not made; a pooler reports its own troubles so too"),
    "09": Verdict(_STAYS, "the action of a trigger failed"),
    "0A": Verdict(_STAYS, "the server cannot do it"),
    "0B": Verdict(_STAYS, "a transaction was begun in a wrong way"),
    "0F": Verdict(_STAYS, "a locator is not valid"),
    "0L": Verdict(_STAYS, "whoever grants may not"),
    "0P": Verdict(_STAYS, "a role is not valid"),
    "0Z": Verdict(_STAYS, "a handler asked for what there is not"),
    "10": Verdict(_STAYS, "an XML query failed"),
    "20": Verdict(_STAYS, "no case of a script applied"),
    "21": Verdict(_STAYS, "more or less than one row"),
    "22": Verdict(_STAYS, "a value is wrong"),
    "23": Verdict(_STAYS, "rows contradict a constraint; they have to change first"),
    "24": Verdict(_STAYS, "a cursor is in a wrong state"),
    "25": Verdict(_STAYS, "a statement does not fit its transaction, or this took too long for the server"),
    "26": Verdict(_STAYS, "a script named a prepared statement that is not there"),
    "27": Verdict(_STAYS, "a trigger changed what is being changed"),
    "28": Verdict(_STAYS, "who we are is refused; a person corrects the credentials or the server's rules"),
    "2B": Verdict(_STAYS, "other objects or privileges depend on it"),
    "2D": Verdict(_STAYS, "a transaction was ended where that is not allowed"),
    "2F": Verdict(_STAYS, "a function broke the rules of its language"),
    "34": Verdict(_STAYS, "a cursor has no such name"),
    "38": Verdict(_STAYS, "a function outside of SQL failed"),
    "39": Verdict(_STAYS, "a function outside of SQL was called in a wrong way"),
    "3B": Verdict(_STAYS, "a savepoint is not valid"),
    "3D": Verdict(_STAYS, "there is no such database; passes find out, and ask before one is made anew"),
    "3F": Verdict(_STAYS, "there is no such schema"),
    "40": Verdict(_LATER, "the server took the transaction back for the sake of another one"),
    "42": Verdict(_STAYS, "the statement is wrong, names what is not there, or may not be run by the role"),
    "44": Verdict(_STAYS, "a row contradicts its view"),
    "53": Verdict(_AWAY, "the server has no room, memory or connection left at this moment"),
    "54": Verdict(_STAYS, "the statement is beyond what the server can take"),
    "55": Verdict(_STAYS, "an object is not in the state that the statement needs"),
    "57": Verdict(_AWAY, "an operator of the server, or its start or end, broke in"),
    "58": Verdict(_AWAY, "the system below the server failed"),
    "72": Verdict(_LATER, "the snapshot became too old; a new transaction has a new one"),
    "F0": Verdict(_STAYS, "a configuration file of the server is wrong"),
    "HV": Verdict(_STAYS, "a foreign data wrapper refuses"),
    "P0": Verdict(_STAYS, "a script said itself that it cannot go on"),
    "XX": Verdict(_STAYS, "the server contradicts itself: a fault of it, or damaged data"),
})  # fmt: skip
"""Every class of errors that PostgreSQL documents."""

BY_CODE: Mapping[str, Verdict] = MappingProxyType({
    EPOCH_IS_OVER: Verdict(LeaseLost, "another writer took over; nothing more is written for it here"),
    "25006": Verdict(_AWAY, "the server is a standby now: after a switch the primary answers here again"),
    "25P03": Verdict(_AWAY, "the session was ended for idling in a transaction, as a frozen process does"),
    "40002": Verdict(_STAYS, "a deferred constraint was broken; the rows have to change first"),
    "40P01": Verdict(_LOCKED, "a deadlock was resolved at our cost; whom we met is done by then"),
    "53400": Verdict(_STAYS, "a limit of the configuration, such as of temporary files, is met again"),
    "55006": Verdict(_LATER, "others use the object, such as sessions a database; they may leave"),
    "55P03": Verdict(_LOCKED, "a lock was not had in time; whoever holds it may be done"),
    "57014": Verdict(
        _STAYS,
        "a statement that ran into its own limit does so again, and one that a person broke off is theirs"
        " to allow again; the code is the same",
    ),
    "58P01": Verdict(_STAYS, "a file or a library that the statement names is not on the server"),
    "58P02": Verdict(_STAYS, "a file that the statement would make is there"),
    "58P03": Verdict(_STAYS, "the name of a file is too long"),
    "HV00N": Verdict(_AWAY, "a foreign server cannot be reached; it may be back"),
})  # fmt: skip
"""Codes that mean something else than their class does."""

UNTRANSLATED: Mapping[str, Verdict] = MappingProxyType({
    "tuple concurrently updated": Verdict(_LATER, "another session altered the same object just then"),
    "tuple concurrently deleted": Verdict(_LATER, "another session dropped the same object just then"),
    "cache lookup failed": Verdict(_LATER, "another session dropped an object while it was looked up"),
    "could not open relation with OID": Verdict(_LATER, "another session dropped a relation just then"),
})  # fmt: skip
"""How messages of XX000 begin that tell of meeting others; the server never translates these."""


def verdict(code: str, message: str = "") -> Verdict:
    """What an error of the server with this code means; `message` tells some of XX000 apart."""
    if code == "XX000":
        for words, found in UNTRANSLATED.items():
            if message.startswith(words):
                return found
    found_for = BY_CODE.get(code) or BY_CLASS.get(code[:2])
    return found_for or Verdict(_STAYS, "nobody knows the code")
