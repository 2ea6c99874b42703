"""Scripts with letters beyond ASCII in a database that knows no encoding: its server counts bytes."""

from collections.abc import AsyncIterator

import pytest

from reconciler.changes.script import Script
from reconciler.errors import StepFailed
from reconciler.execution import changes
from reconciler.execution.changes import Progress
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.execution.verify import Verification, VerifyLimits, verify
from reconciler.state.desired import DesiredChange, TransactionMode
from reconciler.state.program import Purpose, compile_script
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.record import Actor
from tests.plugins.postgres import Server
from tests.plugins.states import change, module

OWNER = FenceOwner(control_id="test", environment="production", deployment="eu", operation="1")
ACTOR = Actor(commit="c" * 40, operation="1", committer="test")
LETTERS = "äöü" * 20
BROKEN = f"select '{LETTERS}';\nselect '{LETTERS}',\n\n  nosuch,\n  1,\n  2,\n  3,\n  4,\n  5,\n  6,\n  7;\n"
LINE = 4


@pytest.fixture
async def session(postgres_server: Server) -> AsyncIterator[DatabaseSession]:
    name = postgres_server.create_database()
    postgres_server.drop_database(name)
    postgres_server.run(f"create database {name} encoding 'SQL_ASCII' template template0 locale 'C'")
    opened = await open_session(postgres_server.dsn, name, OWNER, limits=Limits(), install_tracking=True)
    yield opened
    await opened.abandon()
    postgres_server.drop_database(name)


async def nothing(_change: DesiredChange) -> None:
    """Nobody is told."""


async def go_on() -> None:
    """Nobody asks to stop."""


@pytest.mark.parametrize("mode", list(TransactionMode))
@pytest.mark.parametrize("text", [BROKEN, "set client_encoding to latin1;\n" + BROKEN], ids=["plain", "set"])
async def test_a_failure_has_its_line(session: DatabaseSession, mode: TransactionMode, text: str) -> None:
    """Alone and beside others in one message, whatever encoding a script has set."""
    before = [change(f"a{number}", text=f"select '{LETTERS}'") for number in range(5)]
    wanted = [*before, change("b", text=text)]
    progress = Progress(done=nothing, safe_point=go_on)
    with pytest.raises(StepFailed, match="nosuch") as caught:
        await changes.deploy(session, module(*wanted, transaction=mode), wanted, ACTOR, progress)
    assert (caught.value.file, caught.value.line) == (
        "modules/shop/deploy/b.sql",
        LINE + text.count("\n") - BROKEN.count("\n"),
    )


async def test_a_verify_script_that_fails_has_its_line(session: DatabaseSession) -> None:
    """Also behind others in one message."""
    texts = (f"select '{LETTERS}'", BROKEN)
    wanted = [
        Verification(
            str(number),
            compile_script(Script(f"verify/{number}.sql", text), purpose=Purpose.VERIFY),
        )
        for number, text in enumerate(texts)
    ]
    found = await verify(session.writer, wanted, VerifyLimits())
    assert [(row.file, row.line) for row in found.failed] == [("verify/1.sql", LINE)]
