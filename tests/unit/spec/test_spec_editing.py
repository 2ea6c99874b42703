"""Edits of stages: what each does to the text of a spec, and what it refuses."""

# ruff: noqa: E501 - tables are read by the row

import pytest

from reconciler.errors import Conflict, NotFound, Refused, SpecError
from reconciler.spec.editing import (
    Beside,
    CreateStage,
    DeleteStage,
    Edit,
    EditStage,
    MoveComponents,
    SkipComponents,
    SpecFile,
    declared,
    edited,
    listed,
    spec_of,
)

HEAD = """\
# Shops of the north.
apiVersion: reconciler/v1
kind: Environment
metadata: {name: shop}   # one of two
"""
BLOCK = (
    HEAD
    + """\
spec:
    deployments: [{name: eu, postgres: {dsn: {env: EU_DSN}}}]

    stages:   # in run order
    # where data lives
    - name: data    # servers too
      description: 'databases, mostly'

    # -- what fills it --
    # twice a day
    - name: fill
    - {name: idle}

    components:
      # the first one
      - name: shop-db
        kind: Database
        stage: data
        database: shop   # not shops
      - name: shop-schema
        kind: Module
        stage: "fill"
        database: {from: shop-db}
        path: modules/shop
      - {name: more, kind: Module, stage: fill, after: [shop-schema], database: {from: shop-db}, path: more}
# the end"""
)
PLAIN = (
    HEAD
    + """\
spec:
  # where it lives
  deployments:
    - {name: eu, postgres: {dsn: {env: EU_DSN}}}
  components:
    - {name: shop-db, kind: Database, database: shop}
    - name: shop-schema
      kind: Module
      database: {from: shop-db}
      path: modules/shop
"""
)
FLOW = (
    HEAD
    + "spec: {stages: [{name: data},\n    {name: fill}, {name: idle}], deployments: [{name: eu, postgres: "
    "{dsn: {env: EU_DSN}}}],\n  components: [{name: shop-db, kind: Database, stage: data, database: shop}]}\n"
)


def made(text: str, edit: Edit) -> str:
    return edited(SpecFile(name="f.yaml", content=text.encode()), "shop", edit).decode()


def stages_of(text: str) -> list[str]:
    return [stage.name for stage in spec_of(SpecFile(name="f.yaml", content=text.encode()), "shop").stages]


def changed(before: str, after: str) -> tuple[list[str], list[str]]:
    """The lines that were there and are not, and those that are new."""
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


def test_a_stage_is_added_behind_the_others_as_they_are_written() -> None:
    """A new stage is the last one, and looks like the one above it."""
    assert changed(BLOCK, made(BLOCK, CreateStage(name="late"))) == ([], ["    - {name: late}"])
    new = ["    - {name: late, description: 'at night, mostly'}".replace("'", '"')]
    assert changed(BLOCK, made(BLOCK, CreateStage(name="late", description="at night, mostly")))[1] == new


def test_a_stage_is_added_beside_another() -> None:
    """It stands right before or after the one that is named."""
    before = made(BLOCK, CreateStage(name="x", description="a: b", place=Beside(stage="fill", after=False)))
    assert stages_of(before) == ["data", "x", "fill", "idle"]
    assert changed(BLOCK, before)[1] == ["    - name: x", '      description: "a: b"']
    assert before.index("name: x") < before.index("# -- what fills it --") < before.index("name: fill")
    first = made(BLOCK, CreateStage(name="x", place=Beside(stage="data", after=False)))
    assert stages_of(first) == ["x", "data", "fill", "idle"]


def test_the_default_stages_are_written_out_before_one_is_edited() -> None:
    """A spec that names no stages gets those it has had, with the new one, and nothing else changes."""
    text = made(PLAIN, CreateStage(name="late", description="at night"))
    gone, new = changed(PLAIN, text)
    assert gone == []
    assert new[:3] == [
        "  stages:",
        "    - name: servers",
        "      description: services that databases live on",
    ]
    assert new[-2:] == ["    - name: late", "      description: at night"]
    names = ["servers", "databases", "migrations", "objects", "jobs", "services", "routes"]
    assert stages_of(text) == [*names, "late"]
    left = [name for name in names if name != "jobs"]
    flow = FLOW.replace("stages: [{name: data},\n    {name: fill}, {name: idle}], ", "")
    assert stages_of(made(flow.replace("stage: data, ", ""), DeleteStage(name="jobs"))) == left
    empty = PLAIN.replace("  # where", "  stages:   # none yet\n  # where")
    assert stages_of(made(empty, DeleteStage(name="jobs"))) == left


