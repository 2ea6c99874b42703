"""Finds all that would stop a generation later, from what is there, before any write; it reads nothing."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field

from reconciler.catalog.identifier import quote_identifier, quote_qualified, why_not_a_name
from reconciler.catalog.sql_text import roles
from reconciler.frozen import frozen
from reconciler.objects.generation import Generation
from reconciler.objects.model import ObjectName, Project
from reconciler.objects.work import Work

SHOWN_MAX = 20
"""Objects in the way that one message names."""
_SWAPPED = ("swapped", "retired")
_MAY_ADOPT = "bring it into the folder of the objects, or allow it with `dependents: adopt`"
_MUST_GO = (
    "it cannot be bound to what takes the place, so drop it for the rollout, or bring it into the folder of"
    " the objects"
)


@frozen
class SchemaFacts:
    """A schema that is there: who owns it, and whether we act as the owner."""

    owner: str
    owned: bool


@frozen
class Content:
    """Something that stands in a schema; `oid` is one of relations or routines where it is either."""

    schema: str
    routine: bool
    relation: bool
    oid: int
    description: str
    extension: str | None


@frozen
class Meeting:
    """What is there: the schemas asked for by name, what stands in some, and what is missing."""

    role: str
    database: str
    may_create: bool
    schemas: Mapping[str, SchemaFacts]
    contents: tuple[Content, ...]
    missing: tuple[tuple[str, str], ...]
    unreadable: tuple[tuple[str, str], ...]
    missing_roles: tuple[str, ...]


@frozen
class Recorded:
    """What is recorded of it: whose schemas are, which objects in them are ours, and what this key has made.

    `owners` gives component, environment and deployment; `objects` are (whether it is a routine, oid).
    """

    owners: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    objects: frozenset[tuple[bool, int]] = frozenset()
    staging: frozenset[str] = frozenset()


@frozen
class Objection:
    """Something that speaks against a generation: what kind, of what, and what it is."""

    kind: str
    subject: str
    detail: str


@frozen
class Outside:
    """What depends on a displaced object from outside; `bound`: it can be bound to what takes the place."""

    identity: str
    bound: bool


@frozen
class ByHand:
    """Something that somebody did to what is live: `altered` an object (or dropped it), or a `grant`."""

    kind: str
    subject: str
    detail: str


@frozen
class Asked:
    """What has to be looked at for a generation, by names, each in their order."""

    live: tuple[str, ...]
    displaced: tuple[str, ...]
    beside: tuple[str, ...]
    relations: tuple[tuple[str, str], ...]
    roles: tuple[str, ...]


def asked(work: Work, *, externals: Collection[ObjectName] = (), granted: Collection[str] = ()) -> Asked:
    """Say what has to be looked at; `externals` are relations that are read, `granted` roles."""
    return Asked(
        live=tuple(one.name for one in work.schemas if one.sort != "read"),
        displaced=tuple(one.name for one in work.schemas if one.sort in _SWAPPED),
        beside=tuple(
            name for one in work.schemas for name in (one.staging, one.old_name) if name is not None
        ),
        relations=tuple((one.schema, one.name) for one in sorted(externals)),
        roles=tuple(sorted(granted)),
    )


def needed(project: Project, generation: Generation) -> tuple[frozenset[ObjectName], frozenset[str]]:
    """Return the relations outside that a generation reads, and the roles that it grants to."""
    staged = [project.objects[name] for wave in generation.waves for name in wave]
    changed = [project.objects[name] for name in generation.metadata]
    schemas = [
        project.schemas[name]
        for name in {*generation.staging, *generation.schema_metadata}
        if name in project.schemas
    ]
    statements = [each for one in (*staged, *changed) for each in one.grants]
    statements += [each for one in schemas for each in (*one.grants, *one.default_privileges)]
    named = {role for each in statements for role in roles(each.text).named}
    named |= {one.owner for one in schemas if one.owner is not None}
    return frozenset(name for one in staged for name in one.externals), frozenset(named)


def readers(project: Project, generation: Generation) -> Mapping[str, str]:
    """Say of each relation outside that a generation reads which of its objects do, by its quoted name."""
    found = dict[str, list[str]]()
    for wave in generation.waves:
        for one in (project.objects[name] for name in wave):
            for name in one.externals:
                found.setdefault(quote_qualified(name.schema, name.name), []).append(one.identity)
    return {subject: _few(sorted(own)) for subject, own in found.items()}


def objections(
    work: Work, looked: Asked, met: Meeting, recorded: Recorded, *, ours: tuple[str, str, str]
) -> tuple[Objection, ...]:
    """Say all that speaks against building and switching to a generation; nothing, as a rule.

    `ours` is component, environment and deployment.
    """
    return (
        *_names(work),
        *_taken(met, looked.beside, recorded.staging),
        *_anothers(recorded.owners, ours),
        *_rights(met, work),
        *_contents(met, recorded.objects),
        *_missing(met),
    )


def told(found: Sequence[Objection], readers: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Say each as a sentence for people; what stands in one schema is told at once.

    `readers` name the objects that read a relation.
    """
    lines, unknown = dict[str, None](), dict[str, list[str]]()
    for one in found:
        if one.kind == "unknown":
            unknown.setdefault(one.subject, []).append(one.detail)
            lines.setdefault(f"\0{one.subject}")
        else:
            who = (readers or {}).get(one.subject) if one.kind == "missing" else None
            lines.setdefault(f"{one.subject}: {one.detail}" + (f", and {who} reads it" if who else ""))
    return tuple(
        _in_the_way(line[1:], unknown[line[1:]]) if line.startswith("\0") else line for line in lines
    )


