"""JSON Schemas of specs and settings, made from the models, as editors and yaml-language-server take them."""

import json
from typing import Any

from pydantic import BaseModel

from reconciler.settings import Settings
from reconciler.spec.environment import EnvironmentSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_SOURCES: dict[str, tuple[str, type[BaseModel]]] = {
    "environment": ("Environment spec of pg-reconciler", EnvironmentSpec),
    "settings": ("Settings of pg-reconciler", Settings),
}


def schemas() -> dict[str, dict[str, Any]]:
    """Return all schemas by name; the file of each is `schemas/NAME.schema.json`."""
    return {name: schema(name) for name in _SOURCES}


def schema(name: str) -> dict[str, Any]:
    """Return one schema."""
    title, model = _SOURCES[name]
    made = model.model_json_schema(by_alias=True)
    return {
        "$schema": DIALECT,
        "$id": f"urn:pg-reconciler:{name}.schema.json",
        **_tidied(made),
        "title": title,
    }


def render(name: str) -> str:
    """Return the text of one schema's file."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def _tidied(value: Any) -> Any:
    """Leave out what only OpenAPI knows, and titles that repeat a key."""
    if isinstance(value, list):
        return [_tidied(item) for item in value]
    if not isinstance(value, dict):
        return value
    tidied = {
        key: _properties(item) if key in ("properties", "$defs") else _tidied(item)
        for key, item in value.items()
        if key not in ("title", "discriminator")
    }
    return {**tidied, "additionalProperties": False} if "patternProperties" in value else tidied


def _properties(value: dict[str, Any]) -> dict[str, Any]:
    """Tidy what stands under names; a property may itself be called `title`."""
    return {name: _tidied(item) for name, item in value.items()}
