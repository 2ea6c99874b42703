"""The components of a spec, strict: databases, change modules, SQL objects; and the union of all."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from reconciler.spec import text_rules
from reconciler.spec.fields import (
    LIST_ITEMS_MAX,
    VARIABLES_MAX,
    ComponentModel,
    DatabaseName,
    Duration,
    GroupName,
    Identifier,
    Name,
    OrText,
    RelationName,
    Retention,
    RoleName,
    Schedule,
    ScriptVariableName,
    Secret,
    SourceGlobs,
    SourcePath,
    SpecModel,
    SqlText,
    Target,
    VariableValue,
    WebAddress,
    broken_rule,
)
from reconciler.spec.programs import PortName, ServerPassword, ServerUser
from reconciler.spec.services import JobSpec, RouteSpec, ServiceSpec
from reconciler.spec.text_rules import Broken
from reconciler.spec.values import OutputReference

EXTERNALS_MAX = 2000
"""Relations that one component names."""

ComponentKind = Literal["Database", "Module", "Objects", "Service", "Job", "Route"]

DEFAULT_STAGE_OF_KIND: Mapping[ComponentKind, str] = {
    "Database": "databases",
    "Module": "migrations",
    "Objects": "objects",
    "Service": "services",
    "Job": "jobs",
    "Route": "routes",
}
SERVERS_STAGE = "servers"
"""The default stage of a Service that a Database lives on."""

Named = TypeVar("Named", "AssertionSpec", "RefreshSpec", "DeferredSpec")


class ComponentReference(SpecModel):
    """Another component of the same environment."""

    component: Name = Field(alias="from", description="Name of the component.")


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
    OrText("Name of a role that can do nothing by itself."),
]


class ServerSpec(SpecModel):
    """A Service of the same environment that a database lives on, and how the daemon signs in there."""

    service: Name = Field(alias="from", description="The Service component that is the PostgreSQL server.")
    port: PortName | None = Field(
        default=None, description="Its port that PostgreSQL listens on; left out: the only one it has."
    )
    user: ServerUser = Field(default="postgres", description="Role the daemon signs in as.")
    password: ServerPassword | None = Field(
        default=None, description="Where the password of that role stands; left out: it needs none."
    )
    database: DatabaseName = Field(
        default="postgres", description="Database of the server that is there from the beginning."
    )


class DatabaseSpec(ComponentModel):
    """A database on a server, with its extensions and the roles its modules expect."""

    kind: Literal["Database"] = Field(description="Kind of the component.")
    on: ServerSpec | None = Field(
        default=None,
        description="The Service component that it lives on; left out: the server of the deployment.",
    )
    database: DatabaseName = Field(description="Name of the database on the server.")
    extensions: Annotated[tuple[Identifier, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), description="Extensions that are made in it."
    )
    roles: Annotated[tuple[Role, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), description="Roles that its modules expect on the server, made before any of them runs."
    )
    owner: RoleName | None = Field(
        default=None,
        description="Role with a generated password that may do all in it; made where it is named or an "
        "output of it is asked for. Left out: the name of the database with `_owner`.",
    )
    reader: RoleName | None = Field(
        default=None,
        description="Role with a generated password that may read all of it; made where it is named or an "
        "output of it is asked for. Left out: the name of the database with `_reader`.",
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


class ModuleSpec(ComponentModel):
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


class AssertionSpec(SpecModel):
    """A question that has to give no row before what is staged goes live."""

    name: Name = Field(description="Name of the assertion, unique in the component.")
    sql: SqlText = Field(
        description="One SELECT over what is staged, by its live names; each row it gives is told."
    )


class RefreshSpec(SpecModel):
    """Materialized views that are refreshed together, again and again."""

    name: Name = Field(description="Name of the group, unique in the component.")
    schedule: Schedule = Field(
        description="When it is due: the five fields of cron (minute, hour, day, month, weekday), in UTC."
    )
    views: Annotated[
        tuple[RelationName, ...], Field(strict=False, min_length=1, max_length=EXTERNALS_MAX)
    ] = Field(description="Materialized views of the component, as SQL names them in full.")


class DeferredSpec(SpecModel):
    """What is done once, after what is staged went live: SQL inside of the database, or a call outside."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["sql"]}, {"required": ["url"]}]})

    name: Name = Field(description="Name of the action, unique in the component.")
    sql: SqlText | None = Field(
        default=None, description="Statements that run in one transaction with the record that they ran."
    )
    url: WebAddress | None = Field(
        default=None, description="In place of `sql`: an address that is sent a POST until it answers."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.sql is None) == (self.url is None):
            what = "needs `sql` or `url`" if self.sql is None else "has `sql` or `url`, not both"
            raise broken_rule(Broken(f"a deferred action {what}", "write one action for each thing to do"))
        return self


