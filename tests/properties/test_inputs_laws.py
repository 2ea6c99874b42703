"""Equal inputs mean equal desired states, whatever was changed in between; unlike ones may mean anything."""

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import SpecError
from reconciler.planner.view import Parsing, Resolving, SourceView
from reconciler.source.tree import SourceTree, blob_id
from reconciler.state.contents import Contents, Remembered
from reconciler.state.desired import DesiredState

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {{name: {name}}}
spec:
  deployments:
    - {{name: eu, postgres: {{dsn: {{env: SHOP_DSN}}}}}}
    - {{name: us, postgres: {{dsn: {{env: SHOP_DSN}}}}, variables: {{module: b}}}}
  variables: {{module: a}}
  components:
    - {{name: db, kind: Database, database: {name}}}
    - {{name: m, kind: Module, database: {{from: db}}, path: "{path}"{to}}}
"""
PLAN = "%syntax-version=1.0.0\n%project={name}\n\n{changes}"
LINE = "{name} 2026-01-01T00:00:00Z A <a@example.org> # n\n"
SPECS = [
    SPEC.format(name=name, path=path, to=to)
    for name in ("shop", "blog")
    for path in ("modules/${module}", "modules/a", "modules", ".")
    for to in ("", ", to: one")
]
PROGRAMS = """\
    - name: web
      kind: Service
      runtime: {container: {build: {context: "modules/${module}", dockerfile: sqitch.plan}}}
    - {name: seed, kind: Job, inputs: ["**/one.sql", "sql/*"], runtime: {process: {command: [seed]}}}
"""
SPECS += [text + PROGRAMS for text in SPECS[:2]]
FOLDERS = ("", "modules", "modules/a", "modules/b", "modules/ab", "sql")
CONTENTS: Mapping[str, list[str]] = {
    "sqitch.plan": [
        PLAN.format(name=name, changes="".join(LINE.format(name=each) for each in changes))
        for name in ("a", "b")
        for changes in (("one",), ("one", "two"), ("one", "sub/../two"))
    ],
    "pgpm.plan": [PLAN.format(name="a", changes=LINE.format(name="one"))],
    "sqitch.conf": ["[core]\n\ttop_dir = ../../sql\n", "[core]\n\tplan_file = ../b/sqitch.plan\n", "["],
    "a.control": ["requires = 'citext'\n", "requires = 'b'\n"],
    "x.control": ["requires = 'citext'\n"],
    **{
        f"{kind}/{name}.sql": ["CREATE TABLE t ();", "SELECT 1;", "not sql", "-- verify: writes\nSELECT 1;"]
        for kind in ("deploy", "revert", "verify")
        for name in ("one", "two")
    },
}
BASE = {
    "environments/shop.yaml": SPECS[0],
    **{
        f"modules/{name}/{path}": content
        for name in ("a", "b")
        for path, content in {
            "sqitch.plan": PLAN.format(name=name, changes=LINE.format(name="one") + LINE.format(name="two")),
            "deploy/one.sql": "CREATE TABLE one ();",
            "deploy/two.sql": "CREATE TABLE two ();",
        }.items()
    },
}


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, str | None]:
    if draw(st.integers(0, 4)) == 0:
        file = draw(st.sampled_from(["environments/shop.yaml", "environments/more.yaml"]))
        return file, draw(st.sampled_from([*SPECS, f"{SPECS[0]}---\n{SPECS[8]}", "{", None]))
    folder, name = draw(st.sampled_from(FOLDERS)), draw(st.sampled_from(sorted(CONTENTS)))
    return f"{folder}/{name}".lstrip("/"), draw(st.sampled_from([*CONTENTS[name], None]))


def edited(files: Mapping[str, str], changes: list[tuple[str, str | None]]) -> dict[str, str]:
    found = dict(files)
    for path, text in changes:
        found.pop(path, None)
        if text is not None:
            found[path] = text
    return found


def view_of(files: Mapping[str, str]) -> SourceView:
    contents = {path: text.encode() for path, text in files.items()}
    tree = SourceTree(
        commit="1" * 40,
        files=contents,
        blobs={path: blob_id(content, like="0" * 40) for path, content in contents.items()},
        skipped=(),
    )
    return Parsing(restrict=lambda _source, parsed: parsed).view("site", tree, "environments")


def meant(view: SourceView, name: str, remembered: Remembered | None = None) -> list[DesiredState] | str:
    """What an environment is to be, or what is wrong with it."""
    parsed = view.environments[name]
    if parsed.spec is None:
        return repr(parsed.problems)
    try:
        return Resolving(remembered=remembered).states(view, parsed.spec)
    except SpecError as error:
        return str(error)


@given(st.lists(edits(), max_size=5), st.lists(edits(), min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_equal_inputs_mean_equal_states(
    before: list[tuple[str, str | None]], after: list[tuple[str, str | None]]
) -> None:
    """Whatever a commit changes, an environment whose digest stays is to be what it was."""
    files = edited(BASE, before)
    one, two = view_of(files), view_of(edited(files, after))
    assert set(one.inputs) == set(one.environments)
    for name in set(one.inputs) & set(two.inputs):
        if one.inputs[name] == two.inputs[name]:
            assert meant(one, name) == meant(two, name)


@given(st.lists(edits(), max_size=5), st.lists(edits(), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_what_is_kept_changes_nothing(
    before: list[tuple[str, str | None]], after: list[tuple[str, str | None]]
) -> None:
    """Resolved with what an earlier commit left in memory, an environment is the same as resolved alone."""
    files = edited(BASE, before)
    one, two = view_of(files), view_of(edited(files, after))
    kept = Resolving()
    for view in (one, two, one):
        for name, parsed in view.environments.items():
            if parsed.spec is None:
                continue
            try:
                found: list[DesiredState] | str = kept.states(view, parsed.spec)
            except SpecError as error:
                found = str(error)
            assert found == meant(view, name)


@given(st.lists(edits(), max_size=5), st.lists(st.lists(edits(), max_size=3), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_what_is_remembered_changes_nothing(
    before: list[tuple[str, str | None]], commits: list[list[tuple[str, str | None]]]
) -> None:
    """Whatever commits change, an environment is to be the same with and without what was kept before."""
    files, written = edited(BASE, before), dict[str, bytes]()
    for changes in ([], *commits):
        files = edited(files, changes)
        view, known = view_of(files), Contents(written.get, "us")
        for name in view.environments:
            assert meant(view, name, Remembered(contents=known)) == meant(view, name)
        written |= dict(known.written())
