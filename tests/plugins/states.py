"""Small constructors of desired, tracked and live state for tests of what decides over them."""

import hashlib
from collections.abc import Sequence

from reconciler.catalog.model import Catalog, CatalogObject, DatabaseIdentity, Fingerprint, ObjectKind
from reconciler.changes.script import Script
from reconciler.spec.values import SecretReference
from reconciler.state.desired import DesiredChange, DesiredDatabase, DesiredModule, DesiredState
from reconciler.state.live import LiveDatabase, LiveState
from reconciler.state.tracked import BaseLine, TrackedChange, TrackedDatabase, TrackedModule, TrackedState

IDENTITY = DatabaseIdentity(system_identifier="1", database_oid=2, server_major=18)


def sha(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def change(
    name: str,
    *,
    requires: Sequence[str] = (),
    conflicts: Sequence[str] = (),
    tags: Sequence[str] = (),
    text: str | None = None,
    change_id: str | None = None,
    hazards: Sequence[str] = (),
) -> DesiredChange:
    script = text if text is not None else f"create table {name}()"
    return DesiredChange(
        change_id=change_id or sha(f"id {name}"),
        name=name,
        requires=tuple(requires),
        conflicts=tuple(conflicts),
        tags=tuple((sha(f"tag {tag}"), tag) for tag in tags),
        note="",
        planned_at="2026-01-01T00:00:00Z",
        planner="Ada <ada@example.org>",
        deploy=Script(f"modules/shop/deploy/{name}.sql", script),
        revert=None,
        verify=None,
        script_hash=sha(script),
        parse_hash="p" + "".join(script.split()),
        hazards=tuple(hazards),
    )


def module(
    *changes: DesiredChange, component: str = "shop-schema", project: str = "shop", **more: object
) -> DesiredModule:
    values: dict[str, object] = {
        "component": component,
        "stage": "migrations",
        "database_component": "shop-db",
        "database": "shop",
        "path": "modules/shop",
        "project": project,
        "uri": None,
        "target": None,
        "changes": changes,
    }
    return DesiredModule(**{**values, **more})  # type: ignore[arg-type]


def tracked_of(*changes: DesiredChange, **edits: str) -> TrackedModule:
    """A record of deployed changes; `edits` maps names to other script texts that were deployed."""
    return TrackedModule(
        project="shop",
        component="shop-schema",
        changes=tuple(
            TrackedChange(
                change_id=one.change_id,
                name=one.name,
                script_hash=sha(edits[one.name]) if one.name in edits else one.script_hash,
                parse_hash="p" + "".join(edits[one.name].split()) if one.name in edits else one.parse_hash,
                position=position,
                tags=tuple(tag for _id, tag in one.tags),
            )
            for position, one in enumerate(changes)
        ),
    )


def database(**more: object) -> DesiredDatabase:
    values: dict[str, object] = {"component": "shop-db", "stage": "databases", "database": "shop"}
    return DesiredDatabase(**{**values, **more})  # type: ignore[arg-type]


def desired(
    *modules: DesiredModule,
    databases: Sequence[DesiredDatabase] = (),
    stages: Sequence[str] = ("databases", "migrations"),
) -> DesiredState:
    return DesiredState(
        environment="production",
        deployment="eu",
        commit="c" * 40,
        postgres=SecretReference(env="SHOP_DSN"),
        stages=tuple(stages),
        databases=tuple(databases) or (database(),),
        modules=modules,
    )


def catalog_object(kind: ObjectKind, name: str, definition: str = "{}") -> CatalogObject:
    return CatalogObject(kind, name, definition, Fingerprint(sha(definition)))


def catalog(*objects: CatalogObject) -> Catalog:
    return Catalog({item.identity: item for item in objects})


def base_line(*objects: CatalogObject, **more: object) -> BaseLine:
    values: dict[str, object] = {
        "moving": False,
        "identity": IDENTITY,
        "algorithm": 1,
        "probe": "probe",
        "objects": dict(catalog(*objects).objects),
    }
    return BaseLine(**{**values, **more})  # type: ignore[arg-type]


def tracked_database(*modules: TrackedModule, **more: object) -> TrackedDatabase:
    values: dict[str, object] = {
        "installed": True,
        "version": 1,
        "modules": {item.project: item for item in modules},
        "base_line": base_line(),
    }
    return TrackedDatabase(**{**values, **more})  # type: ignore[arg-type]


def live_database(**more: object) -> LiveDatabase:
    values: dict[str, object] = {
        "exists": True,
        "empty": False,
        "identity": IDENTITY,
        "available_extensions": frozenset({"citext", "pg_trgm"}),
        "probe": "probe",
    }
    return LiveDatabase(**{**values, **more})  # type: ignore[arg-type]


def states(tracked: TrackedDatabase, live: LiveDatabase) -> tuple[TrackedState, LiveState]:
    return (
        TrackedState(databases={"shop": tracked}),
        LiveState(server_major=18, databases={"shop": live}),
    )
