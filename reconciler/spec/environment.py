"""The models of an environment spec, strict and frozen; what one value says of another is `check`'s part."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from reconciler.spec import text_rules
from reconciler.spec.text_rules import Broken, Rule
from reconciler.spec.values import SecretReference

API_VERSION = "reconciler/v1"
STAGES_MAX = 100
DEPLOYMENTS_MAX = 5000
"""Of one environment, with those of its list."""
WAVES_MAX = 1000
COMPONENTS_MAX = 1000
LIST_ITEMS_MAX = 200
VARIABLES_MAX = 200

ComponentKind = Literal["Database", "Module"]

DEFAULT_STAGES: tuple[tuple[str, str], ...] = (
    ("servers", "services that databases live on"),
    ("databases", "databases and their extensions"),
    ("migrations", "change modules"),
    ("objects", "SQL objects"),
    ("jobs", "one-off programs"),
    ("services", "long-running programs"),
    ("routes", "ways in from outside"),
)
DEFAULT_STAGE_OF_KIND: Mapping[ComponentKind, str] = {"Database": "databases", "Module": "migrations"}

RESOLVED = {"resolved": True}
"""Validation context: variables are substituted, and the rules hold for every text."""


def broken_rule(broken: Broken) -> PydanticCustomError:
    """Turn a broken rule into the error a validator raises; it carries no input."""
    return PydanticCustomError("broken_rule", "{message}", {"message": broken.message, "hint": broken.hint})


def _follows(rule: Rule, *, template: bool = False) -> AfterValidator:
    """Apply a rule; a template (text with variables) has to follow it once they are substituted."""

    def validate(text: str, info: ValidationInfo) -> str:
        if template and "${" in text and not (info.context or {}).get("resolved"):
            return text
        if (broken := rule(text)) is not None:
            raise broken_rule(broken)
        return text

    return AfterValidator(validate)


@dataclass(frozen=True, slots=True)
class _OrText:
    """In the JSON Schema, a text may stand in the place of a value too."""

    text: str

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Say that either may stand here."""
        return {"anyOf": [{"type": "string", "description": self.text}, handler(schema)]}


def _secret_reference(value: object, info: ValidationInfo) -> SecretReference:
    """Validate by hand: what stands here may be a secret by mistake, and must not reach an error."""
    hint = "write {env: NAME} or {file: PATH}; a secret never stands in a spec"
    if isinstance(value, SecretReference):
        value = _shown_reference(value)
    if not isinstance(value, dict):
        raise broken_rule(Broken("must refer to a secret, not hold it", hint))
    if set(value) not in ({"env"}, {"file"}):
        raise broken_rule(Broken("must have exactly one key, env or file", hint))
    kind, text = next(iter(value.items()))
    if not isinstance(text, str):
        raise broken_rule(Broken(f"{kind} must be a string", hint))
    rule = text_rules.secret_variable if kind == "env" else text_rules.secret_file
    if "${" in text and not (info.context or {}).get("resolved"):
        rule = text_rules.secret_template
    if (broken := rule(text)) is not None:
        raise broken_rule(broken)
    return SecretReference(env=text) if kind == "env" else SecretReference(file=text)


def _shown_reference(value: SecretReference) -> dict[str, str]:
    return {"env": value.env} if value.env is not None else {"file": value.file or ""}


def _reference_schema(key: str, description: str, pattern: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key: {"type": "string", "description": description, "pattern": pattern}},
        "required": [key],
        "additionalProperties": False,
    }


Name = Annotated[
    str, _follows(text_rules.name), Field(json_schema_extra={"pattern": text_rules.NAME_PATTERN})
]
VariableName = Annotated[
    str, _follows(text_rules.variable_name), Field(json_schema_extra={"pattern": text_rules.VARIABLE_PATTERN})
]
ScriptVariableName = Annotated[
    str,
    _follows(text_rules.script_variable_name),
    Field(json_schema_extra={"pattern": text_rules.SCRIPT_VARIABLE_PATTERN}),
]
VariableValue = Annotated[str, _follows(text_rules.short_text, template=True)]
HazardName = Annotated[
    str, _follows(text_rules.hazard), Field(json_schema_extra={"pattern": text_rules.HAZARD_PATTERN})
]
Identifier = Annotated[str, _follows(text_rules.identifier, template=True)]
RoleName = Annotated[str, _follows(text_rules.role, template=True)]
GroupName = Annotated[str, _follows(text_rules.group, template=True)]
DatabaseName = Annotated[str, _follows(text_rules.database, template=True)]
SourcePath = Annotated[
    str, _follows(text_rules.path, template=True), AfterValidator(lambda path: path.removesuffix("/"))
]
SourceGlob = Annotated[
    str, _follows(text_rules.glob, template=True), AfterValidator(lambda glob: glob.removesuffix("/"))
]
SourceGlobs = Annotated[
    tuple[SourceGlob, ...],
    Field(strict=False, min_length=1, max_length=LIST_ITEMS_MAX),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    _OrText("One glob."),
]
Target = Annotated[str, _follows(text_rules.target, template=True)]
ShortText = Annotated[str, _follows(text_rules.short_text, template=True)]
GateSql = Annotated[str, _follows(text_rules.gate_sql, template=True)]
Duration = Annotated[
    str,
    _follows(text_rules.duration),
    Field(json_schema_extra={"pattern": text_rules.DURATION_PATTERN, "examples": ["10m", "1h"]}),
]
Secret = Annotated[
    SecretReference,
    PlainValidator(_secret_reference),
    PlainSerializer(_shown_reference),
    WithJsonSchema(
        {
            "description": "Where the secret stands; never the secret itself.",
            "oneOf": [
                _reference_schema("env", "Environment variable of the daemon.", "^[A-Za-z_$]"),
                _reference_schema("file", "Absolute path of a file on the daemon's machine.", "^[/$]"),
            ],
        }
    ),
]


