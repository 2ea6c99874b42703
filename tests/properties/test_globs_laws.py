"""Laws of globs: what they find depends on the files and the globs alone, not on their order."""

from hypothesis import given
from hypothesis import strategies as st

from reconciler.changes.folders import module_folders
from reconciler.errors import SpecError
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.globs import expanded

FOLDERS = tuple(f"{top}/{name}" for top in ("modules", "extensions", "packages") for name in "abcd")
GLOBS = ("modules/*", "extensions/*", "packages/*", "*/a", "*/[bc]", "**", "packages/**", "modules/b")


def spec(globs: list[str]) -> EnvironmentSpec:
    return EnvironmentSpec.model_validate(
        {
            "apiVersion": "reconciler/v1",
            "kind": "Environment",
            "metadata": {"name": "production"},
            "spec": {
                "deployments": [{"name": "eu", "postgres": {"dsn": {"env": "EU"}}}],
                "components": [
                    {"name": "db", "kind": "Database", "database": "shop"},
                    {"name": "all", "kind": "Module", "database": {"from": "db"}, "modules": globs},
                    {"name": "own", "kind": "Module", "database": {"from": "db"}, "path": "modules/b"},
                ],
            },
        }
    )


def outcome(globs: list[str], files: dict[str, bytes]) -> str:
    try:
        return expanded(spec(globs), module_folders(files)).model_dump_json()
    except SpecError as error:
        return "\n".join(sorted(f"{problem.message}{problem.hint}" for problem in error.problems))


@given(
    folders=st.lists(st.sampled_from(FOLDERS), min_size=1, unique=True),
    globs=st.lists(st.sampled_from(GLOBS), min_size=1, max_size=4, unique=True),
    data=st.data(),
)
def test_expansion_does_not_know_orders(folders: list[str], globs: list[str], data: st.DataObject) -> None:
    """Files and globs in any order give the same components, byte for byte, or the same problems."""
    files = {f"{folder}/pgpm.plan": f"%project={folder.replace('/', '-')}\n".encode() for folder in folders}
    shuffled = dict(data.draw(st.permutations(list(files.items()))))
    assert outcome(globs, files) == outcome(data.draw(st.permutations(globs)), shuffled)


@given(folders=st.lists(st.sampled_from(FOLDERS), min_size=1, unique=True))
def test_each_folder_is_found_once(folders: list[str]) -> None:
    """However many globs find a folder, it is one module; one with a component of its own is left to that."""
    files = {f"{folder}/sqitch.plan": f"%project={folder.replace('/', '-')}\n".encode() for folder in folders}
    found = expanded(spec(["**", "**/*"]), module_folders(files))
    assert sorted(part.path or "" for part in found.modules) == sorted({*folders, "modules/b"})
