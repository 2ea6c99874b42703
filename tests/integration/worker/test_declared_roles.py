"""Roles that a spec declares, on a real server: made once, left as they are, passwords never sent."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping

import psycopg
import pytest

from reconciler.errors import StepFailed
from reconciler.execution import roles
from reconciler.execution.roles import NewRole, create_role
from reconciler.execution.session import Limits, open_session
from reconciler.postgres.connection import Dsn
from reconciler.state.task import ModuleTask, TaskVerb
from reconciler.tracking.fence import FenceOwner
from tests.integration.worker.test_module_by_hand import run
from tests.integration.worker.test_worker_operations import ended, said
from tests.plugins.postgres import Server
from tests.plugins.site import Process, Site

PASSWORD = "correct horse, battery"
OWNER = FenceOwner(control_id="roles", environment="production", deployment="eu", operation="1")


class Roles:
    """Names of roles that no other test has, all gone at the end."""

    def __init__(self, site: Site) -> None:
        self.prefix = f"{site.prefix}_role"
        self.server = site.server

    def __call__(self, name: str) -> str:
        return f"{self.prefix}_{name}"

    def there(self) -> dict[str, tuple[bool, bool, list[str]]]:
        """Login, bypassrls and groups of each."""
        rows = self.server.run(
            f"""select rolname, rolcanlogin, rolbypassrls, array(
                select roleid::regrole::text from pg_auth_members where member = r.oid order by 1
            ) from pg_roles r where rolname like '{self.prefix}%' order by 1"""
        )
        return {
            row[0].removeprefix(f"{self.prefix}_"): (
                row[1],
                row[2],
                [name.removeprefix(f"{self.prefix}_") for name in row[3]],
            )
            for row in rows
        }

    def drop(self) -> None:
        # Who granted something is dropped after it.
        for name in sorted(self.there(), key=lambda each: each == "creator"):
            self.server.run(f"drop role {self(name)}")


@pytest.fixture
def named(site: Site) -> Iterator[Roles]:
    made = Roles(site)
    yield made
    site.drop_databases()
    made.drop()


def spec(site: Site, roles_text: str, **more: str) -> Mapping[str, str]:
    found = site.spec(**more)  # type: ignore[arg-type]
    (path, text), *_rest = found.items()
    return {path: text.replace("_${deployment}'}", f"_${{deployment}}', roles: {roles_text}}}")}


async def up(site: Site, files: Mapping[str, str], changes: Mapping[str, str]) -> Process:
    process = site.process()
    process.work()
    site.commit(changes, files)
    await process.look()
    process.worker.wake()
    return process


async def test_roles_are_there_before_the_first_module(site: Site, named: Roles) -> None:
    """Scripts find them, members are in their groups, the password works, and the next pass has no work."""
    site.environ["ADMIN_PASSWORD"] = PASSWORD
    text = (
        f"[{{name: {named('admin')}, login: true, bypassrls: true, memberOf: [{named('user')}],"
        f" password: {{env: ADMIN_PASSWORD}}}}, {named('user')}]"
    )
    files = spec(site, text, more="  policy: {allowHazards: [PRIVILEGED_ROLE]}\n")
    process = await up(site, files, {"a": f"create table a (); grant select on a to {named('user')};"})
    assert await ended(process) == ["completed"]
    assert named.there() == {"admin": (True, True, ["user"]), "user": (False, False, [])}
    ((stored,),) = site.server.run(f"select rolpassword from pg_authid where rolname = '{named('admin')}'")
    assert stored.startswith("SCRAM-SHA-256$")
    recorded = await site.control_rows(
        "select o.plan::text || coalesce(e.data::text, '') from reconciler_control.operations o,"
        " lateral (select string_agg(t::text, '') as data from reconciler_control.events t) e"
    )
    assert recorded
    assert all(word not in str(recorded) + str(process.events) for word in (PASSWORD, "SCRAM"))
    before = len(await process.rollouts())
    await process.look()
    assert len(await process.rollouts()) == before


async def test_a_role_that_is_there_is_left_as_it_is(site: Site, named: Roles) -> None:
    """It is adopted, and what differs is told as drift; taking it out of the spec drops nothing."""
    site.server.run(f"create role {named('admin')} login")
    text = f"[{{name: {named('admin')}, login: false}}]"
    process = await up(site, spec(site, text), {"a": f"grant usage on schema public to {named('admin')};"})
    assert await ended(process) == ["completed"]
    assert named.there() == {"admin": (True, False, [])}
    await process.look()
    plan = await process.parts.reconciler.preview("production")
    (drift,) = plan.deployments[0].drift
    assert "login is on, declared off" in str(drift)
    site.repository.commit(site.spec())
    await process.look()
    assert named.there() == {"admin": (True, False, [])}


async def test_a_revert_by_hand_makes_no_role(site: Site, named: Roles) -> None:
    """Only the module is taken back; a role that somebody dropped is for a pass or a deploy to make."""
    files = spec(site, f"[{named('user')}]", more="  policy: {mode: observe}\n")
    process = await up(site, files, {"a": "create table a ();"})
    deploy = ModuleTask(verb=TaskVerb.DEPLOY, module="shop-schema", createdb=True)
    assert await run(process, deploy) == ["completed"]
    named.drop()
    revert = ModuleTask(verb=TaskVerb.REVERT, module="shop-schema", everything=True)
    site.repository.commit({"modules/shop/revert/a.sql": "drop table a;"})
    await process.look()
    assert await run(process, revert) == ["completed"]
    assert named.there() == {}
    assert await run(process, deploy) == ["completed"]
    assert named.there() == {"user": (False, False, [])}


async def test_a_missing_secret_is_told_by_its_name(site: Site, named: Roles) -> None:
    """The operation fails with the variable's name; nothing was made."""
    text = f"[{{name: {named('admin')}, login: true, password: {{env: NOT_SET_ANYWHERE}}}}]"
    process = await up(site, spec(site, text), {"a": "create table a ();"})
    assert await ended(process) == ["failed"]
    assert "NOT_SET_ANYWHERE" in said(await process.environment())
    assert named.there() == {}


