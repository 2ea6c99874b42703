"""Deploys and reverts of change modules by hand, as rollouts on real databases."""

import hashlib
from typing import Any

import pytest

from reconciler.errors import DatabaseUnavailable, NotFound, Refused
from reconciler.execution import after_revert
from reconciler.execution.after_revert import verify_remaining
from reconciler.execution.resources import Resources
from reconciler.plan.steps import RevertChange, VerifyRemaining
from reconciler.rollout.status import RolloutStatus
from reconciler.state.task import ModuleTask, TaskVerb
from tests.plugins.modules import tables
from tests.plugins.site import Process, Site, holds

ALL = ("t1", "t2", "t3", "t4")
V1 = {"t2": "v1"}
CONSENT = frozenset({"REVERTS_CHANGE", "DELETES_DATA"})


def deploy(to: str | None = None, **more: Any) -> ModuleTask:
    asked = {"createdb": True, **more}
    return ModuleTask(verb=TaskVerb.DEPLOY, module="shop-schema", to=to, **asked)


def revert(to: str | None = None, *, module: str = "shop-schema", **more: Any) -> ModuleTask:
    return ModuleTask(verb=TaskVerb.REVERT, module=module, to=to, **more)


async def run(process: Process, task: ModuleTask, *, consent: frozenset[str] = CONSENT) -> list[str] | None:
    """Ask for a task and wait for its end: states of the operations, None where there was nothing to do."""
    recorded = await process.parts.reconciler.run_module(
        "production", task, reason="test", requested_by="ada", allow_hazards=consent
    )
    return await ended(process, recorded.id) if recorded is not None else None


async def ended(process: Process, rollout: str) -> list[str]:
    process.worker.wake()

    async def over() -> RolloutStatus | None:
        status = await process.parts.reconciler.rollout(rollout)
        return status if status.finished_at is not None else None

    status = await holds(over, "the rollout to end")
    return [operation.state.value for operation in status.operations]


def there(site: Site) -> list[str]:
    """Tables of the database."""
    query = "select relname::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    return sorted(row[0] for row in site.rows(query))


async def settled(process: Process) -> None:
    """A pass that finds nothing to do by itself records nothing."""
    before = len(await process.rollouts())
    await process.look()
    assert len(await process.rollouts()) == before


async def up(site: Site, files: dict[str, str], *, more: str = "", by_hand: bool = True) -> Process:
    """A process with a worker at work; nothing is deployed yet where rollouts are recorded by hand only."""
    process = site.process()
    policy = "  policy: {mode: observe}\n" if by_hand else ""
    site.repository.commit({**site.spec(more=policy + more), **files})
    await process.look()
    process.work()
    return process


async def test_deploy_goes_to_its_target_and_stays_there(site: Site) -> None:
    """Twice the same target: the second time nothing is done; passes leave it alone and say why."""
    process = await up(site, tables(*ALL, tags=V1), by_hand=False)
    rollout = (await process.rollouts())[0].id
    assert await ended(process, rollout) == ["completed"]
    assert await run(process, revert(everything=True)) == ["completed"]
    assert (site.deployed(), there(site)) == ([], [])
    assert await run(process, deploy("@v1")) == ["completed"]
    assert (site.deployed(), there(site)) == (["t1", "t2"], ["t1", "t2"])
    assert await run(process, deploy("t2")) is None
    await settled(process)
    status = (await process.environment()).deployments[0]
    assert status.held == "module 'shop-schema' was deployed to '@v1' by hand, and not further"
    assert (status.pending, status.applied_commit) == (2, None)
    assert await run(process, deploy()) == ["completed"]
    assert site.deployed() == list(ALL)
    await process.look()
    status = (await process.environment()).deployments[0]
    assert (status.held, status.pending) == (None, 0)


async def test_deploy_refuses_targets_it_cannot_reach(site: Site) -> None:
    """Behind what is deployed, beyond the spec's target, unknown: each is an error, and nothing changes."""
    process = await up(site, tables(*ALL, tags=V1))
    assert await run(process, deploy("t3")) == ["completed"]
    with pytest.raises(Refused, match=r"lies behind what is deployed on 'eu': 't3'.*module revert"):
        await run(process, deploy("@v1"))
    for unknown in ("nosuch", "@nosuch"):
        with pytest.raises(NotFound, match="nosuch"):
            await run(process, deploy(unknown))
    with pytest.raises(NotFound, match="did you mean 'shop-schema'"):
        await run(process, ModuleTask(verb=TaskVerb.DEPLOY, module="shop-shema"))
    assert site.deployed() == ["t1", "t2", "t3"]


