"""Find what cannot be in the one transaction of a module; it asks no server."""

import re
from collections.abc import Iterator, Sequence

from reconciler.catalog.sql_text import Statement
from reconciler.errors import Problem
from reconciler.state.desired import DesiredChange
from reconciler.state.program import Purpose, compile_script

_APART = "set 'transaction: change' for the component, or move the change to a module of its own"
_ISOLATION = re.compile(r"\bisolation\b|\bsnapshot\b|\btransaction_isolation\b", re.IGNORECASE)
_AS_IT_IS = re.compile(r"\bread\s+committed\b", re.IGNORECASE)


def not_together(component: str, changes: Sequence[DesiredChange]) -> Iterator[Problem]:
    """Say of each change why it cannot share a transaction with those before it, if it cannot."""
    doing = f"component '{component}' deploys in one transaction"
    for change in changes:
        if not change.transactional:
            yield Problem(
                file=change.deploy.path,
                message=f"{doing}, and this script cannot run in one",
                hint=_APART,
            )
        else:
            yield from _own_isolation(doing, change)


def _own_isolation(doing: str, change: DesiredChange) -> Iterator[Problem]:
    """What only the first statement of a transaction may set."""
    text = change.deploy.text if change.deploy.expansion is None else change.deploy.expansion.text
    if not _ISOLATION.search(text):
        return
    program = compile_script(change.deploy, purpose=Purpose.DEPLOY)
    for number, statement in enumerate(program.statements):
        if _sets_isolation(statement):
            place = program.place(number)
            yield Problem(
                file=place.file,
                line=place.line,
                message=f"{doing}, whose isolation level no script can set: others ran in it before",
                hint=f"take it out of the script; else {_APART}",
            )


def _sets_isolation(statement: Statement) -> bool:
    sets = statement.facts.sets or ""
    says = sets.startswith("TRANSACTION") and _ISOLATION.search(statement.text) is not None
    return (says or sets == "transaction_isolation") and not _AS_IT_IS.search(statement.text)
