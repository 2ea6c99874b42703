"""The models of an environment spec, strict and frozen; what one value says of another is `check`'s part."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from reconciler.spec import text_rules
from reconciler.spec.components import (
    DEFAULT_STAGE_OF_KIND,
    SERVERS_STAGE,
    AnyComponent,
    ComponentSpec,
    DatabaseSpec,
    ModuleSpec,
    ObjectsSpec,
)
from reconciler.spec.fields import (
    LIST_ITEMS_MAX,
    VARIABLES_MAX,
    Duration,
    HazardName,
    Name,
    Secret,
    ShortText,
    SourcePath,
    SpecModel,
    SqlText,
    VariableName,
    VariableValue,
)
from reconciler.spec.services import JobSpec, RouteSpec, ServiceSpec

API_VERSION = "reconciler/v1"
STAGES_MAX = 100
DEPLOYMENTS_MAX = 5000
"""Of one environment, with those of its list."""
WAVES_MAX = 1000
COMPONENTS_MAX = 5000

DEFAULT_STAGES: tuple[tuple[str, str], ...] = (
    ("servers", "services that databases live on"),
    ("databases", "databases and their extensions"),
    ("migrations", "change modules"),
    ("objects", "SQL objects"),
    ("jobs", "one-off programs"),
    ("services", "long-running programs"),
    ("routes", "ways in from outside"),
)


class StageSpec(SpecModel):
    """An ordered phase of an environment."""

    name: Name = Field(description="Name of the stage, unique in the environment.")
    description: ShortText | None = Field(default=None, description="What the stage is for, for people.")


class PostgresSpec(SpecModel):
    """The PostgreSQL server of a deployment."""

    dsn: Secret = Field(
        description="Where the connection string to the server's maintenance database stands."
    )
    provision_dsn: Secret | None = Field(
        default=None,
        alias="provisionDsn",
        description="Where another one stands, of a role that may do less, for plans that only provision.",
    )


Wave = Annotated[int, Field(ge=0, le=WAVES_MAX)]


class DeploymentSpec(SpecModel):
    """One named place an environment lives in."""

    name: Name = Field(description="Name of the deployment, unique in the environment.")
    postgres: PostgresSpec = Field(description="The PostgreSQL server of the deployment.")
    variables: Annotated[Mapping[VariableName, VariableValue], Field(max_length=VARIABLES_MAX)] = Field(
        default_factory=dict,
        description="Variables of this deployment; nearer than those of the environment.",
    )
    wave: Wave | None = Field(
        default=None,
        description="Wave of a rollout it belongs to, the lowest first; where others name one and it does "
        "not, it comes after all of them.",
    )


class DeploymentsFromSpec(SpecModel):
    """A list of deployments in a file of its own, and what they have in common."""

    file: SourcePath = Field(
        description="CSV or YAML file of names and variables, relative to the root of the source."
    )
    postgres: PostgresSpec = Field(
        description="The PostgreSQL server of each; variables make the difference."
    )
    variables: Annotated[Mapping[VariableName, VariableValue], Field(max_length=VARIABLES_MAX)] = Field(
        default_factory=dict, description="Variables of each; those of the list are nearer."
    )
    wave: Wave | None = Field(default=None, description="Wave of those for which the list names none.")


class GateSpec(SpecModel):
    """A question that each deployment of a wave has to answer before the next wave may start."""

    database: Name = Field(description="Database component that is asked.")
    sql: SqlText = Field(
        description="One SELECT whose one row is to have true in its first column; it may write nothing."
    )
    timeout: Duration = Field(default="30s", description="How long the answer may take.")

    @property
    def timeout_s(self) -> float:
        """The timeout in seconds."""
        return text_rules.seconds(self.timeout)


class WavesSpec(SpecModel):
    """What lies between one wave of a rollout and the next."""

    pause: Duration | None = Field(
        default=None, description="How long after the end of a wave the next one may start."
    )
    gate: GateSpec | None = Field(
        default=None, description="What each deployment of a wave is asked before the next wave may start."
    )

    @property
    def pause_s(self) -> float:
        """The pause in seconds."""
        return text_rules.seconds(self.pause) if self.pause is not None else 0.0


class RolloutSpec(SpecModel):
    """How a commit goes over the deployments."""

    order: Literal["rolling", "barrier", "parallel"] = Field(
        default="rolling",
        description="rolling: one by one; barrier: none promotes before all can; parallel: all at once.",
    )
    promotion: Literal["auto", "manual"] = Field(
        default="auto", description="Whether what is staged goes live by itself or waits for an operator."
    )
    on_failure: Literal["halt", "continue", "pause"] = Field(
        default="halt",
        alias="onFailure",
        description="What a failed deployment does to those that did not start yet.",
    )
    max_parallel: int = Field(
        default=1,
        ge=1,
        le=100,
        alias="maxParallel",
        description="Deployments at work at the same time, at most.",
    )
    waves: WavesSpec = Field(
        default_factory=WavesSpec, description="What lies between one wave of deployments and the next."
    )


class VerifySpec(SpecModel):
    """How often what is deployed is verified."""

    interval: Duration = Field(description="How long after one run of the verify scripts the next is due.")

    @property
    def interval_s(self) -> float:
        """The interval in seconds."""
        return text_rules.seconds(self.interval)


class PolicySpec(SpecModel):
    """What may happen by itself, and what needs a person."""

    mode: Literal["auto", "approve", "observe"] = Field(
        default="auto",
        description="auto: roll out; approve: a person agrees to each plan; observe: never roll out.",
    )
    scope: Literal["full", "provision-only"] = Field(
        default="full", description="How much of the environment is planned."
    )
    drift: Literal["ignore", "warn", "heal"] = Field(
        default="warn", description="What is done about live objects that differ from what was applied."
    )
    prune: bool = Field(
        default=False, description="Whether what is tracked and no longer declared is removed."
    )
    verify: VerifySpec | None = Field(
        default=None,
        description="Run the verify scripts of deployed changes again and again, to see drift; else never.",
    )
    allow_hazards: Annotated[tuple[HazardName, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), alias="allowHazards", description="Codes of hazards that need no further consent."
    )
    require_reason: bool = Field(
        default=False,
        alias="requireReason",
        description="Whether nobody may ask for a rollout without saying why.",
    )


class MetadataSpec(SpecModel):
    """What names an environment."""

    name: Name = Field(description="Name of the environment, unique over all sources of a daemon.")


class EnvironmentBody(SpecModel):
    """What an environment declares."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["deployments"]}, {"required": ["deploymentsFrom"]}]}
    )

    stages: (
        Annotated[tuple[StageSpec, ...], Field(strict=False, min_length=1, max_length=STAGES_MAX)] | None
    ) = Field(default=None, description="Stages in run order; left out: the default stages.")
    deployments: Annotated[
        tuple[DeploymentSpec, ...], Field(strict=False, min_length=1, max_length=DEPLOYMENTS_MAX)
    ] = Field(default=(), description="Deployments in rollout order.")
    deployments_from: DeploymentsFromSpec | None = Field(
        default=None,
        alias="deploymentsFrom",
        description="More deployments, from a list in a file; they come after those that stand here.",
    )
    rollout: RolloutSpec = Field(
        default_factory=RolloutSpec, description="How a commit goes over the deployments."
    )
    policy: PolicySpec = Field(
        default_factory=PolicySpec, description="What may happen by itself, and what needs a person."
    )
    variables: Annotated[Mapping[VariableName, VariableValue], Field(max_length=VARIABLES_MAX)] = Field(
        default_factory=dict, description="Variables for ${name} in the strings of this environment."
    )
    components: Annotated[tuple[ComponentSpec, ...], Field(strict=False, max_length=COMPONENTS_MAX)] = Field(
        description="What the environment is made of."
    )