async def test_a_database_is_made_only_when_it_is_asked_for(site: Site) -> None:
    """Without that nothing is done and the flag is named; with it, steps of its own make it before."""
    process = await up(site, tables(*ALL))
    with pytest.raises(Refused) as caught:
        await run(process, deploy(createdb=False))
    assert "--createdb" in str(caught.value)
    assert "Database component 'shop-db' does not exist" in str(caught.value)
    assert await process.rollouts() == ()
    assert await run(process, deploy("t1")) == ["completed"]
    steps = await site.control_rows("select kind from reconciler_control.steps order by ordinal")
    assert [row[0] for row in steps] == ["create-database", "deploy-change"]
    assert await run(process, deploy("t2", createdb=False)) == ["completed"]
    assert site.deployed() == ["t1", "t2"]


async def test_log_only_records_and_runs_nothing(site: Site) -> None:
    """Consent is needed, for it may lie; a later deploy runs only what is new."""
    process = await up(site, tables(*ALL, tags=V1))
    task = deploy("t2", log_only=True)
    with pytest.raises(Refused, match="RECORDS_UNSEEN"):
        await run(process, task)
    assert await run(process, task, consent=frozenset({"RECORDS_UNSEEN"})) == ["completed"]
    assert (site.deployed(), there(site)) == (["t1", "t2"], [])
    assert site.rows("select name from reconciler.tags") == [("v1",)]
    assert site.rows("select count(*) from reconciler.changes where script_hash is null") == [(0,)]
    assert await run(process, deploy()) == ["completed"]
    assert there(site) == ["t3", "t4"]


async def test_revert_leaves_its_target(site: Site) -> None:
    """Newest first down to the target; bare, the last change; passes do not put back what was taken."""
    process = await up(site, tables(*ALL, tags=V1), by_hand=False)
    assert await ended(process, (await process.rollouts())[0].id) == ["completed"]
    with pytest.raises(Refused, match=r"needs consent.*REVERTS_CHANGE"):
        await run(process, revert(), consent=frozenset())
    assert await run(process, revert()) == ["completed"]
    assert (site.deployed(), there(site)) == (["t1", "t2", "t3"], ["t1", "t2", "t3"])
    await settled(process)
    with pytest.raises(Refused, match="'t4' is not deployed"):
        await run(process, revert("t4"))
    with pytest.raises(Refused, match="'nosuch' is not deployed"):
        await run(process, revert("nosuch"))
    assert await run(process, revert("t3")) is None
    assert await run(process, revert("@v1^")) == ["completed"]
    assert (site.deployed(), there(site)) == (["t1"], ["t1"])
    log = site.rows("select kind::text, name from reconciler.events order by event_id desc limit 3")
    assert log == [("revert", "t2"), ("revert", "t3"), ("revert", "t4")]
    assert site.rows("select moving from reconciler.base_line") == [(False,)]
    newer = site.repository.commit({"README": "newer"})
    await process.look()
    assert (await process.rollouts())[0].commit == newer


async def test_revert_uses_the_right_script(site: Site) -> None:
    """The commit's, where it still is that change's; else the stored one; a missing one stops everything."""
    process = await up(site, tables(*ALL, without_revert=["t1"]))
    await run(process, deploy())
    mended = tables(*ALL, without_revert=["t1"])
    mended["modules/shop/revert/t4.sql"] = "drop table t4; create table mended ();"
    mended["modules/shop/deploy/t3.sql"] = "create table other_t3 ();"
    mended["modules/shop/revert/t3.sql"] = "drop table other_t3;"
    site.repository.commit(mended)
    await process.look()
    plan = await process.parts.reconciler.preview_module("production", revert("t2"))
    steps = [step for step in plan.deployments[0].steps if isinstance(step, RevertChange)]
    assert [(step.change, step.stored) for step in steps] == [("t4", False), ("t3", True)]
    with pytest.raises(Refused, match=r"no revert script.*'shop:t1'"):
        await run(process, revert(everything=True))
    assert len(site.deployed()) == 4
    assert await run(process, revert("t2")) == ["completed"]
    assert there(site) == ["mended", "t1", "t2"]