def _named_once(items: tuple[Named, ...]) -> tuple[Named, ...]:
    seen: set[str] = set()
    for item in items:
        if item.name in seen:
            raise broken_rule(Broken(f"'{item.name}' is the name of two of them", "give each its own name"))
        seen.add(item.name)
    return items


class ObjectsSpec(ComponentModel):
    """A folder of SQL objects, which are built beside what is live and take its place in one transaction."""

    kind: Literal["Objects"] = Field(description="Kind of the component.")
    database: ComponentReference = Field(description="The Database component that they are made in.")
    path: SourcePath = Field(description="Folder of the objects, relative to the root of the source.")
    externals: Annotated[tuple[RelationName, ...], Field(strict=False, max_length=EXTERNALS_MAX)] = Field(
        default=(), description="Relations outside of the folder that they read, named in full."
    )
    variables: Annotated[Mapping[ScriptVariableName, VariableValue], Field(max_length=VARIABLES_MAX)] = Field(
        default_factory=dict,
        description="Variables of the files; nearer than the environment's, further than a deployment's.",
    )
    retain: Retention = Field(
        default="1h", description="How long what is displaced is kept to be reverted to; `0s`: not at all."
    )
    ready_within: Duration = Field(
        default="30m", alias="readyWithin", description="How long filling and checking may take."
    )
    data_age: Duration | None = Field(
        default=None,
        alias="dataAge",
        description="How old what its materialized views hold may be when it goes live; left out: any age.",
    )
    dependents: Literal["refuse", "adopt"] = Field(
        default="refuse",
        description="What is done about views and functions of others that depend on what is displaced.",
    )
    hand_made_grants: Literal["refuse", "carry", "leave"] = Field(
        default="refuse",
        alias="handMadeGrants",
        description="What is done about grants on live objects that are in no file.",
    )
    altered: Literal["refuse", "replace"] = Field(
        default="refuse", description="What is done about live objects that somebody altered by hand."
    )
    assertions: Annotated[
        tuple[AssertionSpec, ...],
        Field(strict=False, max_length=LIST_ITEMS_MAX),
        AfterValidator(_named_once),
    ] = Field(default=(), description="Questions that have to give no row before it goes live.")
    refresh: Annotated[
        tuple[RefreshSpec, ...], Field(strict=False, max_length=LIST_ITEMS_MAX), AfterValidator(_named_once)
    ] = Field(default=(), description="Groups of materialized views with the times they are refreshed at.")
    deferred: Annotated[
        tuple[DeferredSpec, ...], Field(strict=False, max_length=LIST_ITEMS_MAX), AfterValidator(_named_once)
    ] = Field(default=(), description="What is done once, after it went live.")

    @property
    def retain_s(self) -> float:
        """How long what is displaced is kept, in seconds."""
        return text_rules.seconds(self.retain)

    @property
    def ready_within_s(self) -> float:
        """How long filling and checking may take, in seconds."""
        return text_rules.seconds(self.ready_within)

    @property
    def data_age_s(self) -> float | None:
        """How old data may be, in seconds; None: any age."""
        return text_rules.seconds(self.data_age) if self.data_age is not None else None


AnyComponent = DatabaseSpec | ModuleSpec | ObjectsSpec | ServiceSpec | JobSpec | RouteSpec
ComponentSpec = Annotated[AnyComponent, Field(discriminator="kind")]


def consumed(part: AnyComponent) -> Iterator[OutputReference]:
    """The outputs that a component takes."""
    values: Iterable[object] = ()
    if isinstance(part, ServiceSpec | JobSpec):
        values = part.env.values()
    elif isinstance(part, DatabaseSpec) and part.on is not None:
        values = (part.on.user, part.on.password)
    return (value for value in values if isinstance(value, OutputReference))


def needed(part: AnyComponent) -> Iterator[str]:
    """The components that have to be there for another one, beside those it names under `after`."""
    yield from (reference.component for reference in consumed(part))
    match part:
        case DatabaseSpec(on=ServerSpec() as server):
            yield server.service
        case ModuleSpec() | ObjectsSpec():
            yield part.database.component
        case RouteSpec():
            yield part.to.service
        case _:
            return