def test_a_renamed_stage_keeps_who_is_in_it() -> None:
    """Every component that named it names it anew, quoted as it was; who had it by default names it now."""
    gone, new = changed(BLOCK, made(BLOCK, EditStage(name="fill", new_name="migrate")))
    assert gone == ["    - name: fill", '        stage: "fill"', BLOCK.splitlines()[-2]]
    assert new == [
        "    - name: migrate",
        '        stage: "migrate"',
        BLOCK.splitlines()[-2].replace("fill", "migrate"),
    ]
    text = made(PLAIN, EditStage(name="migrations", new_name="changes"))
    assert "      kind: Module\n      stage: changes\n" in text
    assert "database: shop}" in text


def test_a_description_is_set_replaced_and_cleared() -> None:
    """The description alone can be edited, and quotes stay as they were."""
    text = made(BLOCK, EditStage(name="data", description="it's all"))
    assert changed(BLOCK, text) == (
        ["      description: 'databases, mostly'"], ["      description: 'it''s all'"]
    )  # fmt: skip
    assert "description" not in made(BLOCK, EditStage(name="data", description=""))
    assert "    - {name: idle, description: waits}" in made(
        BLOCK, EditStage(name="idle", description="waits")
    )
    odd = 'line\nbreak "and" \\ tab\t\u2028\U0001f600 \U000e0001'
    text = made(BLOCK, EditStage(name="fill", description=odd))
    assert spec_of(SpecFile(name="f", content=text.encode()), "shop").stages[1].description == odd


@pytest.mark.parametrize("text", [BLOCK, FLOW], ids=["lines", "braces"])
def test_a_stage_is_moved_right_beside_another(text: str) -> None:
    """The others keep their order, and moving it to where it is changes nothing."""
    place = Beside(stage="data", after=False)
    assert stages_of(made(text, EditStage(name="idle", place=place))) == ["idle", "data", "fill"]
    assert stages_of(made(text, EditStage(name="fill", place=Beside(stage="idle", after=True)))) == [
        "data", "idle", "fill"
    ]  # fmt: skip
    assert made(text, EditStage(name="fill", place=Beside(stage="data", after=True))) == text
    with pytest.raises(Refused, match="cannot stand beside itself"):
        made(text, EditStage(name="data", place=place))


def test_a_comment_above_a_stage_goes_with_it() -> None:
    """What stands right above its dash, as far in, is moved with it; a blank line and what is above stay."""
    text = made(BLOCK, EditStage(name="fill", place=Beside(stage="idle", after=True)))
    assert "    # -- what fills it --\n    # twice a day\n    - name: fill\n\n    components:" in text
    assert sorted(text.splitlines()) == sorted(BLOCK.splitlines())


def test_a_stage_that_is_in_use_is_not_deleted() -> None:
    """Who would be without a stage is named; a stage that nobody is in goes, and comments stay."""
    with pytest.raises(Refused, match="'shop-schema', 'more' would have no stage"):
        made(BLOCK, DeleteStage(name="fill"))
    with pytest.raises(Refused, match="'shop-schema' would have no stage"):
        made(PLAIN, DeleteStage(name="migrations"))
    assert changed(BLOCK, made(BLOCK, DeleteStage(name="idle"))) == (["    - {name: idle}"], [])
    only = FLOW.replace(",\n    {name: fill}, {name: idle}", "")
    moved = only.replace(
        "components: [{name: shop-db, kind: Database, stage: data, database: shop}]", "components: []"
    )
    with pytest.raises(Refused, match="is the only one"):
        made(moved, DeleteStage(name="data"))


def test_components_of_every_kind_move() -> None:
    """A component that names its stage, one that does not and one in braces end up in the stage."""
    text = made(BLOCK, MoveComponents(names=("shop-schema", "more", "more"), stage="idle"))
    spec = spec_of(SpecFile(name="f.yaml", content=text.encode()), "shop")
    assert [spec.stage_of(each) for each in spec.components] == ["data", "idle", "idle"]
    assert '        stage: "idle"' in text
    named = made(PLAIN, MoveComponents(names=("shop-db",), stage="servers"))
    assert "{name: shop-db, kind: Database, stage: servers, database: shop}" in named
    assert made(PLAIN, MoveComponents(names=("shop-db",), stage="databases")) == PLAIN


