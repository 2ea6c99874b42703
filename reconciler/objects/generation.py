"""What a rollout will do with a project's objects, as one value: what is staged, in which order, what is not.

It follows from what files and records say; what the catalog alone knows is listed as questions.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.catalog.identifier import IDENTIFIER_MAX, quote_qualified
from reconciler.errors import Problem
from reconciler.frozen import frozen
from reconciler.objects import stable
from reconciler.objects.dirty import Dirty, by_name, in_place
from reconciler.objects.model import ObjectName, ObjectSort, Production, Project, SqlObject
from reconciler.objects.stable import Asked, ObjectAction

_MARK = "__"
_HEX = 8
_TRIES_MAX = 1_000


class SchemaAction(StrEnum):
    """What becomes of a schema: exchanged, made, changed in place or retired."""

    SWAP = "swap"
    ADD = "add"
    IN_PLACE = "in place"
    RETIRE = "retire"


@frozen
class SchemaWork:
    """One schema of a generation; `staging` is the name of the schema beside it, where one is needed."""

    name: str
    action: SchemaAction
    staging: str | None = None


@frozen
class ObjectWork:
    """One object of a generation: what becomes of it, and why, to go on behind "because"."""

    name: ObjectName
    sort: ObjectSort
    action: ObjectAction
    reason: str


@frozen
class Generation:
    """All that a rollout will do with the objects of one component; nothing but names decides the order.

    `waves` are what is made in staging schemas: objects of one wave do not need each other, and may be made
    side by side. `in_switch` is what is made in live schemas while the switch is made, in order: what is
    added and replaced there, and what was staged and has to be told live names. `metadata` and
    `schema_metadata` get grants, comments and options in place, for they are not built. `stability` are
    schemas that become stable or swapped without being built. `reads` are schemas of the project that are
    read and not built: the switch has to see that they are still the same. `refused` say why none of it may
    go on.
    """

    key: str
    schemas: tuple[SchemaWork, ...] = ()
    objects: Mapping[ObjectName, ObjectWork] = field(default_factory=dict)
    waves: tuple[tuple[ObjectName, ...], ...] = ()
    in_switch: tuple[ObjectName, ...] = ()
    metadata: tuple[ObjectName, ...] = ()
    schema_metadata: tuple[str, ...] = ()
    stability: tuple[tuple[str, bool], ...] = ()
    reads: tuple[str, ...] = ()
    questions: tuple[Asked, ...] = ()
    warnings: tuple[Problem, ...] = ()
    refused: tuple[Problem, ...] = ()

    @property
    def works(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.schemas or self.objects or self.metadata or self.schema_metadata or self.stability)

    @property
    def staging(self) -> Mapping[str, str]:
        """The names of staging schemas, by the schemas that they stand beside."""
        return {work.name: work.staging for work in self.schemas if work.staging is not None}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where objects stand while staging schemas are built, as the texts of one generation name them."""

    staging: Mapping[str, str]
    works: Mapping[ObjectName, ObjectWork]
    swapped: frozenset[str]

    @classmethod
    def of(cls, generation: Generation) -> "Placement":
        """Return where a generation puts its objects."""
        swapped = (SchemaAction.SWAP, SchemaAction.ADD)
        return cls(
            staging=generation.staging,
            works=generation.objects,
            swapped=frozenset(work.name for work in generation.schemas if work.action in swapped),
        )

    def schema_of(self, target: ObjectName, reader: SqlObject) -> str:
        """Return the schema in which `reader`, while it is staged, finds `target`.

        A materialized view cannot be told later what it reads, so it is made over what stays.
        """
        if target.schema in self.swapped:
            return self.staging[target.schema]
        if not self.is_staged(target):
            return target.schema
        if (
            target != reader.name
            and reader.sort is ObjectSort.MATERIALIZED_VIEW
            and self.works[target].action is not ObjectAction.MOVE
        ):
            return target.schema
        return self.staging[target.schema]

    def is_staged(self, target: ObjectName) -> bool:
        """Whether an object is made in a staging schema."""
        work = self.works.get(target)
        return work is not None and work.action is not ObjectAction.RETIRE

    def is_told_later(self, wanted: SqlObject) -> bool:
        """Whether what is staged of an object names what the switch renames, or what is only tried there."""
        if wanted.sort is ObjectSort.MATERIALIZED_VIEW:
            return False
        return any(
            (mention.in_body or self._is_tried(mention.target))
            and self.schema_of(mention.target, wanted) != mention.target.schema
            for statement in wanted.creates
            for mention in statement.mentions
        )

    def _is_tried(self, target: ObjectName) -> bool:
        work = self.works.get(target)
        return work is not None and work.action in stable.IN_PLACE


