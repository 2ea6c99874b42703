"""The names and references of a spec, taken from its text as far as that is sound.

The checks over a whole spec work on this, so that one bad field does not hide what is wrong elsewhere.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import field

from reconciler.frozen import frozen
from reconciler.spec import text_rules
from reconciler.spec.components import DEFAULT_STAGE_OF_KIND, SERVERS_STAGE
from reconciler.spec.environment import COMPONENTS_MAX, DEFAULT_STAGES, DEPLOYMENTS_MAX, STAGES_MAX
from reconciler.spec.program_outline import ProgramOutline, Use, program, uses
from reconciler.spec.words import Path

_NAMES = frozenset({"name", "stage", "kind", "after", "from"})
"""Keys of names, in which variables are refused already."""

_SECRETS = frozenset({"dsn", "provisionDsn", "password"})
_OWN_NAMES = frozenset({"variables", "env"})
"""What holds names that whoever wrote the spec made up."""

_PLACES = ("path", "modules", "to")
_MADE_IN_A_DATABASE = ("Module", "Objects")


@frozen
class ComponentOutline:
    """One component: `stage` is the named or the default one, and empty where neither is known."""

    path: Path
    name: str | None
    kind: str | None
    stage: str | None
    names_stage: bool
    after: tuple[tuple[Path, str], ...] = ()
    reference: str | None = None
    database: str | None = None
    files: str | None = None
    """The folder that a Module or Objects component is read from."""
    places: frozenset[str] = frozenset()
    """Which of `path`, `modules` and `to` a Module has."""
    uses: tuple[Use, ...] = ()
    program: ProgramOutline | None = None


@frozen
class DeploymentOutline:
    """One deployment with its own variables."""

    path: Path
    name: str | None
    variables: Mapping[str, str]


@frozen
class Outline:
    """A whole spec; `stages` is empty where the text names some and they cannot be told."""

    name: str | None
    stages: tuple[tuple[Path, str], ...]
    deployments: tuple[DeploymentOutline, ...]
    variables: Mapping[str, str]
    components: tuple[ComponentOutline, ...]
    strings: tuple[tuple[Path, str], ...] = field(default=())
    """Every string that uses a variable, wherever in the spec."""
    names_deployments: bool = True
    gate: str | None = None
    """The component that the gate between waves asks."""


def outline(data: Mapping[str, object]) -> Outline:
    """Take the outline of a document."""
    spec = _mapping(data.get("spec"))
    parts = _items(spec.get("components"), COMPONENTS_MAX)
    servers = {
        _name(_mapping(part.get("on")).get("from")) for _, part in parts if part.get("kind") == "Database"
    }
    waves = _mapping(_mapping(spec.get("rollout")).get("waves"))
    return Outline(
        name=_name(_mapping(data.get("metadata")).get("name")),
        stages=_stages(spec),
        deployments=tuple(
            DeploymentOutline(
                path=("spec", "deployments", position),
                name=_name(place.get("name")),
                variables=_texts(place.get("variables")),
            )
            for position, place in _items(spec.get("deployments"), DEPLOYMENTS_MAX)
        ),
        variables=_texts(spec.get("variables")),
        names_deployments=not isinstance(data.get("spec"), dict)
        or "deployments" in spec
        or "deploymentsFrom" in spec,
        gate=_name(_mapping(waves.get("gate")).get("database")),
        components=tuple(_component(position, part, servers) for position, part in parts),
        # What a list's deployments have in common is looked at as each of them has it.
        strings=tuple(
            _strings(("spec",), {key: value for key, value in spec.items() if key != "deploymentsFrom"})
        ),
    )


def _component(
    position: int, part: Mapping[str, object], servers: Collection[str | None]
) -> ComponentOutline:
    path: Path = ("spec", "components", position)
    kind = part.get("kind")
    default = next((stage for known, stage in DEFAULT_STAGE_OF_KIND.items() if known == kind), None)
    if kind == "Service" and _name(part.get("name")) in servers:
        default = SERVERS_STAGE
    after = part.get("after")
    reference = _mapping(part.get("database")).get("from")
    return ComponentOutline(
        path=path,
        name=_name(part.get("name")),
        kind=kind if isinstance(kind, str) else None,
        stage=_name(part.get("stage")) if part.get("stage") is not None else default,
        names_stage=part.get("stage") is not None,
        after=tuple(
            ((*path, "after", number), name)
            for number, name in enumerate(after if isinstance(after, list) else ())
            if _name(name) is not None
        ),
        reference=_name(reference) if kind in _MADE_IN_A_DATABASE else None,
        database=_text(part.get("database")) if kind == "Database" else None,
        files=_text(part.get("path")) if kind in _MADE_IN_A_DATABASE else None,
        places=frozenset(key for key in _PLACES if kind == "Module" and part.get(key) is not None),
        uses=uses(kind, path, part),
        program=program(kind, path, part),
    )


def _stages(spec: Mapping[str, object]) -> tuple[tuple[Path, str], ...]:
    if spec.get("stages") is None:
        return tuple((("spec",), name) for name, _description in DEFAULT_STAGES)
    found = [
        (("spec", "stages", position), _name(stage.get("name")))
        for position, stage in _items(spec.get("stages"), STAGES_MAX)
    ]
    named = tuple((path, name) for path, name in found if name is not None)
    return named if len(named) == len(found) else ()


def _strings(path: Path, value: object) -> Iterator[tuple[Path, str]]:
    match value:
        case str():
            if "${" in value:
                yield path, value
        case list():
            for position, item in enumerate(value):
                yield from _strings((*path, position), item)
        case dict():
            for key, item in value.items():
                is_name = key in _NAMES and path[-1] not in _OWN_NAMES
                is_secret = key in _SECRETS and path[-1] not in _OWN_NAMES and _holds_secret(item)
                if not (is_name or is_secret):
                    yield from _strings((*path, key), item)
        case _:
            return


def _holds_secret(value: object) -> bool:
    """Whether something else than a reference stands for a secret: refused, and nothing of it is told."""
    if not isinstance(value, dict) or "age" in value:
        return True
    return any(
        not isinstance(text, str) or text_rules.secret_template(text) is not None for text in value.values()
    )


def _items(value: object, limit: int) -> list[tuple[int, Mapping[str, object]]]:
    items = value[:limit] if isinstance(value, list) else []
    return [(position, item) for position, item in enumerate(items) if isinstance(item, dict)]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> Mapping[str, str]:
    """Take a mapping of strings; what is no string is refused elsewhere, and still has a name."""
    return {key: text if isinstance(text, str) else "" for key, text in _mapping(value).items()}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and text_rules.name(value) is None else None
