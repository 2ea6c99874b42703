"""What services and jobs are made of in a spec: what runs them, their ports, variables and limits."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
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
from pydantic_core import CoreSchema

from reconciler.spec import text_rules
from reconciler.spec.fields import (
    LIST_ITEMS_MAX,
    VARIABLES_MAX,
    Name,
    SpecModel,
    broken_rule,
    follows,
    reference_schemas,
    secret_reference,
    shown_reference,
)
from reconciler.spec.text_rules import Broken
from reconciler.spec.values import OutputReference, SecretReference

PORTS_MAX = 50
PORT_MAX = 65_535
SIZE_BYTES_MAX = 2**50
BUILT_DOCKERFILE = "Dockerfile"

_OUTPUT_HINT = "write it as in {from: shop-db, output: url}"


def _span(minimum_s: float, maximum: str, example: str) -> Any:
    """A duration that may be short, as seconds."""
    maximum_s = text_rules.span_seconds(maximum) or 0.0

    def rule(text: str) -> Broken | None:
        found = text_rules.span_seconds(text)
        if found is not None and minimum_s <= found <= maximum_s:
            return None
        least = f"{minimum_s:g}s"
        return Broken(f"is not a duration from {least} to {maximum}", f"write it as in {example}")

    return follows(rule)


def _span_schema(example: str) -> Any:
    return Field(json_schema_extra={"pattern": text_rules.SPAN_PATTERN, "examples": [example]})


Pause = Annotated[str, _span(0, "1h", "500ms, 5s or 1m"), _span_schema("5s")]
"""From nothing to an hour."""
Interval = Annotated[str, _span(0.1, "1h", "500ms, 1s or 1m"), _span_schema("1s")]
Deadline = Annotated[str, _span(1, "1d", "60s or 10m"), _span_schema("60s")]
"""Of what must end some time."""


def _size(value: object) -> int:
    found = value if isinstance(value, int) and not isinstance(value, bool) else None
    if isinstance(value, str):
        found = text_rules.size_bytes(value)
    if found is None or not 1 <= found <= SIZE_BYTES_MAX:
        raise broken_rule(Broken("is not a size", "write it as in 512Mi or 1Gi, or as a number of bytes"))
    return found


Size = Annotated[
    int,
    PlainValidator(_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": text_rules.SIZE_PATTERN, "examples": ["512Mi"]},
                {"type": "integer", "minimum": 1},
            ]
        }
    ),
]


def _port_number(value: object, info: ValidationInfo) -> int | str:
    """A number, also as a text: variables make one."""
    if isinstance(value, str) and "${" in value and not (info.context or {}).get("resolved"):
        return value
    if isinstance(value, str) and re.fullmatch("[0-9]{1,5}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= PORT_MAX:
        raise broken_rule(Broken(f"must be the number of a port, 1 to {PORT_MAX}"))
    return value


PortNumber = Annotated[
    int | str,
    PlainValidator(_port_number),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": PORT_MAX},
                {"type": "string", "pattern": r"^([0-9]{1,5}|.*\$\{.*)$"},
            ]
        }
    ),
]


def _port_name(value: object) -> object:
    """A port that has a number and no name is called by it."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_PORT_NAME_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "pattern": text_rules.NAME_PATTERN},
            {"type": "integer", "minimum": 1, "maximum": PORT_MAX},
        ]
    }
)
PortName = Annotated[str, follows(text_rules.name), BeforeValidator(_port_name), _PORT_NAME_SCHEMA]


class PortSpec(SpecModel):
    """A port that a program listens on."""

    name: Name = Field(description="Name of the port; the program is told its number as `PORT_<NAME>`.")
    port: PortNumber | None = Field(
        default=None,
        description="Its number, in a container that inside of it; left out: the runtime chooses one.",
    )


def _port(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"name": str(value), "port": value}
    if not isinstance(value, dict | PortSpec):
        raise broken_rule(Broken("must be a number or a mapping", "write it as in 8080 or {name: http}"))
    return value


_PORT_SCHEMA = {"type": "integer", "minimum": 1, "maximum": PORT_MAX, "description": "Its number, and name."}