def plan(
    project: Project, production: Production, found: Dirty, *, key: str, taken: Collection[str] = ()
) -> Generation:
    """Plan all that follows from what is dirty; `taken` are names of schemas that are live, whoever's."""
    works, refused = _objects(project, production, found)
    schemas = _schemas(project, production, found, works, key, taken)
    named = {work.name: work for work in schemas}
    bare = Generation(key=key, schemas=schemas, objects=works)
    placement = Placement.of(bare)
    staged = tuple(wanted for name, wanted in project.objects.items() if placement.is_staged(name))
    late_refused, warnings = _over_what_is_tried(staged, placement, production)
    return Generation(
        key=key,
        schemas=schemas,
        objects=works,
        waves=_waves(staged),
        in_switch=tuple(
            wanted.name
            for wanted in staged
            if works[wanted.name].action in stable.IN_PLACE or placement.is_told_later(wanted)
        ),
        metadata=tuple(
            name
            for name in found.changes.metadata
            if name not in works or works[name].action is ObjectAction.REPLACE
        )
        + _edited_in_place(found, works, project, production),
        schema_metadata=tuple(
            name
            for name in found.changes.schemas
            if name not in named or named[name].action is SchemaAction.IN_PLACE
        ),
        stability=_stability(project, production, named),
        reads=_reads(staged, named),
        questions=_questions(project, production, found, works),
        warnings=warnings,
        refused=(*refused, *late_refused),
    )


def staging_names(schemas: Iterable[str], key: str, *, taken: Collection[str] = ()) -> dict[str, str]:
    """Name the schemas beside others: `analytics__0c9f1b2a`, a part of the generation's key behind the name.

    Names that would be cut to PostgreSQL's limit are cut here, with a hash of the whole in place of the rest,
    so that no two are the same. A name that is taken is never used.
    """
    used, names = set(taken), dict[str, str]()
    for schema in sorted(schemas):
        tries = (_staging_name(schema, f"{key}/{number}" if number else key) for number in range(_TRIES_MAX))
        names[schema] = next(name for name in tries if name not in used)
        used.add(names[schema])
    return names


def _staging_name(schema: str, key: str) -> str:
    suffix = _MARK + _hex(key)
    if len(schema.encode()) + len(suffix) <= IDENTIFIER_MAX:
        return schema + suffix
    suffix = f"_{_hex(schema)}{suffix}"
    return schema.encode()[: IDENTIFIER_MAX - len(suffix)].decode("utf-8", "ignore") + suffix


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HEX]


def _objects(
    project: Project, production: Production, found: Dirty
) -> tuple[dict[ObjectName, ObjectWork], tuple[Problem, ...]]:
    """Say what becomes of each object that is dirty; those of a swapped schema that are gone need nothing."""
    bound = in_place(project, production)
    works, refused = dict[ObjectName, ObjectWork](), list[Problem]()
    for name in found.reasons:
        wanted = project.objects.get(name)
        action: ObjectAction | None = ObjectAction.BUILD if wanted is not None else None
        if name.schema in bound:
            action = stable.action(name, project, production, found)
        if action is None:
            continue
        if action is ObjectAction.REPLACE:
            problem = stable.refusal(name, project, production, found)
            refused += [problem] if problem is not None else []
        sort = wanted.sort if wanted is not None else production.objects[name].sort
        works[name] = ObjectWork(name=name, sort=sort, action=action, reason=found.because(name))
    return works, tuple(refused)


