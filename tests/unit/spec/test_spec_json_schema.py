"""The JSON Schemas in `schemas/` are those of the models, and say what editors show."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.spec.json_schema import render, schema, schemas

ROOT = Path(__file__).resolve().parents[3]


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _parts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _parts(item)


@pytest.mark.parametrize("name", sorted(schemas()))
def test_the_files_are_current(name: str) -> None:
    """A change of the models comes with its schema: render() gives the file to the byte."""
    assert (ROOT / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8") == render(name)


@pytest.mark.parametrize("name", sorted(schemas()))
def test_each_says_what_every_key_is(name: str) -> None:
    """Editors show a description for every key, and refuse keys that are not there."""
    for part in _parts(schema(name)):
        if part.get("type") == "object" and "properties" in part:
            assert part["additionalProperties"] is False
            assert all("description" in _resolved(name, item) for item in part["properties"].values())


def _resolved(name: str, item: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in item and "description" not in item:
        found: dict[str, Any] = schema(name)["$defs"][item["$ref"].rsplit("/", 1)[1]]
        return found
    return item


@pytest.mark.parametrize("name", sorted(schemas()))
def test_references_lead_somewhere(name: str) -> None:
    """Every `$ref` names a definition of the same file."""
    made = schema(name)
    references = {part["$ref"] for part in _parts(made) if "$ref" in part}
    assert references
    assert {reference.removeprefix("#/$defs/") for reference in references} <= set(made["$defs"])


def test_rendering_is_stable() -> None:
    """The same models give the same text."""
    assert json.loads(render("environment")) == schema("environment")
    assert render("settings") == render("settings")
