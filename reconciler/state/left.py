"""The desired state of a deployment that left the spec: its databases, and nothing deployed in them."""

from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.variables import for_deployment
from reconciler.state.desired import DesiredDatabase, DesiredState
from reconciler.state.services import desired_servers


def left_state(spec: EnvironmentSpec, deployment: str, *, commit: str, declared_at: str) -> DesiredState:
    """What is to be of a deployment at a commit without it; `spec` is that of the last commit with it.

    Raises NotFound where that has no such deployment either.
    """
    own = for_deployment(spec, deployment)
    servers = desired_servers(own)
    return DesiredState(
        environment=own.name,
        deployment=deployment,
        commit=commit,
        postgres=own.deployments[0].postgres.dsn,
        stages=tuple(stage.name for stage in own.stages),
        databases=tuple(
            DesiredDatabase(
                component=part.name,
                stage=own.stage_of(part),
                database=part.database,
                on=servers.get(part.name),
            )
            for part in own.databases
        ),
        modules=(),
        prune_from=declared_at,
    )