class SpecModel(BaseModel):
    """What all models of a spec share: unknown keys are errors, and nothing is converted."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True, serialize_by_alias=True
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
    sql: GateSql = Field(
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


class ComponentReference(SpecModel):
    """Another component of the same environment."""

    component: Name = Field(alias="from", description="Name of the component.")


class _Component(SpecModel):
    name: Name = Field(description="Name of the component, unique in the environment.")
    stage: Name | None = Field(
        default=None, description="Stage it runs in; left out: the default stage of its kind."
    )
    after: Annotated[tuple[Name, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), description="Components of the same stage that are done before this one starts."
    )


class RoleSpec(SpecModel):
    """A role of the server that modules expect; it is made where it is missing, and else left as it is."""

    name: RoleName = Field(description="Name of the role on the server.")
    login: bool | None = Field(
        default=None, description="Whether it may connect; left out: a new one may not."
    )
    member_of: Annotated[tuple[GroupName, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), alias="memberOf", description="Roles that a new one is made a member of."
    )
    password: Secret | None = Field(
        default=None, description="Where the password stands that a new one gets; needs `login: true`."
    )
    bypassrls: bool | None = Field(
        default=None, description="Whether row security does not hold for it; needs consent."
    )
    createdb: bool | None = Field(default=None, description="Whether it may make databases; needs consent.")
    createrole: bool | None = Field(default=None, description="Whether it may make roles; needs consent.")
    replication: bool | None = Field(default=None, description="Whether it may replicate; needs consent.")

    @model_validator(mode="after")
    def _password_needs_login(self) -> Self:
        if self.password is not None and not self.login:
            hint = "add login: true, or leave the password out"
            raise broken_rule(Broken("has a password and may not log in", hint))
        return self


Role = Annotated[
    RoleSpec,
    BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value),
    _OrText("Name of a role that can do nothing by itself."),
]


class DatabaseSpec(_Component):
    """A database on the server of each deployment, with its extensions and the roles its modules expect."""

    kind: Literal["Database"] = Field(description="Kind of the component.")
    database: DatabaseName = Field(description="Name of the database on the server.")
    extensions: Annotated[tuple[Identifier, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), description="Extensions that are made in it."
    )
    roles: Annotated[tuple[Role, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), description="Roles that its modules expect on the server, made before any of them runs."
    )


DivergencePolicy = Literal["fail", "warn", "allow"]


class DivergenceSpec(SpecModel):
    """What is done about a module whose deployed history differs from its plan file, by sort of difference.

    fail: nothing of the module is deployed until it is settled; warn: it is told, and the rest goes on;
    allow: the rest goes on, and it counts as no divergence.
    """

    edited: DivergencePolicy = Field(
        default="warn", description="The script of a deployed change has another meaning now."
    )
    missing: DivergencePolicy = Field(
        default="fail", description="A deployed change is not in the plan file any more."
    )
    inserted: DivergencePolicy = Field(
        default="fail",
        description="A change that is not deployed stands before deployed ones; it is deployed late, or not.",
    )
    reordered: DivergencePolicy = Field(
        default="fail", description="Deployed changes stand in another order in the plan file."
    )
    renamed: DivergencePolicy = Field(
        default="warn",
        description="A deployed change has another name in the plan file; its record takes the new name.",
    )


class ModuleSpec(_Component):
    """A change module that is deployed to a database in the order of its plan file, or several by globs."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["path"]}, {"required": ["modules"]}]}
    )

    kind: Literal["Module"] = Field(description="Kind of the component.")
    database: ComponentReference = Field(description="The Database component it is deployed to.")
    path: SourcePath | None = Field(
        default=None, description="Folder of the module, relative to the root of the source."
    )
    modules: SourceGlobs | None = Field(
        default=None,
        description="In place of `path`: globs for folders with plan files, each of which becomes a module "
        "of its own that has the name of its project.",
    )
    to: Target | None = Field(
        default=None, description="Change or tag it is deployed to; left out: the end of the plan."
    )
    transaction: Literal["change", "module"] = Field(
        default="change", description="How much commits at once: each change, or the whole module."
    )
    variables: Annotated[Mapping[ScriptVariableName, VariableValue], Field(max_length=VARIABLES_MAX)] = Field(
        default_factory=dict,
        description="Variables of its scripts; nearer than the environment's, further than a deployment's.",
    )
    divergence: DivergenceSpec = Field(
        default_factory=DivergenceSpec,
        description="What is done where deployed changes and plan file disagree.",
    )


ComponentSpec = Annotated[DatabaseSpec | ModuleSpec, Field(discriminator="kind")]


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
    def components(self) -> tuple[DatabaseSpec | ModuleSpec, ...]:
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
    def waves(self) -> Mapping[str, int]:
        """The wave of each deployment: the one it names, else one after all that are named."""
        named = [place.wave for place in self.spec.deployments if place.wave is not None]
        last = max(named) + 1 if named else 0
        return {place.name: place.wave if place.wave is not None else last for place in self.spec.deployments}

    def stage_of(self, component: DatabaseSpec | ModuleSpec) -> str:
        """Return the stage a component runs in: the named one, else the default of its kind."""
        return component.stage if component.stage is not None else DEFAULT_STAGE_OF_KIND[component.kind]

    def deployment(self, name: str) -> DeploymentSpec | None:
        """Return the deployment of a name."""
        return next((place for place in self.spec.deployments if place.name == name), None)