def _schemas(
    project: Project,
    production: Production,
    found: Dirty,
    works: Mapping[ObjectName, ObjectWork],
    key: str,
    taken: Collection[str],
) -> tuple[SchemaWork, ...]:
    bound = in_place(project, production)
    touched = {name.schema for name in found.reasons}
    actions = {name: SchemaAction.ADD for name in project.schemas if name not in production.schemas}
    actions |= {
        name: SchemaAction.SWAP
        for name in project.schemas
        if name in touched and name in production.schemas and name not in bound
    }
    actions |= {name.schema: SchemaAction.IN_PLACE for name in works if name.schema in bound}
    actions |= dict.fromkeys(found.changes.retired, SchemaAction.RETIRE)
    staged = {name for name, action in actions.items() if action is not SchemaAction.RETIRE}
    names = staging_names(staged, key, taken={*taken, *project.schemas, *production.schemas})
    return tuple(
        SchemaWork(name=name, action=actions[name], staging=names.get(name)) for name in sorted(actions)
    )


def _waves(staged: Iterable[SqlObject]) -> tuple[tuple[ObjectName, ...], ...]:
    """Put each object into the first wave behind all that it needs; they come in dependency order."""
    waves: list[list[ObjectName]] = []
    place: dict[ObjectName, int] = {}
    for wanted in staged:
        number = max((place[need] + 1 for need in wanted.depends_on if need in place), default=0)
        place[wanted.name] = number
        if number == len(waves):
            waves.append([])
        waves[number].append(wanted.name)
    return tuple(tuple(wave) for wave in waves)


def _over_what_is_tried(
    staged: Iterable[SqlObject], placement: Placement, production: Production
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Find materialized views that read what is only made in place as the switch is made: new, or changed."""
    refused, warnings = list[Problem](), list[Problem]()
    for wanted in staged:
        if wanted.sort is not ObjectSort.MATERIALIZED_VIEW:
            continue
        for need in sorted(wanted.depends_on):
            if not placement.is_staged(need) or placement.schema_of(need, wanted) != need.schema:
                continue
            shown = quote_qualified(need.schema, need.name)
            if need in production.objects:
                warnings.append(
                    Problem(
                        message=f"{wanted.identity} is filled from {shown} as it is live now, which is in a "
                        "stable schema and changes with the switch",
                        file=wanted.path,
                        hint="refresh it after the rollout, or change the two in two commits",
                    )
                )
            else:
                refused.append(
                    Problem(
                        message=f"{wanted.identity} reads {shown}, which is new in a stable schema and made "
                        "with the switch; a materialized view is filled before that",
                        file=wanted.path,
                        hint=f"add {shown} in a commit before this one",
                    )
                )
    return tuple(refused), tuple(warnings)


def _edited_in_place(
    found: Dirty, works: Mapping[ObjectName, ObjectWork], project: Project, production: Production
) -> tuple[ObjectName, ...]:
    """Find edited objects of which grants or comments changed too, and that keep those they have."""
    return tuple(
        name
        for name in found.changes.edited
        if name in works
        and works[name].action is ObjectAction.REPLACE
        and project.objects[name].metadata_hash != production.objects[name].metadata_hash
    )


def _stability(
    project: Project, production: Production, named: Mapping[str, SchemaWork]
) -> tuple[tuple[str, bool], ...]:
    return tuple(
        (name, project.schemas[name].stable)
        for name in sorted(project.schemas)
        if name not in named and project.schemas[name].stable is not production.schemas.get(name)
    )


def _reads(staged: Iterable[SqlObject], named: Mapping[str, SchemaWork]) -> tuple[str, ...]:
    return tuple(
        sorted({need.schema for wanted in staged for need in wanted.depends_on if need.schema not in named})
    )


def _questions(
    project: Project, production: Production, found: Dirty, works: Mapping[ObjectName, ObjectWork]
) -> tuple[Asked, ...]:
    """List what has to be asked of the catalog, for objects that are live."""
    asked = [
        Asked(question=stable.Question.UNUSED, name=name, sort=production.objects[name].sort)
        for name in found.changes.deleted
    ]
    for name, work in works.items():
        wanted = project.objects.get(name)
        question = stable.question(wanted, work.action) if wanted is not None else None
        if question is not None and name in production.objects:
            asked.append(Asked(question=question, name=name, sort=work.sort))
    return tuple(sorted(asked, key=lambda one: (by_name(one.name), one.question)))