class EnvironmentSpec(SpecModel):
    """One environment: one YAML document."""

    api_version: Literal["reconciler/v1"] = Field(alias="apiVersion", description="Version of the language.")
    kind: Literal["Environment"] = Field(description="Kind of the document.")
    metadata: MetadataSpec = Field(description="What names the environment.")
    spec: EnvironmentBody = Field(description="What the environment declares.")

    @property
    def name(self) -> str:
        """Name of the environment."""
        return self.metadata.name

    @property
    def stages(self) -> tuple[StageSpec, ...]:
        """Stages in run order, the default ones where none are named."""
        if self.spec.stages is not None:
            return self.spec.stages
        return tuple(StageSpec(name=name, description=description) for name, description in DEFAULT_STAGES)

    @property
    def deployments(self) -> tuple[DeploymentSpec, ...]:
        """Deployments in rollout order."""
        return self.spec.deployments

    @property
    def rollout(self) -> RolloutSpec:
        """How a commit goes over the deployments."""
        return self.spec.rollout

    @property
    def policy(self) -> PolicySpec:
        """What may happen by itself, and what needs a person."""
        return self.spec.policy

    @property
    def variables(self) -> Mapping[str, str]:
        """Variables of the environment."""
        return self.spec.variables

    @property
    def components(self) -> tuple[AnyComponent, ...]:
        """All components, as written."""
        return self.spec.components

    @property
    def databases(self) -> tuple[DatabaseSpec, ...]:
        """The Database components, as written."""
        return tuple(part for part in self.spec.components if isinstance(part, DatabaseSpec))

    @property
    def modules(self) -> tuple[ModuleSpec, ...]:
        """The Module components, as written."""
        return tuple(part for part in self.spec.components if isinstance(part, ModuleSpec))

    @property
    def objects(self) -> tuple[ObjectsSpec, ...]:
        """The Objects components, as written."""
        return tuple(part for part in self.spec.components if isinstance(part, ObjectsSpec))

    @property
    def services(self) -> tuple[ServiceSpec, ...]:
        """The Service components, as written."""
        return tuple(part for part in self.spec.components if isinstance(part, ServiceSpec))

    @property
    def jobs(self) -> tuple[JobSpec, ...]:
        """The Job components, as written."""
        return tuple(part for part in self.spec.components if isinstance(part, JobSpec))

    @property
    def routes(self) -> tuple[RouteSpec, ...]:
        """The Route components, as written."""
        return tuple(part for part in self.spec.components if isinstance(part, RouteSpec))

    @property
    def servers(self) -> frozenset[str]:
        """The components that databases live on."""
        return frozenset(part.on.service for part in self.databases if part.on is not None)

    @property
    def waves(self) -> Mapping[str, int]:
        """The wave of each deployment: the one it names, else one after all that are named."""
        named = [place.wave for place in self.spec.deployments if place.wave is not None]
        last = max(named) + 1 if named else 0
        return {place.name: place.wave if place.wave is not None else last for place in self.spec.deployments}

    def stage_of(self, component: AnyComponent) -> str:
        """Return the stage a component runs in: the named one, else the default of its kind."""
        if component.stage is None and isinstance(component, ServiceSpec) and component.name in self.servers:
            return SERVERS_STAGE
        return component.stage if component.stage is not None else DEFAULT_STAGE_OF_KIND[component.kind]

    def stages_of(self) -> dict[str, str]:
        """The stages that all components run in, by name."""
        found = {part.name: part.stage or DEFAULT_STAGE_OF_KIND[part.kind] for part in self.components}
        servers = self.servers
        return found | {
            part.name: SERVERS_STAGE for part in self.services if part.stage is None and part.name in servers
        }

    def deployment(self, name: str) -> DeploymentSpec | None:
        """Return the deployment of a name."""
        return next((place for place in self.spec.deployments if place.name == name), None)
