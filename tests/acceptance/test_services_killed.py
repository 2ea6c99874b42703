"""The daemon is killed while it runs a job and rolls a service: what runs goes on, and is gone on with."""

from reconciler.runtimes.process import ProcessRuntime
from reconciler.runtimes.runtime import ServiceState
from tests.plugins.daemon import World

SPEC = """apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  deployments: [{name: eu, postgres: {dsn: {env: SHOP_DSN}}}]
  components:
    - name: seed
      kind: Job
      runtime: {process: {command: [/bin/sh, -c, 'echo run >> FOLDER/runs; exec sleep 1']}}
    - name: api
      kind: Service
      runtime: {process: {command: [/bin/sh, -c, 'echo start >> FOLDER/starts; exec sleep 1000']}}
      health: {interval: 100ms, steady: 200ms}
"""
POINTS = ("applied seed/run-job", "applied api/roll-service")


async def test_what_runs_outlives_the_daemon(world: World) -> None:
    """Killed in both, one after the other: the job ran once, and the service was started once and is that."""
    spec = SPEC.replace("FOLDER", str(world.folder))
    commit = world.repository.commit({"environments/production.yaml": spec})
    daemon = world.daemon()
    runtime = ProcessRuntime(daemon.folder / "state" / "services")
    try:
        for point in POINTS:
            daemon.start(wait=False, RECONCILER_TEST_KILL_AT=point)
            daemon.wait_killed()
        daemon.start()
        daemon.until_applied(commit)
        (api,) = await runtime.observe("production", "eu")
        assert (api.identity.component, api.state) == ("api", ServiceState.HEALTHY)
        assert (world.folder / "runs").read_text().split() == ["run"]
        assert (world.folder / "starts").read_text().split() == ["start"]
        assert daemon.stop() == 0
        assert await runtime.observe("production", "eu") == (api,)
    finally:
        for each in await runtime.observe("production", "eu"):
            await runtime.remove(each.identity, each.instance)