async def test_revert_that_fails_says_where(site: Site) -> None:
    """What was taken back before it stays so; the failed change keeps its table and its record."""
    files = tables(*ALL)
    files["modules/shop/revert/t3.sql"] = "drop table t3;\nselect nosuch;\n"
    process = await up(site, files)
    await run(process, deploy())
    recorded = await process.parts.reconciler.run_module(
        "production", revert("t1"), reason="", requested_by="ada", allow_hazards=CONSENT
    )
    assert recorded is not None
    assert await ended(process, recorded.id) == ["failed"]
    operation = (await process.parts.reconciler.rollout(recorded.id)).operations[0]
    assert operation.error is not None
    assert operation.error["where"] == "modules/shop/revert/t3.sql:2"
    assert 'column "nosuch" does not exist' in operation.error["why"]
    assert (site.deployed(), there(site)) == (["t1", "t2", "t3"], ["t1", "t2", "t3"])


async def test_many_reverts_at_once_stop_where_one_fails(site: Site) -> None:
    """However they are sent: those before it are gone, it and those after it are as they were."""
    names = [f"t{number}" for number in range(60)]
    files = tables(*names)
    files["modules/shop/revert/t5.sql"] += "select * from nosuch;\n"
    files["modules/shop/revert/t30.sql"] = (
        "set search_path = nowhere; drop table public.t30; -- with a comment"
    )
    files["modules/shop/revert/t31.sql"] += "select 1; -- rows"
    files["modules/shop/revert/t32.sql"] += (
        "do $$ begin perform set_config('role', 'pg_monitor', false); end $$"
    )
    process = await up(site, files)
    await run(process, deploy())
    assert await run(process, revert("t0")) == ["failed"]
    assert site.deployed() == names[:6]
    assert there(site) == sorted(names[:6])
    files["modules/shop/revert/t5.sql"] = "drop table t5"
    site.repository.commit(files)
    await process.look()
    assert await run(process, revert("t0")) == ["completed"]
    assert there(site) == ["t0"]


COMPONENTS = (
    "    - {name: app-schema, kind: Module, database: {from: shop-db}, path: modules/app}\n"
    "    - {name: other-schema, kind: Module, database: {from: shop-db}, path: modules/other}\n"
)


def three_modules(site: Site) -> dict[str, str]:
    spec = site.spec()
    name = next(iter(spec))
    spec[name] += COMPONENTS
    return {
        **spec,
        **tables(*ALL, tags=V1),
        **tables("a1", "a2", project="app", requires={"a1": "shop:@v1"}),
        **tables("o1", project="other"),
    }


async def test_dependents_are_refused_or_go_first(site: Site) -> None:
    """What requires it in other modules is named; on request it goes first; unrelated modules never go."""
    process = site.process()
    site.repository.commit(three_modules(site))
    await process.look()
    process.work()
    assert await ended(process, (await process.rollouts())[0].id) == ["completed"]
    everything = ["a1", "a2", "o1", *ALL]
    assert there(site) == everything
    with pytest.raises(Refused, match=r"'app:a1' requires 'shop:t2'.*--with-dependents"):
        await run(process, revert("t1"))
    assert there(site) == everything
    assert await run(process, revert("t2")) == ["completed"]
    assert there(site) == ["a1", "a2", "o1", "t1", "t2"]
    plan = await process.parts.reconciler.preview_module("production", revert("t1", with_dependents=True))
    *steps, last = [step.identity for step in plan.deployments[0].steps]
    assert last == f"what remains in database {site.database()}"
    assert set(steps) == {"change a1", "change a2", "change t2"}
    assert steps.index("change a2") < steps.index("change a1") < steps.index("change t2")
    assert await run(process, revert("t1", with_dependents=True)) == ["completed"]
    assert there(site) == ["o1", "t1"]