@dataclass(frozen=True, slots=True)
class _OrNumber:
    """In the JSON Schema, a number may stand in the place of a value too."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [_PORT_SCHEMA, handler(schema)]}


Ports = Annotated[
    tuple[Annotated[PortSpec, BeforeValidator(_port), _OrNumber()], ...],
    Field(strict=False, max_length=PORTS_MAX),
]


def variable_of(prefix: str, name: str) -> str:
    """The variable that tells a program of a port or a folder: `PORT_HTTP`, `DATA_MAIN`."""
    return f"{prefix}_{re.sub('[^A-Za-z0-9]', '_', name).upper()}"


class DataSpec(SpecModel):
    """A folder that outlives the instances of a program."""

    name: Name = Field(description="Name of the folder; the program is told where it is as `DATA_<NAME>`.")
    path: Annotated[str, follows(text_rules.machine_path, template=True)] | None = Field(
        default=None, description="Where it stands inside of the container; with `container` only."
    )


Argv = Annotated[
    tuple[Annotated[str, follows(text_rules.long_text, template=True)], ...],
    Field(strict=False, min_length=1, max_length=LIST_ITEMS_MAX),
]
Folder = Annotated[str, follows(text_rules.machine_path, template=True)]
UserName = Annotated[str, follows(text_rules.user, template=True)]
DataFolders = Annotated[tuple[DataSpec, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)]
NetworkNames = Annotated[
    tuple[Annotated[str, follows(text_rules.network, template=True)], ...],
    Field(strict=False, max_length=LIST_ITEMS_MAX),
]


class ProcessSpec(SpecModel):
    """A program of the machine that the daemon is on."""

    command: Argv = Field(description="The program, and its arguments one by one; no shell is in between.")
    cwd: Folder | None = Field(
        default=None, description="Folder it is started in; left out: one of the runtime's own."
    )
    user: UserName | None = Field(default=None, description="User it runs as; left out: the runtime's own.")
    data: DataFolders = Field(default=(), description="Folders of its own that are kept.")


class ServedProcessSpec(ProcessSpec):
    """A program of the machine that listens on ports."""

    ports: Ports = Field(default=(), description="Ports it listens on.")


class BuildSpec(SpecModel):
    """An image that is built from files of the source."""

    context: Annotated[
        str,
        follows(text_rules.context, template=True),
        AfterValidator(lambda path: path.removesuffix("/")),
    ] = Field(description="Folder of the source that is sent to the engine; `.` is all of it.")
    dockerfile: Annotated[str, follows(text_rules.path, template=True)] = Field(
        default=BUILT_DOCKERFILE, description="The file that says how, relative to the context."
    )


class ContainerSpec(SpecModel):
    """A container of an image."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["image"]}, {"required": ["build"]}]})

    image: Annotated[str, follows(text_rules.image, template=True)] | None = Field(
        default=None, description="The image, best by its digest."
    )
    build: BuildSpec | None = Field(default=None, description="In place of `image`: what it is built from.")
    command: Argv | None = Field(
        default=None, description="What runs in it, argument by argument; left out: as the image says."
    )
    user: UserName | None = Field(default=None, description="User in it; left out: as the image says.")
    networks: NetworkNames = Field(default=(), description="Networks of the engine that it joins.")
    data: DataFolders = Field(default=(), description="Folders that are kept, with their paths in it.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.image is None) == (self.build is None):
            what = "needs `image` or `build`" if self.image is None else "has `image` or `build`, not both"
            raise broken_rule(Broken(f"a container {what}"))
        return self


class ServedContainerSpec(ContainerSpec):
    """A container that listens on ports."""

    ports: Ports = Field(
        default=(), description="Ports it listens on; the engine publishes each on one of its choice."
    )


_RUNTIMES = ("process", "systemd", "container")
_ONE_RUNTIME = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in _RUNTIMES]})


def _one_runtime(named: list[str]) -> None:
    if len(named) != 1:
        what = "names no runtime" if not named else f"names {len(named)} runtimes: {', '.join(named)}"
        raise broken_rule(Broken(what, f"write one of {', '.join(_RUNTIMES)}"))