async def test_deployments_of_one_server_make_a_role_once(site: Site, named: Roles) -> None:
    """Databases side by side declare the same roles: all complete, and each role is there."""
    text = f"[{named('user')}, {{name: {named('admin')}, memberOf: [{named('user')}]}}]"
    found = site.spec(deployments=("eu", "us", "asia"), more="  rollout: {order: parallel, maxParallel: 3}\n")
    (path, body), *_rest = found.items()
    files = {path: body.replace("_${deployment}'}", f"_${{deployment}}', roles: {text}}}")}
    process = await up(site, files, {"a": f"create table a (); grant select on a to {named('admin')};"})
    assert await ended(process) == ["completed"] * 3
    assert named.there() == {"admin": (False, False, ["user"]), "user": (False, False, [])}


async def test_races_with_others_are_won_or_left(
    site: Site, named: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a common lock, many who make the same role and grant the same group end with one role."""
    names = [site.server.create_database() for _ in range(4)]
    monkeypatch.setattr(roles, "acquire", _no_lock)
    site.server.run(f"create role {named('user')}")
    sessions = [
        await open_session(site.server.dsn, name, OWNER, limits=Limits(), install_tracking=True)
        for name in names
    ]
    try:
        wanted = NewRole(name=named("admin"), attributes=("login",), member_of=(named("user"),))
        await asyncio.gather(
            *(create_role(each, site.server.dsn, wanted, password=PASSWORD) for each in sessions)
        )
        assert named.there()["admin"] == (True, False, ["user"])
        others = [NewRole(name=named(f"m{n}"), member_of=(named("user"),)) for n in range(4)]
        await asyncio.gather(
            *(
                create_role(each, site.server.dsn, other, password=None)
                for each, other in zip(sessions, others, strict=True)
            )
        )
        assert {name: row[2] for name, row in named.there().items() if name.startswith("m")} == {
            f"m{n}": ["user"] for n in range(4)
        }
    finally:
        for each in sessions:
            await each.abandon()
        for name in names:
            site.server.drop_database(name)


async def test_the_password_leaves_as_a_verifier(site: Site, named: Roles, database_of: str) -> None:
    """What is sent holds the verifier of that password and never the password; it lets the role in."""
    session = await open_session(site.server.dsn, database_of, OWNER, limits=Limits(), install_tracking=True)
    try:
        sent = roles.verifier(session.writer, named("admin"), PASSWORD)
        assert sent.startswith("SCRAM-SHA-256$4096:")
        assert PASSWORD not in sent
        assert sent != roles.verifier(session.writer, named("admin"), PASSWORD)
        wanted = NewRole(name=named("admin"), attributes=("login",))
        await create_role(session, site.server.dsn, wanted, password=PASSWORD)
    finally:
        await session.abandon()
    text = psycopg.conninfo.make_conninfo(site.server.text(), user=named("admin"), password=PASSWORD)
    with contextlib.closing(psycopg.connect(text)) as connection:
        assert connection.info.user == named("admin")


async def test_who_is_no_superuser_may_make_roles(site: Site, named: Roles, database_of: str) -> None:
    """CREATEROLE is enough for what it may give; else the error says what is lacking, and nothing stays."""
    session = await open_session(site.server.dsn, database_of, OWNER, limits=Limits(), install_tracking=True)
    await session.finish()
    creator = named("creator")
    site.server.run(f"create role {creator} login createrole password 'x'")
    site.server.run(f"grant reconciler_tracking to {creator}")
    dsn = Dsn(psycopg.conninfo.make_conninfo(site.server.text(), user=creator, password="x"))
    session = await open_session(dsn, database_of, OWNER, limits=Limits(), install_tracking=False)
    try:
        await create_role(session, dsn, NewRole(name=named("user")), password=None)
        wanted = NewRole(name=named("admin"), attributes=("login",), member_of=(named("user"),))
        await create_role(session, dsn, wanted, password=PASSWORD)
        assert named.there()["admin"] == (True, False, ["user"])
        more = NewRole(name=named("more"), attributes=("bypassrls",))
        with pytest.raises(StepFailed) as caught:
            await create_role(session, dsn, more, password=PASSWORD)
        assert "ADMIN OPTION" in str(caught.value.hint)
        assert PASSWORD not in str(caught.value)
        assert "more" not in named.there()
    finally:
        await session.abandon()


@pytest.fixture
def database_of(postgres_server: Server) -> Iterator[str]:
    name = postgres_server.create_database()
    yield name
    postgres_server.drop_database(name)


async def _no_lock(*_arguments: object, **_named: object) -> None:
    """Others do not take our lock either."""