async def test_module_that_left_the_spec_is_told_of_and_pruned_with_consent(site: Site) -> None:
    """It stays, and is told of, until policy and consent both say that it goes; others' stay."""
    process = site.process()
    files = three_modules(site)
    site.repository.commit(files)
    await process.look()
    process.work()
    assert await ended(process, (await process.rollouts())[0].id) == ["completed"]
    name = next(file for file in files if file.startswith("environments/"))

    async def without(policy: str) -> str:
        spec = site.spec(more=policy)[name] + COMPONENTS.split("\n", maxsplit=1)[0] + "\n"
        site.repository.commit({name: spec})
        await process.look()
        plan = await process.parts.reconciler.preview("production")
        rows = [row for row in plan.deployments[0].diverged if row.sort.value == "orphaned"]
        assert [row.identity for row in rows] == ["module other"]
        return rows[0].detail

    assert "policy.prune is off" in await without("")
    assert "needs consent to DELETES_DATA, REVERTS_CHANGE" in await without("  policy: {prune: true}\n")
    await settled(process)
    assert "o1" in there(site)
    site.rows("update reconciler.modules set environment = 'staging' where project = 'other' returning 1")
    plan = await process.parts.reconciler.preview("production")
    assert plan.deployments[0].diverged == ()
    site.rows("update reconciler.modules set environment = 'production' where project = 'other' returning 1")
    policy = "  policy: {prune: true, allowHazards: [DELETES_DATA, REVERTS_CHANGE]}\n"
    site.repository.commit(
        {name: site.spec(more=policy)[name] + COMPONENTS.split("\n", maxsplit=1)[0] + "\n"}
    )
    await process.look()
    assert await ended(process, (await process.rollouts())[0].id) == ["completed"]
    assert "o1" not in there(site)
    assert "a1" in there(site)
    await settled(process)


async def test_nothing_declared_prunes_nothing(site: Site) -> None:
    """A spec without any module leaves what is deployed alone, whatever policy says."""
    process = await up(site, tables("t1"), by_hand=False)
    assert await ended(process, (await process.rollouts())[0].id) == ["completed"]
    policy = "  policy: {prune: true, allowHazards: [DELETES_DATA, REVERTS_CHANGE]}\n"
    name, text = next(iter(site.spec(more=policy).items()))
    site.repository.commit({name: "".join(f"{line}\n" for line in text.splitlines() if "Module" not in line)})
    await process.look()
    plan = await process.parts.reconciler.preview("production")
    assert [row.sort.value for row in plan.deployments[0].diverged] == ["orphaned"]
    assert (plan.deployments[0].steps, site.deployed()) == ((), ["t1"])
    assert await run(process, revert(module="shop-schema", everything=True)) == ["completed"]
    assert there(site) == []


async def test_one_transaction_that_needs_too_many_locks_is_refused(site: Site) -> None:
    """The plan says so with numbers, and nothing runs."""
    names = [f"t{number}" for number in range(2000)]
    name, text = next(iter(site.spec().items()))
    text = text.replace("path: modules/shop}", "path: modules/shop, transaction: module}")
    process = site.process()
    site.repository.commit({name: text, **tables(*names)})
    plan = await process.parts.reconciler.preview("production")
    blocked = "deploying 2000 changes in one transaction may take 16000 locks, and the server surely has room"
    assert blocked in plan.deployments[0].blocked[0]
    assert [step.kind.value for step in plan.deployments[0].steps] == ["create-database"]


MEET = """
do $$
declare
    seen boolean := false;
    here bigint;
    sure bigint;
begin
    for tries in 1 .. 4000 loop
        select count(distinct pid) filter (where objid = 1), count(distinct pid) filter (where objid = 2)
        into here, sure
        from pg_locks
        where locktype = 'advisory' and classid = 4711
        and database = (select oid from pg_database where datname = current_database());
        -- Locks go with what a session is reset to: who saw the other stays until it was seen, or is alone.
        if sure > 1 or (seen and here < 2) then
            return;
        end if;
        if here > 1 then
            seen := true;
            perform pg_try_advisory_lock_shared(4711, 2);
        end if;
        perform pg_try_advisory_lock_shared(4711, 1);
        perform pg_sleep(0.01);
    end loop;
    raise exception 'nobody came';
end
$$;
"""


