"""Scripts written for psql, sent by us: what psql makes of them is what they do here."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.changes.psql import Surroundings, expand
from reconciler.changes.script import Script
from reconciler.errors import StepFailed
from reconciler.execution import changes
from reconciler.execution.changes import Progress
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.postgres.programs import find_binaries
from reconciler.state.desired import DesiredChange
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.read import read_revertible
from reconciler.tracking.record import Actor
from tests.plugins.postgres import Server
from tests.plugins.states import change, module

OWNER = FenceOwner(control_id="test", environment="production", deployment="eu", operation="1")
ACTOR = Actor(commit="c" * 40, operation="1", committer="test")
VALUES = {"schema": "shop", "who": "it's \\ me", "Odd": 'a "b" c', "n": "3", "frag": "1 + :n"}
FILES = {
    "deploy/a.sql": r"""-- Deploy shop:a to pg
\set ON_ERROR_STOP 1
\set tbl log :n
\pset format unaligned
\timing off
BEGIN;
CREATE SCHEMA :schema;
CREATE TABLE :schema.:"tbl" (id serial, what text, "odd" text DEFAULT :'Odd');
\ir ../lib/data.sql
INSERT INTO :schema.:tbl (what) VALUES (:'who'), (':who'), ($$:who$$), (E'\':n'), ((:frag)::text),
  ((ARRAY[1,2,:n])[1: :n]::text), (:{?who}::text), (:{?nix}::text) /* :nix */; -- :nix
\if :{?who}
  \if off
    SELECT nonsense from nowhere;
  \elif tr
    INSERT INTO :schema.:tbl (what) VALUES ('elif');
  \else
    garbage :nix
  \endif
  INSERT INTO :schema.:tbl (what) SELECT \if 0
    'a' \else
    'b' \endif
    || 'c';
\else
  \i nowhere.sql
\endif
\set two :n:n '' 'x y' :Odd
INSERT INTO :schema.:tbl (what) VALUES (:'two');
COPY :schema.:tbl (what) FROM stdin WITH (FORMAT csv, HEADER);
what
"a, :n"
"two
lines; \i"
\.
COMMIT;
\echo done :schema -n 'two  words' "q q"
""",
    "lib/data.sql": r"""\set inner 'from inside'
INSERT INTO :schema.:tbl (what) VALUES (:'inner');
COPY :schema.:tbl (what) FROM STDIN;
tab\tbed
\\N :n
\N
\.
INSERT INTO :schema.:tbl (what) VALUES ('no semicolon')
""",
}


async def nothing(_change: DesiredChange) -> None:
    """Nobody is told."""


async def go_on() -> None:
    """Nobody asks to stop."""


@pytest.fixture
async def session(postgres_server: Server, fresh_database: str) -> AsyncIterator[DatabaseSession]:
    opened = await open_session(
        postgres_server.dsn, fresh_database, OWNER, limits=Limits(), install_tracking=True
    )
    yield opened
    await opened.abandon()


def scripted(text: str, name: str = "a") -> DesiredChange:
    """A change of a script that may include the files above."""
    texts = {path: content.encode() for path, content in FILES.items()}
    path = f"deploy/{name}.sql"
    made = expand(path, text, Surroundings(texts=texts, values=VALUES))
    assert made is not None
    return replace(change(name, text=text), deploy=Script(path, text, made))


async def deploy(session: DatabaseSession, *wanted: DesiredChange) -> None:
    progress = Progress(done=nothing, safe_point=go_on)
    await changes.deploy(session, module(*wanted), wanted, ACTOR, progress)


def by_psql(server: Server, folder: Path) -> str:
    """Have psql run the script in a database of its own, and return what it says."""
    for path, content in FILES.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(content)
    server.run("create database by_psql")
    command = [str(find_binaries() / "psql"), "--no-psqlrc", "--quiet", "--dbname", server.text("by_psql")]
    command += [part for name, value in VALUES.items() for part in ("--set", f"{name}={value}")]
    command += ["--file", "deploy/a.sql"]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return done.stdout


async def test_psql_and_we_do_the_same(
    session: DatabaseSession, postgres_server: Server, tmp_path: Path
) -> None:
    """One script with every part of the language leaves the same rows, and says the same."""
    told = await asyncio.to_thread(by_psql, postgres_server, tmp_path)
    wanted = scripted(FILES["deploy/a.sql"])
    await deploy(session, wanted)
    query = "select * from shop.log3 order by id"
    theirs = postgres_server.run(query, database="by_psql")
    cursor = await session.holder.execute(query)
    assert await cursor.fetchall() == [tuple(row) for row in theirs]
    assert len(theirs) > 15
    assert wanted.deploy.expansion is not None
    assert [f"{message.text}\n" for message in wanted.deploy.expansion.messages] == [told]


async def test_bad_data_are_told_at_their_line(session: DatabaseSession) -> None:
    """The line of the file is named, not that of the COPY, and all of the change is taken back."""
    text = "CREATE TABLE t (a int);\nCOPY t FROM stdin;\n1\n2\nthree\n\\.\n"
    with pytest.raises(StepFailed) as caught:
        await deploy(session, scripted(text))
    assert (caught.value.file, caught.value.line, caught.value.sqlstate) == ("deploy/a.sql", 5, "22P02")
    cursor = await session.holder.execute("select to_regclass('public.t')")
    assert await cursor.fetchone() == (None,)


async def test_error_in_an_included_file_is_told_there(session: DatabaseSession) -> None:
    """File and line are those of the text that is wrong."""
    with pytest.raises(StepFailed, match=r"relation .* does not exist") as caught:
        await deploy(session, scripted("\\set tbl t\nCREATE SCHEMA shop;\n\\ir ../lib/data.sql\n"))
    assert (caught.value.file, caught.value.line) == ("lib/data.sql", 2)


async def test_stored_scripts_need_nothing_else(session: DatabaseSession) -> None:
    """What is kept to revert a change is whole: no variables, no other files."""
    text = "\\i lib/data.sql\nDELETE FROM :schema.x;"
    reverting = scripted(f"\\set tbl t\n{text}").deploy
    await deploy(session, replace(change("a"), revert=reverting))
    stored = (await read_revertible(session.holder))[change("a").change_id].script
    assert stored is not None
    assert "INSERT INTO shop.t (what) VALUES ('from inside');" in stored
    assert stored.endswith("DELETE FROM shop.x;")
    again = expand("revert/a.sql", stored, Surroundings())
    assert again is not None
    assert again.problems == ()
    assert reverting.expansion is not None
    assert len(again.copies) == len(reverting.expansion.copies) == 1


async def test_much_data_go_through_in_pieces(session: DatabaseSession) -> None:
    """Several megabytes and what stands before and behind them arrive, in order, in one transaction."""
    rows = "".join(f"{number}\t{'x' * 90}\n" for number in range(40_000))
    before, behind = "CREATE TABLE t (a int, b text);\nSELECT 1;", "SELECT 2;\nALTER TABLE t ADD c int;\n"
    text = f"{before}\nCOPY t FROM stdin;\n{rows}\\.\n{behind}"
    await deploy(session, scripted(text), change("b"))
    cursor = await session.holder.execute("select count(*), sum(a), max(length(b)), max(c) from public.t")
    assert await cursor.fetchone() == (40_000, 40_000 * 39_999 // 2, 90, None)
