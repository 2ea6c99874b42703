"""`reconciler objects test|explain`: unit tests and lineage of SQL objects in a work tree; asks no daemon."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.module_test import from_environment, values_of
from reconciler.cli.object_projects import Asked, Chosen, choose
from reconciler.cli.output import Screen, printable, printable_lines
from reconciler.errors import NotFound, Refused
from reconciler.frozen import frozen

TIMEOUT_S = 60

Environment = Annotated[
    str | None, typer.Option("--environment", metavar="ENV", help="Only this environment.")
]
Deployment = Annotated[
    str | None,
    typer.Option(help="As this deployment has them; else the first of each environment."),
]
Component = Annotated[str | None, typer.Option(help="Only this component.")]
Specs = Annotated[
    str, typer.Option("--path", metavar="FOLDER", help="Where the specs are, from the top of the source.")
]
Folder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="In place of specs: the objects below a folder.")
]
External = Annotated[
    list[str] | None,
    typer.Option("--external", metavar="RELATION", help="With --folder: a relation outside of it."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="With --folder: a variable of the files."),
]


def add(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        help="SQL objects: their unit tests, and what they are made from.", no_args_is_help=True
    )
    register(group, "test")(try_out)
    register(group, "explain")(explain)
    app.add_typer(group, name="objects")


def try_out(
    common: Common,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]…", help="SCHEMA.OBJECT or SCHEMA.OBJECT#TEST, with *; else all."),
    ] = None,
    *,
    environment: Environment = None,
    deployment: Deployment = None,
    component: Component = None,
    specs: Specs = "environments",
    folder: Folder = None,
    external: External = None,
    set_: Set = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="In the databases of the deployments, in transactions that are undone."),
    ] = False,
    dsn_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The environment variable with the connection string of the server for scratch databases; "
            "else a server of its own.",
        ),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the results as JUnit XML too.")
    ] = None,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that one statement may take.")] = TIMEOUT_S,
) -> ExitCode:
    """Run the unit tests of SQL objects, over nothing but their mocks; exit with 5 where any fails."""
    from reconciler.daemon.object_looks import Trial, run_trials
    from reconciler.execution.unit_test_runs import UnitTestRun
    from reconciler.postgres.connection import Dsn

    if live and (dsn_env is not None or folder is not None):
        raise typer.BadParameter("needs a spec, and no other server", param_hint="--live")
    chosen = choose(
        _asked(specs, environment, deployment, component, folder=folder, external=external, set_=set_)
    )
    picked = [(each, tests) for each, tests in _picked(chosen, names or []) if tests]
    server = Dsn(from_environment(dsn_env)) if dsn_env is not None else None
    trials = [
        Trial(
            run=UnitTestRun(project=each.project, chosen=tests, extensions=each.extensions),
            place=_place(each, common.config) if live else None,
        )
        for each, tests in picked
    ]
    found: list[tuple[Chosen, Any]] = []

    def told(number: int, result: Any) -> None:
        found.append((picked[number][0], result))
        if common.output != "json":
            _tell(common.screen, result)

    if trials:
        run_trials(server, trials, timeout_s=timeout, told=told)
    return _ended(common, found, junit)


def explain(
    common: Common,
    name: Annotated[str, typer.Argument(metavar="NAME", help="SCHEMA.OBJECT, or the object alone.")],
    *,
    environment: Environment = None,
    deployment: Deployment = None,
    component: Component = None,
    specs: Specs = "environments",
    folder: Folder = None,
    external: External = None,
    set_: Set = None,
    live: Annotated[
        bool, typer.Option("--live", help="Compare with what is live in the database of the deployment.")
    ] = False,
    changed: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Say what follows if this object changed; may be repeated."),
    ] = None,
    redeploy_schema: Annotated[
        list[str] | None,
        typer.Option(metavar="SCHEMA", help="Say what follows if it is built anew; may be repeated."),
    ] = None,
) -> ExitCode:
    """Tell what an object reads and what reads it, and why it is built anew."""
    from reconciler.objects import lineage

    if live and (folder is not None or changed):
        raise typer.BadParameter("needs a spec, and nothing that is only supposed", param_hint="--live")
    chosen = choose(
        _asked(specs, environment, deployment, component, folder=folder, external=external, set_=set_)
    )
    one, wanted = _the_one(chosen, name)
    of = lineage.lineage(one.project, wanted)
    looked = live or bool(changed) or bool(redeploy_schema)
    place = _place(one, common.config) if live else None
    rebuilt = _rebuilt(one, place, changed or [], redeploy_schema or []) if looked else _Rebuilt()
    if common.output == "json":
        whose = {
            "environment": one.environment or None,
            "deployment": one.deployment or None,
            "component": one.component or None,
        }
        document = lineage.document(of, rebuilt.found, rebuilt.generation)
        common.screen.json({**whose, **document, "compared": looked})
    else:
        for line in lineage.lines(of, one.project, rebuilt.found, rebuilt.generation):
            common.screen.line(printable(line))
    return ExitCode.OK


def _asked(
    specs: str,
    environment: str | None,
    deployment: str | None,
    component: str | None,
    *,
    folder: Path | None,
    external: list[str] | None,
    set_: list[str] | None,
) -> Asked:
    named = [each for each in (environment, deployment, component) if each is not None]
    if folder is not None and named:
        raise typer.BadParameter("either a folder or what a spec says", param_hint="--folder")
    if folder is None and (external or set_):
        raise typer.BadParameter("the spec says that", param_hint="--external" if external else "--set")
    return Asked(
        specs=specs,
        environment=environment,
        deployment=deployment,
        component=component,
        folder=folder,
        externals=external or (),
        values=values_of(set_ or []),
    )


def _picked(chosen: Sequence[Chosen], names: Sequence[str]) -> list[tuple[Chosen, Any]]:
    """The tests of each project; a name has to match in one of them at least."""
    from reconciler.objects.unit_test_sql import selected

    missing: dict[str, NotFound] = {}
    matched: set[str] = set()
    picked = []
    for each in chosen:
        fitting = []
        for name in names:
            try:
                selected(each.project, [name])
                fitting.append(name)
            except NotFound as error:
                missing[name] = error
        matched.update(fitting)
        if fitting or not names:
            picked.append((each, selected(each.project, fitting)))
    unmatched = [missing[name] for name in names if name not in matched]
    if unmatched:
        raise unmatched[0]
    return picked


def _place(chosen: Chosen, config: str | None) -> Any:
    from reconciler import logs
    from reconciler.cli import settings_file
    from reconciler.daemon.object_looks import Place
    from reconciler.daemon.secrets import Secrets
    from reconciler.postgres.connection import Dsn

    if chosen.service is not None:
        raise Refused(
            f"database '{chosen.database}' lives on service '{chosen.service}', and this command does not "
            "look where that runs",
            hint="leave --live out",
        )
    is_encrypted = chosen.dsn is not None and chosen.dsn.age is not None
    keys = settings_file.load(config, os.environ).secrets.age_keys if is_encrypted else ()
    secret = Secrets(os.environ, logs.forbid, keys).for_spec(chosen.dsn)
    return Place(server=Dsn(secret), database=chosen.database)


def _tell(screen: Screen, result: Any) -> None:
    from reconciler.objects.unit_test_results import difference

    where = "" if result.outcome.value == "passed" else f" ({result.path}:{result.line})"
    screen.line(printable(f"{result.outcome.value} {result.title}{where}"))
    for line in difference(result) if result.rows else result.message.splitlines():
        screen.line(f"    {printable_lines(line)}")


def _ended(common: Common, found: Sequence[tuple[Chosen, Any]], junit: Path | None) -> ExitCode:
    from reconciler.objects import unit_test_results

    results = [result for _, result in found]
    if junit is not None:
        junit.write_text(unit_test_results.junit(results), encoding="utf-8")
    passed = all(result.outcome is unit_test_results.Outcome.PASSED for result in results)
    if common.output == "json":
        common.screen.json({"passed": passed, "tests": [_row(each, result) for each, result in found]})
    else:
        common.screen.note(unit_test_results.summary(results) if results else "there are no unit tests")
    return ExitCode.OK if passed else ExitCode.FAILED


def _row(chosen: Chosen, result: Any) -> dict[str, Any]:
    return {
        "environment": chosen.environment or None,
        "deployment": chosen.deployment or None,
        "component": chosen.component or None,
        "object": result.title.rpartition("#")[0],
        "test": result.test,
        "path": result.path,
        "line": result.line,
        "outcome": result.outcome.value,
        "columns": list(result.columns),
        "rows": [{"label": row.label, "values": list(row.values)} for row in result.rows],
        "message": result.message or None,
        "duration_seconds": round(result.duration_s, 3),
    }


def _the_one(chosen: Sequence[Chosen], name: str) -> tuple[Chosen, Any]:
    """The project that has an object of that name; of several for the same folder the first."""
    from reconciler.objects import lineage

    found: list[tuple[Chosen, Any]] = []
    failed: NotFound | None = None
    for each in chosen:
        try:
            found.append((each, lineage.find(name, each.project)))
        except NotFound as error:
            failed = failed or error
    if not found:
        assert failed is not None  # nothing is chosen where there is no project
        raise failed
    if len({each.project.path for each, _ in found}) > 1:
        places = ", ".join(dict.fromkeys(each.place for each, _ in found))
        raise Refused(f"several components have '{name}': {places}", hint="name one with --component")
    return found[0]


@frozen
class _Rebuilt:
    """What would be built anew, and how; both None where nobody asked."""

    found: Any = None
    generation: Any = None


def _rebuilt(chosen: Chosen, place: Any, changed: Sequence[str], forced: Sequence[str]) -> _Rebuilt:
    from reconciler.daemon.object_looks import live_production
    from reconciler.objects import generation, lineage
    from reconciler.objects.dirty import dirty, forced_schemas

    named = forced_schemas(forced, chosen.project)
    if place is not None:
        production = live_production(
            place,
            component=chosen.component,
            environment=chosen.environment,
            deployment=chosen.deployment,
        )
    else:
        production = as_built(chosen.project, [lineage.find(each, chosen.project) for each in changed])
    found = dirty(chosen.project, production, forced=named)
    return _Rebuilt(
        found=found, generation=generation.plan(chosen.project, production, found, key="explained")
    )


def as_built(project: Any, changed: Sequence[Any]) -> Any:
    """What would be live had a project been built, with other definitions of some of its objects."""
    from reconciler.objects.model import BuiltObject, Production

    return Production(
        objects={
            name: BuiltObject(
                name=name,
                sort=each.sort,
                hash=f"not {each.hash}" if name in changed else each.hash,
                metadata_hash=each.metadata_hash,
            )
            for name, each in project.objects.items()
        },
        schemas={name: each.stable for name, each in project.schemas.items()},
        schema_hashes={name: each.metadata_hash for name, each in project.schemas.items()},
    )
