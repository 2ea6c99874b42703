"""SQL objects of a commit: digested with what an environment is made from, and compiled once."""

from collections.abc import Mapping
from dataclasses import replace
from unittest import mock

import pytest

from reconciler.errors import SpecError
from reconciler.planner.view import Parsing, Resolving, SourceView
from reconciler.source.tree import Skipped, SourceTree, blob_id
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.objects import read_objects

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: shop}
spec:
  deployments:
    - {name: eu, postgres: {dsn: {env: EU}}, variables: {tier: gold}}
    - {name: us, postgres: {dsn: {env: US}}, variables: {tier: silver}}
  components:
    - {name: db, kind: Database, database: shop}
    - {name: reports, kind: Objects, database: {from: db}, path: objects/reports}
"""
FILES = {
    "environments/shop.yaml": SPEC,
    "objects/reports/reports/daily.sql": "CREATE VIEW daily AS SELECT 1 AS one",
    "objects/other/other/daily.sql": "CREATE VIEW daily AS SELECT 1 AS one",
}


def view(texts: Mapping[str, str], skipped: tuple[Skipped, ...] = ()) -> SourceView:
    contents = {path: text.encode() for path, text in texts.items()}
    tree = SourceTree(
        commit="1" * 40,
        files=contents,
        blobs={path: blob_id(content, like="0" * 40) for path, content in contents.items()},
        skipped=skipped,
    )
    return Parsing(restrict=lambda _source, parsed: parsed).view("site", tree, "environments")


def spec_of(viewed: SourceView) -> EnvironmentSpec:
    spec = viewed.environments["shop"].spec
    assert spec is not None, viewed.environments["shop"].problems
    return spec


@pytest.mark.parametrize(
    ("path", "text", "moves"),
    [
        ("objects/reports/reports/daily.sql", "CREATE VIEW daily AS SELECT 2 AS one", True),
        ("objects/reports/reports/late.sql", "CREATE VIEW late AS SELECT 2 AS one", True),
        ("objects/reports/reports.sql", "SET api = stable", True),
        ("objects/other/other/daily.sql", "CREATE VIEW daily AS SELECT 2 AS one", False),
        ("objects/reports2/a/b.sql", "CREATE VIEW b AS SELECT 2 AS one", False),
    ],
)
def test_files_of_objects_are_inputs(path: str, text: str, moves: bool) -> None:
    """What lies below the folder of a component moves the digests of who wants it, and nothing else does."""
    before, after = view(FILES), view({**FILES, path: text})
    assert (before.inputs != after.inputs) is moves
    of_place = [each.place_inputs(spec_of(each), "eu") for each in (before, after)]
    assert (of_place[0] != of_place[1]) is moves


def test_what_a_commit_has_as_a_link_is_no_file_that_is_absent() -> None:
    """A file that was left out moves the digest, and is told."""
    skipped = (Skipped(path="objects/reports/reports/late.sql", reason="it is a symbolic link"),)
    linked = view(FILES, skipped)
    assert linked.inputs != view(FILES).inputs
    with pytest.raises(SpecError, match=r"late\.sql: was not read: it is a symbolic link"):
        Resolving().states(linked, spec_of(linked))


def test_a_project_is_compiled_once_for_all_who_want_the_same() -> None:
    """Deployments share it unless a variable that its files use differs, and so do commits."""
    plain = view(FILES)
    used = view({**FILES, "objects/reports/reports/t.sql": "CREATE VIEW t AS SELECT :'tier' AS tier"})
    resolving = Resolving()
    with mock.patch("reconciler.planner.view.read_objects", wraps=read_objects) as compiled:
        eu, us = resolving.states(plain, spec_of(plain))
        assert eu.objects[0].project is us.objects[0].project
        assert compiled.call_count == 1
        moved = replace(plain, commit="2" * 40, places={})
        resolving.states(moved, spec_of(moved))
        assert compiled.call_count == 1
        eu, us = resolving.states(used, spec_of(used))
        assert eu.objects[0].project is not us.objects[0].project
        assert compiled.call_count == 3


def test_a_broken_project_is_told_anew_with_its_place() -> None:
    """What is kept of it are its problems, in files and in the spec where it stands now."""
    broken = view({**FILES, "objects/reports/reports/t.sql": "CREATE VIEW t AS SELECT * FROM nowhere"})
    resolving = Resolving()
    for _ in range(2):
        with pytest.raises(SpecError, match=r"t\.sql:1:32: undeclared external 'nowhere'"):
            resolving.states(broken, spec_of(broken))
    empty = view({"environments/shop.yaml": f"# moved\n{SPEC}"})
    with pytest.raises(SpecError, match=r"environments/shop\.yaml:11:66: .* no file below 'objects/reports'"):
        resolving.states(empty, spec_of(empty))


def test_a_spec_that_stands_in_no_commit_finds_its_objects_in_one() -> None:
    """Its folder need not be that of any environment of the commit."""
    plain = view(FILES)
    other = view({**FILES, "environments/shop.yaml": SPEC.replace("objects/reports", "objects/other")})
    for state in Resolving().unkept(plain, spec_of(other)):
        assert list(state.objects[0].project.schemas) == ["other"]