async def test_independent_modules_are_deployed_side_by_side(site: Site) -> None:
    """Two changes that each wait for the other to be under way both end; a third comes after these."""
    process = site.process()
    name, text = next(iter(site.spec().items()))
    files = {**tables("s1"), **tables("a1", project="app"), **tables("o1", project="other")}
    files["modules/other/sqitch.plan"] = files["modules/other/sqitch.plan"].replace(
        "o1 ", "o1 [shop:s1 app:a1] "
    )
    for project, change in (("shop", "s1"), ("app", "a1")):
        files[f"modules/{project}/deploy/{change}.sql"] += MEET
    site.repository.commit({name: text + COMPONENTS, **files})
    await process.look()
    process.work()
    assert await ended(process, (await process.rollouts())[0].id) == ["completed"]
    assert there(site) == ["a1", "o1", "s1"]
    assert site.deployed()[-1] == "o1"
    assert site.rows("select count(*) from reconciler.fence_backends") == [(0,)]


def verified(*names: str) -> dict[str, str]:
    return {f"modules/shop/verify/{name}.sql": f"select id from {name} where false;\n" for name in names}


async def newest(process: Process) -> Any:
    return (await process.rollouts())[0].operations[0]


async def test_what_remains_is_verified_behind_a_revert(site: Site) -> None:
    """A revert that took too much fails as such, stays, and is held with what it broke."""
    files = {**tables(*ALL), **verified(*ALL)}
    files["modules/shop/revert/t4.sql"] = "drop table t4, t2, t1;\n"
    process = await up(site, files)
    await run(process, deploy())
    assert await run(process, revert()) == ["failed"]
    assert (site.deployed(), there(site)) == (["t1", "t2", "t3"], ["t3"])
    error = (await newest(process)).error
    assert error["what"] == f"verify-remaining what remains in database {site.database()}"
    assert "2 of 3 verify scripts fail: 'shop:t1' at modules/shop/verify/t1.sql:1: relation" in error["why"]
    assert "what was taken back stays so" in error["next"]
    await settled(process)
    held = (await process.environment()).deployments[0].held
    assert held is not None
    assert "2 of 3 verify scripts fail" in held