def test_a_flag_that_stands_first_is_taken_away_too() -> None:
    """Wherever `skip` stands in a component, taking it away leaves the others and every comment."""
    first = BLOCK.replace("- name: shop-db\n", "- skip: true   # for now\n        name: shop-db\n")
    text = made(first, SkipComponents(names=("shop-db",), skip=False))
    assert spec_of(SpecFile(name="f", content=text.encode()), "shop").components[0].name == "shop-db"
    assert "# for now" in text
    plain = BLOCK.replace("- name: shop-db\n", "- skip: true\n        name: shop-db\n")
    assert made(plain, SkipComponents(names=("shop-db",), skip=False)) == BLOCK
    said = BLOCK.replace("kind: Database\n", "kind: Database\n        skip: false\n")
    assert "        skip: true\n" in made(said, SkipComponents(names=("shop-db",), skip=True))


def test_what_would_be_no_sound_spec_is_not_given() -> None:
    """A component that leaves those it comes after, and one that comes before its database, is refused."""
    with pytest.raises(SpecError, match="after orders components of one stage"):
        made(BLOCK, MoveComponents(names=("more",), stage="idle"))
    with pytest.raises(SpecError, match="shop-db"):
        made(BLOCK, EditStage(name="fill", place=Beside(stage="data", after=False)))
    broken = BLOCK.replace("kind: Module", "kind: Modul")
    with pytest.raises(SpecError, match="unknown kind"):
        made(broken, CreateStage(name="late"))


def test_names_that_are_not_there_are_told() -> None:
    """A wrong name is answered with the near one, a name that is taken or not sound is refused."""
    with pytest.raises(NotFound, match="did you mean 'idle'"):
        made(BLOCK, DeleteStage(name="idel"))
    with pytest.raises(NotFound, match="did you mean 'shop-db'"):
        made(BLOCK, MoveComponents(names=("shop-bd",), stage="idle"))
    with pytest.raises(NotFound, match="no stage 'x'"):
        made(BLOCK, MoveComponents(names=("shop-db",), stage="x"))
    with pytest.raises(Conflict, match="already has a stage 'fill'"):
        made(BLOCK, CreateStage(name="fill"))
    with pytest.raises(SpecError, match="not a valid name"):
        made(BLOCK, EditStage(name="fill", new_name="Fill"))
    with pytest.raises(NotFound, match="does not declare environment 'shops'"):
        spec_of(SpecFile(name="f.yaml", content=BLOCK.encode()), "shops")


def test_one_document_of_several_is_edited() -> None:
    """The others of the file keep every byte, also with the ends of lines of another system."""
    other = HEAD.replace("shop}", "other}") + PLAIN.removeprefix(HEAD)
    text = f"---\n{other}---\n{BLOCK}\n...\n---\n{other.replace('other}', 'third}')}"
    new = made(text, CreateStage(name="late"))
    assert changed(text, new) == ([], ["    - {name: late}"])
    windows = text.replace("\n", "\r\n")
    assert made(windows, CreateStage(name="late")) == new.replace("\n", "\r\n")
    content = b"\xef\xbb\xbf" + text.encode()
    file = SpecFile(name="f.yaml", content=content)
    assert edited(file, "shop", CreateStage(name="late")) == b"\xef\xbb\xbf" + new.encode()
    assert declared(file) == ("other", "shop", "third")


def test_what_anchors_would_change_too_is_refused() -> None:
    """Where an edit cannot be kept to one place, nothing is edited, and the line is told."""
    shared = BLOCK.replace("- name: fill\n", "- name: fill\n      description: &said twice\n").replace(
        "- {name: idle}", "- {name: idle, description: *said}"
    )
    with pytest.raises(SpecError, match=r"f\.yaml:1\d: environment 'shop' cannot be edited by command"):
        made(shared, EditStage(name="fill", description="once"))
    alias = PLAIN.replace(
        "  components:", "  stages: &all [{name: databases}, {name: migrations}]\n  components:"
    )
    assert "{name: late}" in made(alias, CreateStage(name="late"))
    assert "description: once" in made(shared, EditStage(name="idle", description="once"))


