"""Modules found by globs: what they become, what stays as declared, and what is wrong with its place."""

import pytest

from reconciler.errors import SpecError
from reconciler.spec.parse import ParsedEnvironment, parse_file
from reconciler.state.desired import DesiredState
from reconciler.state.resolve import resolve

WHO = "2026-01-31T12:00:00Z Ann Example <ann@example.com>"
HEAD = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  deployments:
    - {name: eu, postgres: {dsn: {env: EU}}, variables: {tier: gold}}
    - {name: us, postgres: {dsn: {env: US}}, variables: {tier: silver}}
  components:
    - {name: db, kind: Database, database: shop}
"""
ALL = "    - {name: all, kind: Module, database: {from: db}, modules: 'modules/*'}\n"


def parsed(*components: str) -> ParsedEnvironment:
    (found,) = parse_file("environments/shop.yaml", (HEAD + "".join(components)).encode())
    return found


def source(*folders: str, **projects: str) -> dict[str, bytes]:
    """Modules of one change, each with the project of its folder's name or another."""
    files = {}
    for folder in folders:
        name = folder.rpartition("/")[2]
        project = projects.get(name, name)
        files[f"{folder}/pgpm.plan"] = f"%project={project}\n\nfirst {WHO}\n".encode()
        files[f"{folder}/deploy/first.sql"] = b"SELECT 1"
    return files


def resolved(environment: ParsedEnvironment, files: dict[str, bytes], place: str = "eu") -> DesiredState:
    assert environment.spec is not None, environment.problems
    return resolve(environment.spec, place, "c" * 40, files)


def problems(environment: ParsedEnvironment, files: dict[str, bytes]) -> list[str]:
    with pytest.raises(SpecError) as caught:
        resolved(environment, files)
    return [str(problem) for problem in environment.placed(caught.value.problems)]


def test_every_folder_with_a_plan_becomes_a_module() -> None:
    """Each has the name of its project and all that its glob says; a folder without a plan is none."""
    text = (
        "    - {name: all, kind: Module, stage: objects, database: {from: db}, transaction: module, "
        "modules: ['modules/*', 'extensions/*', 'modules/b'], variables: {x: '1'}, "
        "divergence: {edited: fail}}\n"
    )
    files = source("modules/b", "extensions/a", b="Blog_API") | {"modules/none/README.md": b""}
    found = resolved(parsed(text), files).modules
    assert [(one.component, one.path, one.project) for one in found] == [
        ("a", "extensions/a", "a"),
        ("blog_api", "modules/b", "Blog_API"),
    ]
    for one in found:
        assert (one.stage, one.database, one.transaction) == ("objects", "shop", "module")
        assert one.divergence["edited"] == "fail"


def test_a_module_of_its_own_is_left_to_its_component() -> None:
    """What a glob finds and a component names by path is deployed once, as that component says."""
    own = "    - {name: special, kind: Module, database: {from: db}, path: modules/b/, to: first}\n"
    found = resolved(parsed(ALL, own), source("modules/a", "modules/b")).modules
    assert [(one.component, one.target) for one in found] == [("a", None), ("special", "first")]


def test_after_a_glob_is_after_all_its_modules() -> None:
    """The name of the component with globs stands for all that they find."""
    last = "    - {name: last, kind: Module, database: {from: db}, path: last, after: [all]}\n"
    found = resolved(parsed(ALL, last), source("modules/b", "modules/a", "last"))
    assert found.modules[-1].after == ("a", "b")


def test_variables_stand_in_globs() -> None:
    """Each deployment finds what its own variables say."""
    text = "    - {name: all, kind: Module, database: {from: db}, modules: 'modules/${tier}/*'}\n"
    files = source("modules/gold/a", "modules/silver/b")
    environment = parsed(text)
    assert [one.path for one in resolved(environment, files).modules] == ["modules/gold/a"]
    assert [one.path for one in resolved(environment, files, "us").modules] == ["modules/silver/b"]


def test_a_glob_that_finds_nothing_is_told_with_its_place() -> None:
    """The error has file and line, and says which folders there are."""
    text = """\
    - name: all
      kind: Module
      database: {from: db}
      modules:
        - modules/*
        - extension/*
"""
    (told,) = problems(parsed(text), source("modules/a"))
    assert told.startswith("environments/shop.yaml:15:")
    assert "no folder with a plan file matches 'extension/*'" in told
    assert "modules/a" in told


def test_names_that_collide_are_told_with_both_folders() -> None:
    """Two folders of one project, or one of a declared component's name, are no two components."""
    text = "    - {name: all, kind: Module, database: {from: db}, modules: ['*/*']}\n"
    found = problems(parsed(text), source("modules/a", "extensions/a", "modules/db", "modules/all"))
    assert len(found) == 3
    assert all(each.startswith("environments/shop.yaml:10:") for each in found)
    assert "the module in 'extensions/a' and the module in 'modules/a'" in found[0]
    assert "whose globs find it" in found[1]
    assert "called 'db': component 'db' and the module in 'modules/db'" in found[2]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("modules: '../x/*'", "'..'"),
        ("modules: '/x/*'", "relative to the root"),
        ("modules: '!x/*'", "negated"),
        ("modules: []", "must not be empty"),
        ("modules: 'a/*', to: first", "a target is one module's"),
        ("modules: 'a/*', path: a", "not both"),
        ("to: first", "'path' is missing"),
    ],
)
def test_what_a_glob_cannot_be_is_told_offline(keys: str, message: str) -> None:
    """Globs stay below the root, and stand in place of a path and a target."""
    found = parsed(f"    - {{name: all, kind: Module, database: {{from: db}}, {keys}}}\n")
    told = " ".join(f"{problem.message} {problem.hint}" for problem in found.problems)
    assert message in told
    assert all(problem.line == 10 for problem in found.problems)


def test_a_missing_requirement_of_a_found_module_is_told_as_any() -> None:
    """A project that no glob finds is for the plan to miss; the state is resolved."""
    files = source("modules/a")
    files["modules/a/pgpm.plan"] = f"%project=a\n\nfirst [other:x] {WHO}\n".encode()
    (found,) = resolved(parsed(ALL), files).modules
    assert found.changes[0].requires == ("other:x",)


def test_a_project_without_a_name_for_a_component_is_told() -> None:
    """A name that cannot be made is asked for."""
    files = {"modules/a/sqitch.plan": b"%project=___\n"}
    assert "gives no name for a component" in problems(parsed(ALL), files)[0]