async def test_what_remains_is_verified_however_often_that_is_begun(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that ends behind the last revert leaves that to the next one, which does nothing else."""
    begun: list[str] = []

    async def lost_once(step: VerifyRemaining, resources: Resources) -> None:
        begun.append(step.id)
        if len(begun) == 1:
            raise DatabaseUnavailable("the connection was lost")
        await verify_remaining(step, resources)

    process = await up(site, {**tables(*ALL), **verified(*ALL)})
    await run(process, deploy())
    monkeypatch.setattr(after_revert, "verify_remaining", lost_once)
    assert await run(process, revert()) == ["completed"]
    assert begun == 2 * ["shop-schema/verify-remaining/shop"]
    (operation,) = (await process.parts.reconciler.rollout((await process.rollouts())[0].id)).operations
    assert [step.state for step in operation.steps] == ["done", "done"]


async def test_what_was_taken_back_and_is_there_still_is_remarked(site: Site) -> None:
    """By its own verify script, where that looks at anything; nothing of it is an error for the server."""
    files = {**tables(*ALL), **verified("t2", "t3", "t4")}
    files["modules/shop/verify/t1.sql"] = "select 1;"
    files["modules/shop/verify/t4.sql"] = "set search_path = nowhere; do $$ begin assert true; end $$;"
    files |= dict.fromkeys((f"modules/shop/revert/{name}.sql" for name in ("t1", "t3")), "select 1;")
    process = await up(site, files)
    await run(process, deploy())
    assert await run(process, revert(everything=True)) == ["completed"]
    assert (site.deployed(), there(site)) == ([], ["t1", "t3"])
    told = "taken back, and there still by their verify scripts: 'shop:t4', 'shop:t3'"
    assert (await newest(process)).reason == f"all stages done; {told}"


async def test_target_beyond_the_one_of_the_spec_is_refused(site: Site) -> None:
    """It is named, and nothing is deployed: a pass would find the module ahead of its target."""
    name, text = next(iter(site.spec().items()))
    text = text.replace("path: modules/shop}", 'path: modules/shop, to: "@v1"}')
    process = await up(site, {name: text, **tables(*ALL, tags=V1)}, by_hand=False)
    assert await ended(process, (await process.rollouts())[0].id) == ["completed"]
    for beyond in ("t3", "t4"):
        with pytest.raises(Refused, match=rf"'{beyond}' lies beyond '@v1', to which the spec deploys"):
            await run(process, deploy(beyond))
    assert await run(process, deploy("t2")) is None
    assert site.deployed() == ["t1", "t2"]


async def test_revert_by_hand_holds_until_somebody_wants_it_back(site: Site) -> None:
    """Status and diff say why; passes leave it, a retry is told what to do, `apply` takes it up again."""
    process = await up(site, tables(*ALL, tags=V1), by_hand=False)
    assert await ended(process, (await process.rollouts())[0].id) == ["completed"]
    assert await run(process, revert("@v1")) == ["completed"]
    await settled(process)
    why = "module 'shop-schema' was reverted by hand, to '@v1'"
    status = (await process.environment()).deployments[0]
    assert (status.held, status.pending, status.applied_commit) == (why, 2, None)
    plan = (await process.parts.reconciler.preview("production")).deployments[0]
    assert (plan.held, [row.identity for row in plan.pending]) == (why, ["change t3", "change t4"])
    facade = process.parts.reconciler
    reverted = (await process.rollouts())[0].id
    asked = await facade.request(reverted, "retry", deployment=None, requested_by="ada")
    assert asked.state == "failed"
    await settled(process)
    again = await facade.apply("production", reason="", requested_by="ada")
    assert again is not None
    assert await ended(process, again.id) == ["completed"]
    await process.look()
    status = (await process.environment()).deployments[0]
    assert (status.held, status.pending, site.deployed()) == (None, 0, list(ALL))


async def test_revert_needs_nothing_but_what_is_stored(site: Site) -> None:
    """Files that a revert script includes and values that it uses may be gone: it is kept whole."""
    files = tables("t1", "t2")
    files["modules/shop/deploy/t2.sql"] = "create schema :part; create table :part.t2 ();"
    files["modules/shop/revert/t2.sql"] = '-- by parts\n\\ir parts/drop.sql\ndrop schema :"part";'
    files["modules/shop/revert/parts/drop.sql"] = "-- transaction: none\ndrop table :part.t2"
    name, text = next(iter(site.spec(more="  policy: {mode: observe}\n").items()))
    given = text.replace("path: modules/shop}", "path: modules/shop, variables: {part: wing}}")
    site.repository.commit({name: given, **files})
    process = site.process()
    await process.look()
    process.work()
    assert await run(process, deploy()) == ["completed"]
    hashes = "select script_hash from reconciler.changes where name = 't2'"
    raw = files["modules/shop/deploy/t2.sql"].encode()
    assert site.rows(hashes) == [(hashlib.sha1(raw).hexdigest(),)]
    for path in files:
        (site.repository.path / path).unlink()
    site.repository.commit({name: "".join(f"{line}\n" for line in text.splitlines() if "Module" not in line)})
    await process.look()
    assert await run(process, revert(everything=True)) == ["completed"]
    assert (site.deployed(), there(site)) == ([], [])
    assert site.rows("select from pg_namespace where nspname = 'wing'") == []


async def test_value_of_now_counts_where_the_commit_has_the_script(site: Site) -> None:
    """What is in the commit runs with the commit's values; what is stored runs with those of its deploy."""
    files = tables("t1", "t2")
    files["modules/shop/revert/t2.sql"] = "drop table t2; create table :made ();"
    name, text = next(iter(site.spec(more="  policy: {mode: observe}\n").items()))

    def spec(made: str) -> dict[str, str]:
        return {
            name: text.replace("path: modules/shop}", f"path: modules/shop, variables: {{made: {made}}}}}")
        }

    process = site.process()
    site.repository.commit({**spec("first"), **files})
    await process.look()
    process.work()
    for value, edited, told in (("second", False, "second"), ("third", True, "second")):
        assert await run(process, deploy()) == ["completed"]
        if edited:
            files["modules/shop/deploy/t2.sql"] += "create table other ();"
        site.repository.commit({**spec(value), **files})
        await process.look()
        assert await run(process, revert()) == ["completed"]
        assert there(site) == [told, "t1"]
        site.rows(f"drop table {told}; select 1")
