"""Faults around a running daemon: servers that go away, files that are wrong, commits that overtake."""

import json
from pathlib import Path

from tests.plugins.activity import running
from tests.plugins.daemon import World, until
from tests.plugins.postgres import Server


def test_server_killed_in_the_middle_of_a_change(world: World, private_postgres: Server) -> None:
    """PostgreSQL crashes during a change and comes back: the change is applied once."""
    changes = {
        "first": "create table first();",
        "slow": "select pg_sleep(1.5); create table slow();",
        "last": "create table last();",
    }
    commit = world.repository.commit({**world.spec(database="shop"), **world.repository.module(changes)})
    daemon = world.daemon(server=private_postgres).start()
    until(
        lambda: private_postgres.run(running("select pg_sleep")),
        "the slow change to run",
    )
    private_postgres.restart()
    daemon.until_applied(commit)
    rows = private_postgres.run("select name from reconciler.changes order by position", database="shop")
    assert [row[0] for row in rows] == list(changes)
    assert daemon.plan()["in_sync"]


def test_control_database_away_for_a_while(world: World, private_postgres: Server) -> None:
    """Without its control database nothing is called a success; when it is back, all goes on by itself."""
    world.extra["RECONCILER_CONTROL_DSN"] = private_postgres.text()
    first = world.repository.commit({**world.spec(), **world.repository.module({"a": "create table a();"})})
    daemon = world.daemon().start()
    daemon.until_applied(first)
    private_postgres.stop()
    until(lambda: daemon.get("/readyz")[0] == 503, "the daemon to say that it is not ready")
    assert daemon.get("/livez")[0] == 200
    second = world.repository.commit(
        world.repository.module({"a": "create table a();", "b": "create table b();"})
    )
    assert daemon.environment() == {}
    private_postgres.start()
    daemon.until_applied(second)
    assert world.deployed() == ["a", "b"]


def test_broken_files_stop_nobody_else(world: World) -> None:
    """A bomb, a deep nest, a duplicate key, a huge file, bad UTF-8: each is told, the good one goes on."""
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(8)
    )
    good = world.spec("good")
    named = world.spec("typo")["environments/typo.yaml"].replace("components:", "componets:")
    twice = world.spec("twice")["environments/twice.yaml"] + "kind: Environment\n"
    commit = world.repository.commit(
        {
            **good,
            "environments/bomb.yaml": bomb,
            "environments/deep.yaml": "[" * 100_000,
            "environments/huge.yaml": "# " + "x" * 10_000_000,
            "environments/latin.yaml": "name: caf\xe9".encode("latin-1"),
            "environments/typo.yaml": named,
            "environments/twice.yaml": twice,
            **world.repository.module({"a": "create table a();"}),
        }
    )
    daemon = world.daemon().start()
    daemon.until_applied(commit, "good")
    typo = until(lambda: daemon.environment("typo").get("error"), "the error of 'typo'")
    assert "environments/typo.yaml:" in typo
    assert "unknown key 'componets'" in typo
    assert "did you mean 'components'" in typo
    twice_error = until(lambda: daemon.environment("twice").get("error"), "the error of 'twice'")
    assert "kind" in twice_error
    text = until(
        lambda: (
            (found := daemon.run("validate", str(world.repository.path), check=False)).returncode == 1
            and found
        ),
        "validate to fail",
    )
    for name in ("bomb", "deep", "huge", "latin", "typo", "twice"):
        assert f"environments/{name}.yaml" in text.stdout + text.stderr


def test_environment_that_breaks_later_keeps_what_is_applied(world: World) -> None:
    """An environment whose file becomes unreadable is not taken for one that left; mended, it goes on."""
    first = world.repository.commit({**world.spec(), **world.repository.module({"a": "create table a();"})})
    daemon = world.daemon().start()
    daemon.until_applied(first)
    world.repository.commit({"environments/production.yaml": "apiVersion: [\n"})
    until(lambda: daemon.environment().get("error"), "the error to be shown")
    assert daemon.environment()["applied_commit"] == first
    mended = world.repository.commit(
        {**world.spec(), **world.repository.module({"a": "create table a();", "b": "create table b();"})}
    )
    daemon.until_applied(mended)
    assert daemon.environment()["error"] is None


def test_new_commit_while_a_rollout_runs(world: World) -> None:
    """The running rollout stops at a safe point and the newest commit is carried out; nothing runs twice."""
    slow = {"a": "select pg_sleep(1.5); create table a();", "b": "select pg_sleep(1.5); create table b();"}
    world.repository.commit({**world.spec(), **world.repository.module(slow)})
    daemon = world.daemon().start()
    until(
        lambda: world.server.run(running("select pg_sleep") + f" and datname = '{world.database}'"),
        "the first change to run",
    )
    newest = world.repository.commit(world.repository.module({**slow, "c": "create table c();"}))
    daemon.until_applied(newest)
    assert world.deployed() == ["a", "b", "c"]
    _status, found = daemon.get("/v1/environments/production/rollouts")
    assert [row["state"] for row in found["rollouts"]] == ["completed", "superseded"]