class JobRuntimeSpec(SpecModel):
    """What runs a job; one of them."""

    model_config = _ONE_RUNTIME

    process: ProcessSpec | None = Field(default=None, description="A process of the daemon's machine.")
    systemd: ProcessSpec | None = Field(default=None, description="A unit of systemd.")
    container: ContainerSpec | None = Field(default=None, description="A container.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        _one_runtime([name for name in _RUNTIMES if getattr(self, name) is not None])
        return self

    @property
    def name(self) -> str:
        """Which of them it is."""
        return next(name for name in _RUNTIMES if getattr(self, name) is not None)


class ServiceRuntimeSpec(SpecModel):
    """What runs a service; one of them."""

    model_config = _ONE_RUNTIME

    process: ServedProcessSpec | None = Field(
        default=None, description="A process of the daemon's machine, which outlives the daemon."
    )
    systemd: ServedProcessSpec | None = Field(default=None, description="A unit of systemd.")
    container: ServedContainerSpec | None = Field(default=None, description="A container.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        _one_runtime([name for name in _RUNTIMES if getattr(self, name) is not None])
        return self

    @property
    def name(self) -> str:
        """Which of them it is."""
        return next(name for name in _RUNTIMES if getattr(self, name) is not None)


def _output_reference(value: Mapping[Any, Any]) -> OutputReference:
    if set(value) != {"from", "output"}:
        raise broken_rule(Broken("must have exactly the keys from and output", _OUTPUT_HINT))
    component, output = value["from"], value["output"]
    if not isinstance(component, str) or text_rules.name(component) is not None:
        raise broken_rule(Broken("from must be the name of a component", _OUTPUT_HINT))
    if not isinstance(output, str) or text_rules.output(output) is not None:
        raise broken_rule(Broken("output must be the name of an output", _OUTPUT_HINT))
    return OutputReference(component=component, output=output)


def _given(value: object, info: ValidationInfo) -> SecretReference | OutputReference:
    """A secret by its reference, or an output; never a text, which may be a secret in the clear."""
    if isinstance(value, OutputReference):
        return value
    if isinstance(value, dict) and ("from" in value or "output" in value):
        return _output_reference(value)
    return secret_reference(value, info)


def _value(value: object, info: ValidationInfo) -> str | SecretReference | OutputReference:
    """Validate by hand: what stands here may be a secret by mistake, and must not reach an error."""
    if isinstance(value, str):
        if (broken := text_rules.long_text(value)) is not None:
            raise broken_rule(broken)
        return value
    if not isinstance(value, dict | SecretReference | OutputReference):
        hint = "put it in quotes" if isinstance(value, bool | int | float) else None
        raise broken_rule(Broken("must be a text, or refer to a secret or an output", hint))
    return _given(value, info)


def _shown_value(value: object) -> object:
    if isinstance(value, OutputReference):
        return {"from": value.component, "output": value.output}
    return shown_reference(value) if isinstance(value, SecretReference) else value


_OUTPUT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "from": {"type": "string", "description": "Component.", "pattern": text_rules.NAME_PATTERN},
        "output": {"type": "string", "description": "One of its outputs."},
    },
    "required": ["from", "output"],
    "additionalProperties": False,
}
_TEXT_SCHEMA: dict[str, Any] = {"type": "string"}

Value = Annotated[
    str | SecretReference | OutputReference,
    PlainValidator(_value),
    PlainSerializer(_shown_value),
    WithJsonSchema(
        {
            "description": "A text, where a secret stands, or an output of another component.",
            "oneOf": [_TEXT_SCHEMA, *reference_schemas(), _OUTPUT_SCHEMA],
        }
    ),
]
ServerUser = Value
ServerPassword = Annotated[
    SecretReference | OutputReference,
    PlainValidator(_given),
    PlainSerializer(_shown_value),
    WithJsonSchema(
        {
            "description": "Where a secret stands, or an output of another component.",
            "oneOf": [*reference_schemas(), _OUTPUT_SCHEMA],
        }
    ),
]
ProgramVariable = Annotated[str, follows(text_rules.program_variable)]
Variables = Annotated[Mapping[ProgramVariable, Value], Field(max_length=VARIABLES_MAX)]


class LimitsSpec(SpecModel):
    """What a program may take at most; left out: what its runtime gives."""

    memory: Size | None = Field(default=None, description="Memory, in bytes or as in 512Mi.")
    cpus: float | None = Field(default=None, gt=0, le=1024, description="Processors, also parts of one.")
    processes: int | None = Field(default=None, ge=1, le=1_000_000, description="Processes and threads.")
    open_files: int | None = Field(
        default=None, ge=3, le=100_000_000, alias="openFiles", description="Open files of each process."
    )


class LogsSpec(SpecModel):
    """How much of what a program says is kept, for each of its two streams."""

    size: Size = Field(default=10 * 1024 * 1024, description="Size of one file, in bytes or as in 10Mi.")
    files: int = Field(default=5, ge=1, le=100, description="Files that are kept.")


RestartWhen = Literal["always", "on-failure", "never"]
