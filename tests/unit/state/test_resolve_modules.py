"""Several modules of one environment resolved together: requirements, targets, circles."""

import pytest

from reconciler.errors import SpecError
from reconciler.spec.parse import parse_file
from reconciler.state.desired import DesiredModule
from reconciler.state.resolve import resolve

WHO = "2026-01-31T12:00:00Z Ann Example <ann@example.com>"
HEAD = """
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  deployments:
    - {name: eu, postgres: {dsn: {env: EU}}}
  components:
    - {name: db, kind: Database, database: shop}
"""


def resolved(modules: dict[str, str], files: dict[str, str]) -> dict[str, DesiredModule]:
    """Resolve modules: by name what their component says beside, and plans and control files by path."""
    rows = [
        f"    - {{name: {name}-schema, kind: Module, database: {{from: db}}, path: {name}{more}}}\n"
        for name, more in modules.items()
    ]
    (parsed,) = parse_file("env.yaml", (HEAD + "".join(rows)).encode())
    assert parsed.spec is not None, parsed.problems
    source = {path: text.encode() for path, text in files.items()}
    for path, text in files.items():
        if path.endswith(".plan"):
            folder = path.rsplit("/", 1)[0]
            names = [line.split()[0] for line in text.split("\n\n", 1)[1].splitlines() if line]
            source |= {f"{folder}/deploy/{name}.sql": b"SELECT 1" for name in names if name[0] != "@"}
    found = resolve(parsed.spec, "eu", "c" * 40, source)
    return {module.project: module for module in found.modules}


def plan(project: str, *lines: str) -> str:
    return "\n".join([f"%project={project}", "", *(f"{line} {WHO}" for line in lines), ""])


def problems(modules: dict[str, str], files: dict[str, str]) -> list[str]:
    with pytest.raises(SpecError) as caught:
        resolved(modules, files)
    return [str(problem) for problem in caught.value.problems]


def test_a_control_file_names_modules_and_extensions() -> None:
    """Whatever is no module of the environment is an extension; both stay in the order of the file."""
    files = {
        "app/sqitch.plan": plan("app", "a1"),
        "app/app.control": "requires = 'uuid-ossp, base-module, PostGIS, other, citext'\n",
        "base/sqitch.plan": plan("base", "b1"),
        "base/base-module.control": "comment = 'called otherwise than its project'\n",
        "other/pgpm.plan": plan("other", "o1"),
    }
    app = resolved({"app": "", "base": "", "other": ""}, files)["app"]
    assert app.requires_modules == ("base", "other")
    assert app.requires_extensions == ("uuid-ossp", "PostGIS", "citext")


@pytest.mark.parametrize(
    ("files", "path"),
    [
        (
            {
                "a/sqitch.plan": plan("a", "a1"),
                "a/a.control": "requires = 'b'",
                "b/sqitch.plan": plan("b", "b1"),
                "b/b.control": "requires = 'a'",
            },
            "a -> b -> a",
        ),
        (
            {"a/sqitch.plan": plan("a", "a1 [b:@v1]"), "b/sqitch.plan": plan("b", "b1 [a:a1]", "b2", "@v1")},
            "a:a1 -> b:b2 -> b:b1 -> a:a1",
        ),
    ],
)
def test_circles_are_named_in_full(files: dict[str, str], path: str) -> None:
    """Modules, and changes of several modules, that require each other are refused with the whole path."""
    (problem,) = problems({"a": "", "b": ""}, files)
    assert problem.startswith(f"a/sqitch.plan: these modules and changes require each other: {path} (")


def test_targets_that_are_not_there_are_told_together() -> None:
    """A target that names nothing, too much, or lies outside is a problem of the spec like any other."""
    files = {
        "a/sqitch.plan": plan("a", "a1", "@v1", "a1"),
        "b/sqitch.plan": plan("b", "b1"),
        "c/sqitch.plan": plan("c", "c1"),
        "a/deploy/a1@v1.sql": "SELECT 1",
    }
    outside = "'@HEAD^2' lies outside of c/sqitch.plan: 0 changes stand before '@HEAD'"
    assert problems({"a": ", to: a1", "b": ", to: '@v9'", "c": ", to: '@HEAD^2'"}, files) == [
        "a/sqitch.plan: target 'a1': 'a1' stands for 2 changes of a/sqitch.plan (say which: a1@HEAD, a1@v1)",
        "b/sqitch.plan: target '@v9': there is no '@v9' in b/sqitch.plan",
        f"c/sqitch.plan: target '@HEAD^2': {outside}",
    ]


def test_a_target_may_be_counted_from_another() -> None:
    """`to:` takes whatever a command takes."""
    files = {"a/sqitch.plan": plan("a", "a1", "a2", "@v1", "a3")}
    found = resolved({"a": ", to: 'a:@v1^'"}, files)["a"]
    assert [change.name for change in found.changes] == ["a1"]
    assert [name for _id, name in found.beyond_target] == ["a2", "a3"]


def test_both_instances_of_a_rework_are_desired_each_with_its_script() -> None:
    """The older one comes first, with the script that is named for its tag."""
    files = {
        "a/sqitch.plan": plan("a", "x", "@v1", "x [x@v1]"),
        "a/deploy/x@v1.sql": "SELECT 'older'",
    }
    found = resolved({"a": ""}, files)["a"]
    scripts = [(change.name, change.deploy.path, change.tags[:1]) for change in found.changes]
    assert [row[:2] for row in scripts] == [("x@v1", "a/deploy/x@v1.sql"), ("x", "a/deploy/x.sql")]
    assert [tag for _id, tag in found.changes[0].tags] == ["v1"]