def dependents(found: Sequence[Outside], *, adopt: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say which dependents outside the switch would refuse, and which it will bind anew."""
    bound = [one.identity for one in found if adopt and one.bound]
    return (
        tuple(
            f"{_few(group)}: it depends on what is displaced; {way_out}"
            for group, way_out in (
                ([one.identity for one in found if one.bound and not adopt], _MAY_ADOPT),
                ([one.identity for one in found if not one.bound], _MUST_GO),
            )
            if group
        ),
        tuple(f"{_few(group)}: it will be bound to what takes the place" for group in (bound,) if group),
    )


def by_hand(
    found: Sequence[ByHand], *, altered: str, hand_made: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say what was done by hand that the switch would refuse, and what becomes of the rest.

    `altered` (refuse, replace) and `hand_made` (refuse, carry, leave) are as the spec has them.
    """
    objects = [
        one.subject + (f" ({one.detail})" if one.detail else "") for one in found if one.kind == "altered"
    ]
    grants = dict[str, list[str]]()
    for one in found:
        if one.kind == "grant":
            grants.setdefault(one.subject, []).append(one.detail)
    given = [f"{subject} ({', '.join(lines)})" for subject, lines in grants.items()]
    refused, said = [], []
    if objects and altered == "refuse":
        way_out = "take that back, or bring it into its file and allow `altered: replace`"
        refused.append(f"{_few(objects)}: altered by hand; {way_out}")
    elif objects:
        said.append(f"{_few(objects)}: altered by hand; what takes the place is as its file has it")
    if given and hand_made == "refuse":
        way_out = "take it back, or allow it with `handMadeGrants: carry` or `leave`"
        refused.append(f"{_few(given)}: given by hand; {way_out}")
    elif given:
        becomes = "it is carried over to" if hand_made == "carry" else "it is left behind by"
        said.append(f"{_few(given)}: given by hand; {becomes} what takes the place")
    return tuple(refused), tuple(said)


def _few(things: Sequence[str]) -> str:
    more = f" and {len(things) - SHOWN_MAX} more" if len(things) > SHOWN_MAX else ""
    return f"{', '.join(things[:SHOWN_MAX])}{more}"


def _in_the_way(schema: str, details: Sequence[str]) -> str:
    things = [each.removesuffix(_NOT_OURS) for each in details]
    return (
        f"schema {quote_identifier(schema)} would be displaced, and holds what was not built from objects: "
        f"{_few(things)}; move it to another schema first, or drop it"
    )


def _names(work: Work) -> Iterable[Objection]:
    names = [
        name for one in work.schemas for name in (one.name, one.staging, one.old_name) if name is not None
    ]
    names += [one.name.name for wave in work.waves for one in wave]
    for name in dict.fromkeys(names):
        why = why_not_a_name(name)
        if why is not None:
            yield Objection(kind="name", subject=name, detail=why)


def _taken(met: Meeting, beside: Sequence[str], mine: Collection[str]) -> Iterable[Objection]:
    seen = set[str]()
    for name in beside:
        if name in seen:
            yield Objection(kind="name", subject=name, detail="two schemas would be called so")
        elif name in met.schemas and name not in mine:
            detail = "a schema that is not of this generation is called so"
            yield Objection(kind="name", subject=name, detail=detail)
        seen.add(name)


def _anothers(owners: Mapping[str, tuple[str, str, str]], ours: tuple[str, str, str]) -> Iterable[Objection]:
    for schema, whose in owners.items():
        if whose != ours:
            component, environment, deployment = whose
            yield Objection(
                kind="owner",
                subject=schema,
                detail=f"it belongs to component '{component}' of environment '{environment}',"
                f" deployment '{deployment}'",
            )


def _rights(met: Meeting, work: Work) -> Iterable[Objection]:
    """Renaming a schema needs its owner and CREATE on the database; say what grants them."""
    role = quote_identifier(met.role)
    if not met.may_create:
        database = quote_identifier(met.database)
        yield Objection(
            kind="privilege",
            subject=met.database,
            detail=f"role {role} may not make schemas: GRANT CREATE ON DATABASE {database} TO {role}",
        )
    for one in work.schemas:
        facts = met.schemas.get(one.name)
        if one.sort != "read" and facts is not None and not facts.owned:
            grant = f"GRANT {quote_identifier(facts.owner)} TO {role}"
            yield Objection(
                kind="privilege",
                subject=one.name,
                detail=f"role {role} does not act as its owner: {grant}",
            )


_NOT_OURS = " is not ours, and would be displaced"


def _contents(met: Meeting, known: Collection[tuple[bool, int]]) -> Iterable[Objection]:
    for one in met.contents:
        if (one.routine or one.relation) and (one.routine, one.oid) in known:
            continue
        whose = f", of extension {one.extension}" if one.extension is not None else ""
        detail = f"{one.description}{whose}{_NOT_OURS}"
        yield Objection(kind="unknown", subject=one.schema, detail=detail)


def _missing(met: Meeting) -> Iterable[Objection]:
    for schema, name in met.missing:
        subject = quote_qualified(schema, name)
        yield Objection(kind="missing", subject=subject, detail="there is no such relation")
    for schema, name in met.unreadable:
        target = quote_qualified(schema, name)
        role = quote_identifier(met.role)
        yield Objection(
            kind="privilege",
            subject=target,
            detail=f"role {role} may not read it: GRANT SELECT ON {target} TO {role}",
        )
    for role in met.missing_roles:
        yield Objection(kind="role", subject=role, detail="there is no such role to grant to")
