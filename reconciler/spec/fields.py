"""What the models of a spec are made of: their base, and sorts of text with their rules."""

from dataclasses import dataclass
from typing import Annotated, Any

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
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from reconciler import age_text
from reconciler.spec import cron, text_rules
from reconciler.spec.text_rules import Broken, Rule
from reconciler.spec.values import SecretReference

LIST_ITEMS_MAX = 200
VARIABLES_MAX = 200

RESOLVED = {"resolved": True}
"""Validation context: variables are substituted, and the rules hold for every text."""


def broken_rule(broken: Broken) -> PydanticCustomError:
    """Turn a broken rule into the error a validator raises; it carries no input."""
    return PydanticCustomError("broken_rule", "{message}", {"message": broken.message, "hint": broken.hint})


def follows(rule: Rule, *, template: bool = False) -> AfterValidator:
    """Apply a rule; a template (text with variables) has to follow it once they are substituted."""

    def validate(text: str, info: ValidationInfo) -> str:
        if template and "${" in text and not (info.context or {}).get("resolved"):
            return text
        if (broken := rule(text)) is not None:
            raise broken_rule(broken)
        return text

    return AfterValidator(validate)


@dataclass(frozen=True, slots=True)
class OrText:
    """In the JSON Schema, a text may stand in the place of a value too."""

    text: str

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Say that either may stand here."""
        return {"anyOf": [{"type": "string", "description": self.text}, handler(schema)]}


def secret_reference(value: object, info: ValidationInfo) -> SecretReference:
    """Validate by hand: what stands here may be a secret by mistake, and must not reach an error."""
    hint = "write {env: NAME}, {file: PATH} or {age: …}; a secret never stands in a spec in the clear"
    if isinstance(value, SecretReference):
        value = shown_reference(value)
    if not isinstance(value, dict):
        raise broken_rule(Broken("must refer to a secret, not hold it", hint))
    if set(value) not in ({"env"}, {"file"}, {"age"}):
        raise broken_rule(Broken("must have exactly one key, env, file or age", hint))
    kind, text = next(iter(value.items()))
    if not isinstance(text, str):
        raise broken_rule(Broken(f"{kind} must be a string", hint))
    if kind == "age":
        return _encrypted(text)
    rule = text_rules.secret_variable if kind == "env" else text_rules.secret_file
    if "${" in text and not (info.context or {}).get("resolved"):
        rule = text_rules.secret_template
    if (broken := rule(text)) is not None:
        raise broken_rule(broken)
    return SecretReference(env=text) if kind == "env" else SecretReference(file=text)


def _encrypted(text: str) -> SecretReference:
    try:
        return SecretReference(age=age_text.canonical(text))
    except age_text.NotEncrypted as error:
        hint = "write it as `reconciler secret encrypt` prints it"
        raise broken_rule(Broken(f"the encrypted value {error.why}", hint)) from None


def shown_reference(value: SecretReference) -> dict[str, str]:
    """A reference as a spec writes it."""
    if value.age is not None:
        return {"age": value.age}
    return {"env": value.env} if value.env is not None else {"file": value.file or ""}


def reference_schemas() -> list[dict[str, Any]]:
    """What stands for a secret, as JSON Schema says it."""
    return [
        _reference_schema("env", "Environment variable of the daemon.", "^[A-Za-z_$]"),
        _reference_schema("file", "Absolute path of a file on the daemon's machine.", "^[/$]"),
        _reference_schema(
            "age",
            "The secret, encrypted for a key of the daemon.",
            f"^\\s*({age_text.BARE}|{age_text.ARMOR[0]})",
        ),
    ]


def _reference_schema(key: str, description: str, pattern: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key: {"type": "string", "description": description, "pattern": pattern}},
        "required": [key],
        "additionalProperties": False,
    }


Name = Annotated[str, follows(text_rules.name), Field(json_schema_extra={"pattern": text_rules.NAME_PATTERN})]
VariableName = Annotated[
    str, follows(text_rules.variable_name), Field(json_schema_extra={"pattern": text_rules.VARIABLE_PATTERN})
]
ScriptVariableName = Annotated[
    str,
    follows(text_rules.script_variable_name),
    Field(json_schema_extra={"pattern": text_rules.SCRIPT_VARIABLE_PATTERN}),
]
VariableValue = Annotated[str, follows(text_rules.short_text, template=True)]
HazardName = Annotated[
    str, follows(text_rules.hazard), Field(json_schema_extra={"pattern": text_rules.HAZARD_PATTERN})
]
Identifier = Annotated[str, follows(text_rules.identifier, template=True)]
RoleName = Annotated[str, follows(text_rules.role, template=True)]
GroupName = Annotated[str, follows(text_rules.group, template=True)]
DatabaseName = Annotated[str, follows(text_rules.database, template=True)]
SourcePath = Annotated[
    str, follows(text_rules.path, template=True), AfterValidator(lambda path: path.removesuffix("/"))
]
SourceGlob = Annotated[
    str, follows(text_rules.glob, template=True), AfterValidator(lambda glob: glob.removesuffix("/"))
]
SourceGlobs = Annotated[
    tuple[SourceGlob, ...],
    Field(strict=False, min_length=1, max_length=LIST_ITEMS_MAX),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    OrText("One glob."),
]
Target = Annotated[str, follows(text_rules.target, template=True)]
ShortText = Annotated[str, follows(text_rules.short_text, template=True)]
Duration = Annotated[
    str,
    follows(text_rules.duration),
    Field(json_schema_extra={"pattern": text_rules.DURATION_PATTERN, "examples": ["10m", "1h"]}),
]
Retention = Annotated[
    str,
    follows(text_rules.retention),
    Field(json_schema_extra={"pattern": text_rules.DURATION_PATTERN, "examples": ["1h", "0s"]}),
]
Schedule = Annotated[str, follows(cron.rule), Field(json_schema_extra={"examples": ["0 * * * *"]})]
RelationName = Annotated[str, follows(text_rules.relation, template=True)]
SqlText = Annotated[str, follows(text_rules.sql, template=True)]
WebAddress = Annotated[str, follows(text_rules.web_address, template=True)]
Secret = Annotated[
    SecretReference,
    PlainValidator(secret_reference),
    PlainSerializer(shown_reference),
    WithJsonSchema(
        {
            "description": "Where the secret stands, or the secret encrypted; never in the clear.",
            "oneOf": reference_schemas(),
        }
    ),
]


class SpecModel(BaseModel):
    """What all models of a spec share: unknown keys are errors, and nothing is converted."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True, serialize_by_alias=True
    )


class ComponentModel(SpecModel):
    """What all components share."""

    name: Name = Field(description="Name of the component, unique in the environment.")
    stage: Name | None = Field(
        default=None, description="Stage it runs in; left out: the default stage of its kind."
    )
    after: Annotated[tuple[Name, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), description="Components of the same stage that are done before this one starts."
    )
    skip: bool = Field(
        default=False, description="Leave it out of plans and rollouts; it is still removed with the rest."
    )
