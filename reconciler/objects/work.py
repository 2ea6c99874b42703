"""All that is sent to build one generation, as texts in order; it sends nothing itself."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.objects.generation import Generation, Placement, SchemaAction, staging_names
from reconciler.objects.model import ObjectName, ObjectSort, Project, SqlSchema
from reconciler.objects.stable import ObjectAction
from reconciler.objects.staging_text import SchemaTexts, StagedTexts, in_switch, schema_texts, staged

UNSETTLED = "unsettled"
"""Recorded in place of the hash of what is altered behind the switch: so that stays pending until it is."""
_SORTS = {
    SchemaAction.SWAP: "swapped",
    SchemaAction.ADD: "swapped",
    SchemaAction.IN_PLACE: "stable",
    SchemaAction.RETIRE: "retired",
}
"""Whether there is something to swap with is seen when the generation is recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaToStage:
    """A schema of a generation: what it is called live, beside that, and once it is displaced.

    `sort` is swapped, stable, retired or read; `texts` make the staging schema where there is one.
    """

    name: str
    sort: str
    staging: str | None = None
    old_name: str | None = None
    texts: SchemaTexts | None = None
    stable: bool = False
    metadata_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectToStage:
    """An object of a generation: what makes it beside what is live, and what is run in the switch."""

    name: ObjectName
    sort: ObjectSort
    hash: str
    metadata_hash: str
    texts: StagedTexts | None
    action: ObjectAction = ObjectAction.BUILD
    in_switch: tuple[str, ...] = ()
    path: str | None = None
    lines: tuple[int, ...] = ()
    """Where the statements of its texts begin in the file, in their order: creates, indexes, metadata."""

    @property
    def identity(self) -> str:
        """Sort and live name, for people."""
        return f"{self.sort.value} {self.name.schema}.{self.name.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredToRecord:
    """What is done once behind the switch: statements, or with `outside` a request to a URL."""

    name: str
    body: str
    outside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One generation; `waves` are side by side inside and in order, `retired` are taken out in the switch."""

    key: str
    component: str
    schemas: tuple[SchemaToStage, ...]
    waves: tuple[tuple[ObjectToStage, ...], ...] = ()
    retired: tuple[ObjectToStage, ...] = ()
    deferred: tuple[DeferredToRecord, ...] = ()

    @property
    def objects(self) -> Mapping[ObjectName, ObjectToStage]:
        """All that is made, by name."""
        return {one.name: one for wave in self.waves for one in wave}

    def document(self) -> Mapping[str, object]:
        """What is recorded of it before anything is made."""
        numbered = [(number, one) for number, wave in enumerate(self.waves) for one in wave]
        numbered += [(len(self.waves), one) for one in self.retired]
        return {
            "key": self.key,
            "schemas": [
                {
                    "schema": one.name,
                    "sort": one.sort,
                    "staging_name": one.staging,
                    "old_name": one.old_name,
                    "metadata_hash": one.metadata_hash,
                    "stable": one.stable,
                }
                for one in self.schemas
            ],
            "objects": [
                {
                    "schema": one.name.schema,
                    "name": one.name.name,
                    "sort": one.sort.value,
                    "action": one.action.value,
                    "wave": number,
                    "hash": one.hash,
                    "metadata_hash": one.metadata_hash,
                    "in_switch": one.in_switch,
                }
                for number, one in numbered
            ],
            "deferred": [
                {"name": one.name, "outside": one.outside, "body": one.body} for one in self.deferred
            ],
        }


def work_of(
    project: Project,
    generation: Generation,
    *,
    component: str,
    deferred: Sequence[DeferredToRecord] = (),
) -> Work:
    """Return what is sent to build a planned generation of a project."""
    placement = Placement.of(generation)
    told = frozenset(generation.in_switch)

    def make(name: ObjectName) -> ObjectToStage:
        wanted, planned = project.objects[name], generation.objects[name]
        return ObjectToStage(
            name=name,
            sort=wanted.sort,
            hash=wanted.hash,
            # What is altered behind the switch is recorded there, so that it is not lost in between.
            metadata_hash=UNSETTLED if name in generation.metadata else wanted.metadata_hash,
            texts=staged(wanted, placement),
            action=planned.action,
            in_switch=in_switch(wanted, planned.action) if name in told else (),
            path=wanted.path,
            lines=tuple(one.line for one in wanted.statements),
        )

    return Work(
        key=generation.key,
        component=component,
        schemas=_schemas(project, generation),
        waves=tuple(tuple(make(name) for name in wave) for wave in generation.waves),
        retired=tuple(
            ObjectToStage(
                name=name, sort=planned.sort, hash="", metadata_hash="", texts=None, action=planned.action
            )
            for name, planned in generation.objects.items()
            if planned.action is ObjectAction.RETIRE
        ),
        deferred=tuple(deferred),
    )


def old_names(schemas: Sequence[str], key: str, *, taken: Sequence[str] = ()) -> Mapping[str, str]:
    """Name the schemas that a generation displaces, so that none is called as another is."""
    return staging_names(schemas, f"{key}/old", taken=taken)


def _schemas(project: Project, generation: Generation) -> tuple[SchemaToStage, ...]:
    names = [one.name for one in generation.schemas]
    olds = old_names(names, generation.key, taken=[*names, *generation.staging.values()])
    made = []
    for one in generation.schemas:
        said = project.schemas.get(one.name)
        texts = schema_texts(said, one.staging) if said is not None and one.staging is not None else None
        made.append(
            SchemaToStage(
                name=one.name,
                sort=_SORTS[one.action],
                staging=one.staging,
                old_name=olds[one.name],
                texts=texts,
                stable=said is not None and said.stable,
                metadata_hash=UNSETTLED if one.name in generation.schema_metadata else _hash_of(said),
            )
        )
    return (*made, *(SchemaToStage(name=name, sort="read") for name in generation.reads))


def _hash_of(said: SqlSchema | None) -> str:
    return said.metadata_hash if said is not None else ""


def hash_of(work: Work) -> str:
    """Hash all that is sent and recorded for a generation."""
    texts = [
        (one.texts.creates, one.texts.indexes, one.texts.metadata, one.texts.fill)
        for wave in work.waves
        for one in wave
        if one.texts is not None
    ]
    schemas = [
        (one.texts.creates, one.texts.settings, one.texts.owner)
        for one in work.schemas
        if one.texts is not None
    ]
    value = json.dumps([work.document(), schemas, texts], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
