"""What settings are made of: names, and secrets, where each stands and the keys that open encrypted ones."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from reconciler import age_text

AGE_KEYS_MAX = 20


def broken(message: str, hint: str | None = None) -> PydanticCustomError:
    """Make the error a validator raises; it carries no input."""
    return PydanticCustomError("broken_rule", "{message}", {"message": message, "hint": hint})


class SettingsModel(BaseModel, defer_build=True):  # one validator is used, of the outermost, by one thread
    """What all settings share: unknown keys are errors, and nothing is converted."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_by_name=False, hide_input_in_errors=True
    )


NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"


def _name(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(NAME_PATTERN.strip("^$"), value):
        raise broken("is not a valid name", "1 to 63 of a-z, 0-9, '.', '_' and '-'")
    return value


Name = Annotated[str, BeforeValidator(_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]


def _secret_schema(schema: dict[str, Any]) -> None:
    places = {
        "env": "Environment variable of the daemon.",
        "file": "File on the daemon's machine.",
        "age": "The secret itself, encrypted for a key of `secrets.age_keys`.",
    }
    schema.clear()
    schema["description"] = "A secret: written out, where it stands, or encrypted."
    schema["oneOf"] = [
        {"type": "string"},
        *(
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {key: {"type": "string", "description": description}},
                "required": [key],
            }
            for key, description in places.items()
        ),
    ]


class SecretValue(SettingsModel):
    """A secret: written out (`text`), where it stands, or encrypted. What is written out is never shown."""

    model_config = ConfigDict(json_schema_extra=_secret_schema)

    env: str | None = Field(default=None, description="Environment variable of the daemon.")
    file: str | None = Field(default=None, description="File on the daemon's machine.")
    age: str | None = Field(
        default=None,
        repr=False,
        description="The secret itself, encrypted for a key of `secrets.age_keys`; "
        "`reconciler secret encrypt` writes it.",
    )
    text: str | None = Field(default=None, repr=False, exclude=True, description="The secret itself.")

    @model_validator(mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        if isinstance(value, SecretValue):
            return value
        if isinstance(value, str) and value:
            return {"text": value}
        if isinstance(value, dict) and set(value) in ({"env"}, {"file"}, {"age"}):
            kind, text = next(iter(value.items()))
            if isinstance(text, str) and text and "\x00" not in text:
                return {"age": _canonical(text)} if kind == "age" else value
        raise broken("must be a secret", "write a string, {env: NAME}, {file: PATH} or {age: …}")


def _canonical(text: str) -> str:
    try:
        return age_text.canonical(text)
    except age_text.NotEncrypted as error:
        raise broken(
            f"the encrypted value {error.why}", "write it as `reconciler secret encrypt` prints it"
        ) from None


class SecretsSettings(SettingsModel):
    """How secrets are kept that stand in specs and settings encrypted."""

    age_keys: Annotated[tuple[SecretValue, ...], Field(strict=False, max_length=AGE_KEYS_MAX)] = Field(
        default=(),
        description="Keys of age that open encrypted values, as `reconciler secret keygen` writes them; "
        "several while one is being replaced.",
    )

    @model_validator(mode="after")
    def _keys_are_not_encrypted(self) -> "SecretsSettings":
        if any(key.age is not None for key in self.age_keys):
            raise broken("has a key that is encrypted itself", "write {file: PATH} or {env: NAME}")
        return self