def test_a_list_shows_stages_in_run_order() -> None:
    """Inside a stage, who comes after another stands behind it, and else names decide."""
    text = BLOCK.replace("name: more,", "name: a-more,")
    found = listed(spec_of(SpecFile(name="f.yaml", content=text.encode()), "shop"))
    assert [(name, [each.name for each in parts]) for name, _description, parts in found] == [
        ("data", ["shop-db"]),
        ("fill", ["shop-schema", "a-more"]),
        ("idle", []),
    ]
    assert found[0][1] == "databases, mostly"


PROGRAMS = (
    HEAD
    + """\
spec:
  deployments: [{name: eu, postgres: {dsn: {env: EU_DSN}}}]
  components:
    - name: edge   # the way in
      kind: Route
      host: shop.example.com
      to: {from: web}
    - {name: web, kind: Service, runtime: {process: {command: [web], ports: [80]}}, env: {A: {from: api, output: port}}}
    - name: api
      kind: Service
      runtime: {process: {command: [api], ports: [{name: http}]}}
      env: {URL: {from: shop, output: url}, TOKEN: {from: seed, output: token}}
    - name: seed
      kind: Job
      runtime: {process: {command: [seed]}}
      outputs: [{name: token}]
    - {name: shop, kind: Database, database: shop, on: {from: pg}}
    - name: pg
      kind: Service
      runtime: {process: {command: [postgres], ports: [5432]}}
"""
)


def in_stages(text: str) -> dict[str, list[str]]:
    """Who is in each stage that is not empty, in the order that is shown."""
    found = listed(spec_of(SpecFile(name="f.yaml", content=text.encode()), "shop"))
    return {name: [each.name for each in parts] for name, _description, parts in found if parts}


def test_programs_are_listed_behind_what_they_use() -> None:
    """Stage, dependency, name: who takes an output or is led to stands behind, whatever it is called."""
    assert in_stages(PROGRAMS) == {
        "servers": ["pg"],
        "databases": ["shop"],
        "jobs": ["seed"],
        "services": ["api", "web"],
        "routes": ["edge"],
    }
    together = made(PROGRAMS, MoveComponents(names=("edge", "seed"), stage="services"))
    assert in_stages(together)["services"] == ["seed", "api", "web", "edge"]
    assert "- name: edge   # the way in\n" in together


def test_programs_are_moved_skipped_and_kept_in_use() -> None:
    """Every kind may be skipped, loses the flag when it moves, and keeps its stage from being deleted."""
    every = ("edge", "web", "api", "seed", "shop", "pg")
    skipped = made(PROGRAMS, SkipComponents(names=every, skip=True))
    spec = spec_of(SpecFile(name="f.yaml", content=skipped.encode()), "shop")
    assert all(part.skip for part in spec.components)
    assert made(skipped, SkipComponents(names=every, skip=True)) == skipped
    assert made(skipped, SkipComponents(names=every, skip=False)) == PROGRAMS
    moved = made(skipped, MoveComponents(names=("edge", "seed"), stage="services"))
    spec = spec_of(SpecFile(name="f.yaml", content=moved.encode()), "shop")
    assert {part.name for part in spec.components if not part.skip} == {"edge", "seed"}
    for stage, name in (("servers", "pg"), ("jobs", "seed"), ("services", "web"), ("routes", "edge")):
        with pytest.raises(Refused, match=f"'{name}' would have no stage|'{name}'"):
            made(PROGRAMS, DeleteStage(name=stage))


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (MoveComponents(names=("pg",), stage="services"), "'pg' is in stage 'services', after stage 'databases'"),
        (MoveComponents(names=("api",), stage="servers"), "'shop' is in stage 'databases', after stage 'servers'"),
        (MoveComponents(names=("seed",), stage="routes"), "'seed' is in stage 'routes', after stage 'services'"),
        (MoveComponents(names=("edge",), stage="jobs"), "'web' is in stage 'services', after stage 'jobs'"),
        (EditStage(name="routes", place=Beside(stage="services", after=False)), "after stage 'routes'"),
    ],
)  # fmt: skip
def test_nothing_is_moved_before_what_it_uses(edit: Edit, told: str) -> None:
    """An edit that would have a component use what a later stage makes is refused."""
    with pytest.raises(SpecError, match=told):
        made(PROGRAMS, edit)
