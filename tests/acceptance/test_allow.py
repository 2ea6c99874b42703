"""What a source may use is limited by the settings of the daemon."""

from tests.plugins.daemon import World, until


def test_source_is_held_to_what_it_may_use(world: World) -> None:
    """An environment that refers to a secret the source may not use is reported; the others go on."""
    commit = world.repository.commit(
        {
            **world.spec("good"),
            **world.spec("greedy", database=f"{world.database}_greedy"),
            **world.repository.module({"a": "create table a();"}),
        }
    )
    text = (world.repository.path / "environments/greedy.yaml").read_text()
    commit = world.repository.commit({"environments/greedy.yaml": text.replace("SHOP_DSN", "PAYROLL_DSN")})
    world.extra["PAYROLL_DSN"] = world.server.text()
    daemon = world.daemon()
    settings = daemon.config.read_text().replace(
        "drift_interval: 2s}", "drift_interval: 2s, allow: {secrets: ['SHOP_*']}}"
    )
    daemon.config.write_text(settings)
    daemon.start()
    daemon.until_applied(commit, "good")
    error = until(lambda: daemon.environment("greedy").get("error"), "the error of 'greedy'")
    assert "may not refer to the secret of deployment 'eu'" in error
    assert world.server.run(f"select 1 from pg_database where datname = '{world.database}_greedy'") == []


def test_own_secrets_of_the_daemon_are_out_of_reach(world: World) -> None:
    """A spec cannot refer to the daemon's own variables."""
    text = world.spec()["environments/production.yaml"].replace("SHOP_DSN", "RECONCILER_CONTROL_DSN")
    world.repository.commit({"environments/production.yaml": text})
    daemon = world.daemon().start()
    error = until(lambda: daemon.environment().get("error"), "the error")
    assert "RECONCILER_" in error