def test_failing_change_is_held_until_a_new_commit(world: World) -> None:
    """What, where, why and what next are told; no pass tries it again by itself; a new commit does."""
    bad = {"a": "create table a();", "b": "create table b();\nselect nosuch from b;"}
    commit = world.repository.commit({**world.spec(), **world.repository.module(bad)})
    daemon = world.daemon().start()
    until(lambda: daemon.condition("Stalled").get("status"), "Stalled")
    assert world.deployed() == ["a"]
    _status, found = daemon.get("/v1/environments/production/rollouts")
    assert len(found["rollouts"]) == 1
    _status, rollout = daemon.get(f"/v1/rollouts/{found['rollouts'][0]['id']}")
    error = rollout["operations"][0]["error"]
    assert error["where"] == "modules/shop/deploy/b.sql:2"
    assert error["sqlstate"] == "42703"
    assert 'column "nosuch" does not exist' in error["why"]
    assert error["next"]
    daemon.run("reconcile", "production")
    until(lambda: daemon.plan()["deployments"][0]["held"], "the plan to say that it is held")
    _status, found = daemon.get("/v1/environments/production/rollouts")
    assert len(found["rollouts"]) == 1
    failed = world.rows("select count(*) from reconciler.events where kind = 'fail'")
    assert failed == [(1,)]
    mended = world.repository.commit({**world.repository.module({**bad, "b": "create table b();"})})
    assert mended != commit
    daemon.until_applied(mended)
    assert world.deployed() == ["a", "b"]


def test_retry_lifts_the_hold(world: World) -> None:
    """An operator who mended the cause by hand retries, and the same commit is applied."""
    commit = world.repository.commit(
        {**world.spec(), **world.repository.module({"a": "create table a (like missing);"})}
    )
    daemon = world.daemon().start()
    until(lambda: daemon.condition("Stalled").get("status"), "Stalled")
    world.rows("create table missing (id int)")
    _status, found = daemon.get("/v1/environments/production/rollouts")
    daemon.run("retry", found["rollouts"][0]["id"])
    daemon.until_applied(commit)


def test_branch_deleted_and_history_rewritten(world: World) -> None:
    """Without its branch the last good commit stays; a rewritten one is applied and told, by default."""
    first = world.repository.commit({**world.spec(), **world.repository.module({"a": "create table a();"})})
    daemon = world.daemon().start()
    daemon.until_applied(first)
    from tests.plugins.git import git

    git(world.repository.path, "checkout", "--quiet", "--orphan", "elsewhere")
    git(world.repository.path, "branch", "-D", "main")
    until(lambda: "main" in (daemon.environment().get("error") or ""), "the missing branch to be reported")
    assert daemon.environment()["applied_commit"] == first
    rewritten = world.repository.commit(
        world.repository.module({"a": "create table a();", "b": "create table b();"})
    )
    git(world.repository.path, "branch", "-m", "elsewhere", "main")
    daemon.until_applied(rewritten)
    assert "source.history_rewritten" in daemon.log.read_text()


def test_hostile_names_everywhere(world: World) -> None:
    """Quotes, newlines, spaces, Unicode and 63 bytes in names of databases, extensions and changes."""
    database = "we\"ird\n'db' $x; drop -- " + "ü" * 10
    spec = world.spec()["environments/production.yaml"].replace(
        f"database: {world.database}", f"database: {json.dumps(database)}"
    )
    change = "naïve'change\"x"
    commit = world.repository.commit(
        {
            "environments/production.yaml": spec,
            **world.repository.module({change: 'create table "ta""ble\n\'x" ("col;umn" int);'}),
        }
    )
    daemon = world.daemon().start()
    try:
        daemon.until_applied(commit)
        assert world.deployed(database) == [change]
        assert daemon.plan()["in_sync"]
        daemon.run("diff", "production", "--output", "markdown")
        assert daemon.run("status", "production").returncode == 0
    finally:
        daemon.kill()
        world.server.drop_database(database)


def test_secrets_are_never_shown(world: World, tmp_path: Path) -> None:
    """Passwords in well-formed and malformed connection strings stay out of everything that is shown."""
    secret = "sw0rdfish-XyZ"
    broken = {
        "URI_DSN": f"postgresql://app:{secret}@127.0.0.1:1/shop",
        "KEY_DSN": f"host=127.0.0.1 port=1 user=app password={secret} dbname=shop",
        "ODD_DSN": f"postgresql://app:{secret}@@@[::bad/shop?x=%zz",
        "BAD_DSN": f"host=127.0.0.1 port=1 password='{secret} dbname=shop",
        "WRONG_DSN": world.server.text().replace("test-password", secret),
    }
    world.extra.update(broken)
    files: dict[str, str] = {}
    for name in broken:
        low = name.lower().replace("_", "-")
        files |= {
            f"environments/{low}.yaml": world.spec(low)[f"environments/{low}.yaml"].replace("SHOP_DSN", name)
        }
    plain = world.spec("plain")["environments/plain.yaml"].replace(
        "{env: SHOP_DSN}", f'"postgresql://app:{secret}@h/db"'
    )
    world.repository.commit(
        {**files, "environments/plain.yaml": plain, **world.repository.module({"a": "create table a();"})}
    )
    daemon = world.daemon().start()
    names = [name.lower().replace("_", "-") for name in broken]
    until(
        lambda: all(
            any(row["unavailable"] for row in daemon.environment(name).get("deployments", []))
            for name in names
        ),
        "every environment to be unavailable",
    )
    until(lambda: daemon.environment("plain").get("error"), "the plain secret to be refused")
    shown = [json.dumps(daemon.get("/v1/environments")), json.dumps(daemon.get("/metrics"))]
    for name in (*names, "plain"):
        shown += [
            json.dumps(daemon.get(f"/v1/environments/{name}{rest}")) for rest in ("", "/diff", "/events")
        ]
        for command in (("status", name), ("diff", name), ("apply", name)):
            result = daemon.run(*command, check=False)
            shown += [result.stdout, result.stderr]
    shown += [daemon.log.read_text(), daemon.run("validate", str(world.repository.path), check=False).stdout]
    assert not [text for text in shown if secret in text]


def test_dry_run_leaves_a_server_as_it_was(world: World, private_postgres: Server) -> None:
    """Against a server that was never touched, a dry run reads as empty and writes nothing at all."""
    private_postgres.create_database("lonely")
    world.repository.commit(
        {**world.spec(database="lonely"), **world.repository.module({"a": "create table a();"})}
    )
    daemon = world.daemon(server=private_postgres)
    daemon.environ.pop("RECONCILER_CONTROL_DSN")
    daemon.config.write_text(
        daemon.config.read_text().replace("control: {dsn: {env: RECONCILER_CONTROL_DSN}}\n", "")
    )

    def snapshot() -> list[tuple[object, ...]]:
        return [
            *private_postgres.run("select next_xid from pg_catalog.txid_current_snapshot() s, "
                                  "lateral (select pg_snapshot_xmax(pg_current_snapshot()) as next_xid) x"),
            *private_postgres.run("select datname, oid::int8, datacl::text from pg_database order by 1"),
            *private_postgres.run("select count(*), max(oid::int8) from pg_class", database="lonely"),
            *private_postgres.run("select rolname from pg_roles order by 1"),
        ]  # fmt: skip

    before = snapshot()
    result = daemon.run("diff", "production", "--output", "json")
    plan = json.loads(result.stdout)
    assert [
        step["kind"] for stage in plan["deployments"][0]["plan"]["stages"] for step in stage["steps"]
    ] == [
        "adopt-database",
        "create-extension",
        "deploy-change",
    ]
    assert snapshot() == before
    assert daemon.run("diff", "production", "--output", "json").stdout == result.stdout


def test_dry_run_equals_what_apply_does(world: World) -> None:
    """The steps that the dry run of a branch shows are the steps that are recorded and carried out."""
    first = world.repository.commit({**world.spec(), **world.repository.module({"a": "create table a();"})})
    daemon = world.daemon().start()
    daemon.until_applied(first)
    from tests.plugins.git import git

    git(world.repository.path, "switch", "--quiet", "-c", "feature")
    second = world.repository.commit(
        world.repository.module(
            {"a": "create table a();", "b": "create table b();", "c": "create table c();"}
        )
    )
    git(world.repository.path, "switch", "--quiet", "main")
    before = daemon.plan(query="?ref=feature")
    steps = [step["id"] for stage in before["deployments"][0]["plan"]["stages"] for step in stage["steps"]]
    git(world.repository.path, "merge", "--quiet", "--ff-only", "feature")
    daemon.until_applied(second)
    _status, found = daemon.get("/v1/environments/production/rollouts")
    _status, rollout = daemon.get(f"/v1/rollouts/{found['rollouts'][0]['id']}")
    operation = rollout["operations"][0]
    assert [step["id"] for step in operation["steps"]] == steps
    assert {step["state"] for step in operation["steps"]} == {"done"}
    assert operation["plan_digest"] == before["deployments"][0]["digest"]


def test_suspend_resume_and_observe(world: World) -> None:
    """A suspended environment is not reconciled; an observed one is planned and never rolled out."""
    first = world.repository.commit({**world.spec(), **world.repository.module({"a": "create table a();"})})
    daemon = world.daemon().start()
    daemon.until_applied(first)
    daemon.run("suspend", "production")
    second = world.repository.commit(
        world.repository.module({"a": "create table a();", "b": "create table b();"})
    )
    until(lambda: daemon.environment().get("head_commit") == second, "the commit to be seen")
    assert daemon.condition("Suspended")["status"]
    assert world.deployed() == ["a"]
    observed = world.spec()["environments/production.yaml"].replace(
        "  deployments:", "  policy: {mode: observe}\n  deployments:"
    )
    third = world.repository.commit({"environments/production.yaml": observed})
    daemon.run("resume", "production")
    until(lambda: daemon.environment().get("observed_commit") == third, "the pass")
    until(lambda: daemon.environment()["deployments"][0]["pending"] == 1, "the pending change to be counted")
    assert world.deployed() == ["a"]
    daemon.run("apply", "production", "--reason", "by hand", "--wait")
    assert world.deployed() == ["a", "b"]
