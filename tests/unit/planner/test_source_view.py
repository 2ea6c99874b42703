"""Commits by content: parsed, digested and resolved once, and anew whenever it matters."""

from collections.abc import Mapping
from dataclasses import replace
from unittest import mock

import pytest

from reconciler.errors import SpecError
from reconciler.planner import view as view_module
from reconciler.planner.view import Parsing, Resolving, SourceView
from reconciler.settings import AllowSettings, OwnSecrets
from reconciler.source.tree import Skipped, SourceTree, blob_id
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.listing import ReadFile
from reconciler.spec.parse import ParsedEnvironment, ParsedFile, parse_spec_file
from reconciler.spec.permissions import restrict
from reconciler.state.resolve import read_content, resolve

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {{name: {name}}}
spec:
  variables: {{tier: {tier}}}
  deployments:
    - name: eu
      postgres: {{dsn: {{env: {dsn}}}}}
    - name: us
      postgres: {{dsn: {{env: {dsn}}}}}
      variables: {{tier: silver}}
  components:
    - {{name: db, kind: Database, database: "{name}_${{deployment}}"}}
    - {{name: m, kind: Module, database: {{from: db}}, path: "modules/${{tier}}"}}
"""
PLAN = "%syntax-version=1.0.0\n%project={name}\n\none 2026-01-01T00:00:00Z A <a@example.org> # n\n"


def files(**changed: str) -> dict[str, str]:
    """Two environments, of which each deployment has a module of its own."""
    found = {
        "environments/shop.yaml": SPEC.format(name="shop", tier="gold", dsn="SHOP_DSN"),
        "environments/blog.yaml": SPEC.format(name="blog", tier="gold", dsn="SHOP_DSN"),
        "README.md": "hello",
    }
    for tier in ("gold", "silver"):
        found |= {
            f"modules/{tier}/sqitch.plan": PLAN.format(name=tier),
            f"modules/{tier}/deploy/one.sql": f"CREATE TABLE {tier} ();",
            f"modules/{tier}/revert/one.sql": f"DROP TABLE {tier};",
        }
    return {**found, **changed}


def tree(texts: Mapping[str, str], commit: str = "1") -> SourceTree:
    contents = {path: text.encode() for path, text in texts.items()}
    return SourceTree(
        commit=commit * 40,
        files=contents,
        blobs={path: blob_id(content, like="0" * 40) for path, content in contents.items()},
        skipped=(),
    )


def parsing() -> Parsing:
    return Parsing(restrict=lambda _source, parsed: parsed)


def view(texts: Mapping[str, str], commit: str = "1") -> SourceView:
    return parsing().view("site", tree(texts, commit), "environments")


def spec_of(viewed: SourceView, name: str) -> EnvironmentSpec:
    spec = viewed.environments[name].spec
    assert spec is not None, viewed.environments[name].problems
    return spec


def test_digests_do_not_depend_on_the_commit() -> None:
    """The same files at another commit have the same inputs."""
    assert view(files(), "1").inputs == view(files(), "2").inputs


@pytest.mark.parametrize(
    ("path", "text", "changed"),
    [
        ("environments/shop.yaml", SPEC.format(name="shop", tier="gold", dsn="OTHER_DSN"), {"shop"}),
        ("modules/gold/deploy/one.sql", "CREATE TABLE other ();", {"shop", "blog"}),
        ("modules/silver/deploy/one.sql", "CREATE TABLE other ();", {"shop", "blog"}),
        ("modules/silver/revert/one.sql", "SELECT 1;", {"shop", "blog"}),
        ("modules/silver/verify/one.sql", "SELECT 1;", {"shop", "blog"}),
        ("modules/gold/sqitch.conf", "[core]\n\ttop_dir = ../../sql\n", {"shop", "blog"}),
        ("modules/gold/gold.control", "requires = 'citext'\n", {"shop", "blog"}),
        ("modules/bronze/sqitch.plan", PLAN.format(name="bronze"), set()),
        ("modules/golden/sqitch.plan", PLAN.format(name="golden"), set()),
        ("README.md", "bye", set()),
    ],
)
def test_digest_changes_with_what_an_environment_is_made_from(
    path: str, text: str, changed: set[str]
) -> None:
    """A file that is read for an environment changes its digest, and no other file does."""
    before, after = view(files()).inputs, view(files(**{path: text})).inputs
    assert {name for name in before if before[name] != after[name]} == changed


def test_digest_covers_places_outside_of_the_module() -> None:
    """Scripts that a sqitch.conf puts elsewhere count as those of the module."""
    elsewhere = {
        "modules/gold/sqitch.conf": "[core]\n\tdeploy_dir = ../../sql\n",
        "sql/one.sql": "CREATE TABLE a ();",
    }
    before = view(files(**elsewhere))
    after = view(files(**{**elsewhere, "sql/one.sql": "CREATE TABLE b ();"}))
    assert before.inputs["shop"] != after.inputs["shop"]
    assert before.inputs["shop"] == view(files(**elsewhere, **{"sqlx/one.sql": ""})).inputs["shop"]
    (eu, _us) = Resolving().states(after, spec_of(after, "shop"))
    assert eu.modules[0].changes[0].deploy.text == "CREATE TABLE b ();"


@pytest.mark.parametrize(
    "path",
    ["modules/gold/verify/one.sql", "modules/gold/verify", "modules/gold/revert/one.sql", "modules/gold"],
)
def test_what_a_commit_has_as_a_link_is_an_error(path: str) -> None:
    """A script or folder that is left out of a commit moves the digest and is told, not taken for absent."""
    contents = {name: text for name, text in files().items() if not f"{name}/".startswith(f"{path}/")}
    resolving = Resolving()
    plain = view(contents)
    linked = parsing().view(
        "site",
        replace(tree(contents), skipped=(Skipped(path=path, reason="it is a symbolic link"),)),
        "environments",
    )
    assert linked.inputs["shop"] != plain.inputs["shop"]
    if path != "modules/gold":
        assert resolving.states(plain, spec_of(plain, "shop"))
    with pytest.raises(SpecError) as caught:
        resolving.states(linked, spec_of(linked, "shop"))
    assert f"'{path}" in str(caught.value)
    assert "was not read" in str(caught.value)
    assert "it is a symbolic link" in str(caught.value)


PROGRAMS = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: shop}
spec:
  deployments:
    - {name: eu, postgres: {dsn: {env: DSN}}}
    - {name: us, postgres: {dsn: {env: DSN}}}
  components:
    - {name: web, kind: Service, runtime: {container: {build: {context: "apps/${deployment}"}}}}
    - {name: seed, kind: Job, inputs: ["seed/*.csv"], runtime: {process: {command: [bin/seed]}}}
"""
APPS = {
    "environments/shop.yaml": PROGRAMS,
    "apps/eu/Dockerfile": "FROM scratch",
    "apps/us/Dockerfile": "FROM scratch",
    "seed/a.csv": "1",
    "seed/more/b.csv": "2",
}


@pytest.mark.parametrize(
    ("path", "moved", "rebuilt", "run"),
    [
        ("apps/eu/Dockerfile", {"eu"}, {"eu"}, False),
        ("apps/eu/deep/new", {"eu"}, {"eu"}, False),
        ("apps/europe/new", set(), set(), False),
        ("seed/a.csv", {"eu", "us"}, set(), True),
        ("seed/c.csv", {"eu", "us"}, set(), True),
        ("seed/more/b.csv", set(), set(), False),
        ("seed/.c.csv", set(), set(), False),
    ],
)
def test_files_of_builds_and_inputs_count_for_who_is_made_from_them(
    path: str, moved: set[str], rebuilt: set[str], run: bool
) -> None:
    """A deployment whose digest stays has the same hashes, and one of a changed context another image."""
    before, after = view(APPS), view({**APPS, path: "other"}, "2")
    spec = spec_of(before, "shop")
    places = [place.name for place in spec.deployments]
    assert after.alike(before, "shop") == set(places) - moved
    assert (before.inputs != after.inputs) == bool(moved)
    old, new = Resolving().states(before, spec), Resolving().states(after, spec_of(after, "shop"))
    pairs = list(zip(places, old, new, strict=True))
    images = {name: (one.programs.services[0], two.programs.services[0]) for name, one, two in pairs}
    assert {name for name, (one, two) in images.items() if one != two} == rebuilt
    assert all((one.programs.jobs != two.programs.jobs) == run for _name, one, two in pairs)


def test_a_source_and_plain_files_give_the_same_hashes() -> None:
    """What a command says of a work tree is what the daemon says of the commit."""
    seen = view(APPS)
    spec = spec_of(seen, "shop")
    plain = resolve(spec, "eu", seen.commit, {path: text.encode() for path, text in APPS.items()})
    assert Resolving().states(seen, spec)[0] == plain


@pytest.mark.parametrize("path", ["apps/us/link", "apps/us", "seed/link.csv", "seed"])
def test_what_builds_and_jobs_would_read_and_cannot_is_an_error(path: str) -> None:
    """A file that a commit has as a link moves the digest, and is told where the spec names it."""
    contents = {name: text for name, text in APPS.items() if not f"{name}/".startswith(f"{path}/")}
    skipped = (Skipped(path=path, reason="it is a symbolic link"),)
    linked = parsing().view("site", replace(tree(contents), skipped=skipped), "environments")
    assert linked.inputs != view(contents).inputs
    with pytest.raises(SpecError) as caught:
        Resolving().states(linked, spec_of(linked, "shop"))
    (problem,) = caught.value.problems
    assert problem.message == f"'{path}' was not read: it is a symbolic link"
    assert (problem.file, problem.line) == ("environments/shop.yaml", 9 if path.startswith("apps") else 10)


def test_broken_environment_has_a_digest_of_what_is_wrong() -> None:
    """It stays as long as the same is wrong, and moves with it."""
    text = SPEC.format(name="shop", tier="gold", dsn="SHOP_DSN")
    one = view(files(**{"environments/shop.yaml": text + "bad: 1\n"})).inputs
    two = view(files(**{"environments/shop.yaml": text + "worse: 1\n"})).inputs
    good = view(files()).inputs
    assert len({one["shop"], two["shop"], good["shop"]}) == 3
    assert one["blog"] == two["blog"] == good["blog"]


def test_name_declared_twice_has_a_digest_of_both_places() -> None:
    """Where an environment is broken because of another file, it moves when that file does."""
    again = files(**{"environments/z.yaml": files()["environments/shop.yaml"]})
    assert view(again).environments["shop"].problems
    moved = dict(again)
    moved["environments/y.yaml"] = moved.pop("environments/z.yaml")
    assert len({view(each).inputs["shop"] for each in (files(), again, moved)}) == 3


def test_document_that_only_moves_in_its_file_keeps_its_digest() -> None:
    """What stands before a document in its file is not what the environment is made from."""
    text = files()["environments/shop.yaml"]
    both = files(**{"environments/shop.yaml": "# a comment\n" + text})
    assert view(both).inputs == view(files()).inputs


def test_each_spec_file_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next commit costs what it changed; another source has its own rules, and parses for itself."""
    parsed: list[str] = []

    def counted(file: str, content: bytes, read_file: ReadFile) -> ParsedFile:
        parsed.append(file)
        return parse_spec_file(file, content, read_file)

    monkeypatch.setattr(view_module, "parse_spec_file", counted)
    parser = parsing()
    parser.view("site", tree(files()), "environments")
    assert len(parsed) == 2
    after = tree(files(**{"environments/blog.yaml": SPEC.format(name="blog", tier="gold", dsn="X")}), "2")
    assert [list(paths) for paths in parser.slices("site", after, "environments")] == [
        ["environments/blog.yaml"]
    ]
    parser.view("site", after, "environments")
    assert parsed[2:] == ["environments/blog.yaml"]
    parser.view("other", after, "environments")
    assert len(parsed) == 5


def test_included_file_is_part_of_what_a_module_is_made_from() -> None:
    """Another text of it makes another change."""
    resolving = Resolving()
    before = {"modules/gold/deploy/one.sql": "\\ir ../lib.sql\n", "modules/gold/lib.sql": "SELECT 1;"}
    first, later = view(files(**before)), view(files(**before | {"modules/gold/lib.sql": "SELECT 2;"}), "2")
    assert first.inputs["shop"] != later.inputs["shop"]
    one, two = (
        resolving.states(each, spec_of(each, "shop"))[0].modules[0].changes[0] for each in (first, later)
    )
    assert one.script_hash == two.script_hash
    assert one.parse_hash != two.parse_hash


def test_module_is_read_once_for_all_who_deploy_it() -> None:
    """Two environments and their next commit share the changes of a module that did not change."""
    resolving = Resolving()
    with mock.patch.object(view_module, "read_content", side_effect=read_content) as read:
        first = view(files())
        states = [
            state for name in ("shop", "blog") for state in resolving.states(first, spec_of(first, name))
        ]
        assert read.call_count == 2
        later = view(files(**{"modules/gold/deploy/one.sql": "CREATE TABLE other ();"}), "2")
        (eu, us) = resolving.states(later, spec_of(later, "shop"))
        assert read.call_count == 3
    assert states[0].modules[0].changes is states[2].modules[0].changes
    assert us.modules[0].changes is states[1].modules[0].changes
    assert eu.modules[0].changes != states[0].modules[0].changes
    assert {eu.commit, us.commit} == {"2" * 40}


def test_module_is_shared_unless_a_variable_that_it_uses_differs() -> None:
    """Deployments with other variables share it; those with another value of one it uses do not."""
    shared = files(**{"environments/shop.yaml": SPEC.format(name="shop", tier="x", dsn="D").replace(
        "modules/${tier}", "modules/gold")})  # fmt: skip
    resolving = Resolving()
    first = view(shared)
    eu, us = resolving.states(first, spec_of(first, "shop"))
    assert eu.modules[0].changes is us.modules[0].changes
    later = view({**shared, "modules/gold/deploy/one.sql": "SELECT :'tier';"}, "2")
    eu, us = resolving.states(later, spec_of(later, "shop"))
    assert eu.modules[0].changes != us.modules[0].changes
    assert eu.modules[0].changes[0].script_hash == us.modules[0].changes[0].script_hash


def test_unchanged_environment_is_not_resolved_again() -> None:
    """Its states are known at the next commit, and name that one."""
    resolving = Resolving()
    first, later = view(files()), view(files(**{"README.md": "bye"}), "2")
    assert resolving.known(first, spec_of(first, "shop")) is None
    states = resolving.states(first, spec_of(first, "shop"))
    found = resolving.known(later, spec_of(later, "shop"))
    assert found is not None
    assert [state.commit for state in found] == ["2" * 40] * 2
    assert [state.modules for state in found] == [state.modules for state in states]


def test_errors_are_known_too_and_raised_anew() -> None:
    """A broken module costs one reading, and no error object is raised twice."""
    resolving = Resolving()
    broken = view(files(**{"modules/gold/deploy/one.sql": "CREATE TABEL x;"}))
    spec = spec_of(broken, "shop")
    errors = []
    with mock.patch.object(view_module, "read_content", side_effect=read_content) as read:
        for look in (resolving.states, resolving.states, resolving.known):
            with pytest.raises(SpecError, match=r"modules/gold/deploy/one\.sql:1") as caught:
                look(broken, spec)
            errors.append(caught.value)
        assert read.call_count == 1
    assert len(set(map(id, errors))) == 3


def test_what_is_kept_is_bounded() -> None:
    """Two generations of a deployment stay, however many commits there were."""
    resolving = Resolving(states_max=3)
    for number in range(20):
        text = f"CREATE TABLE t{number} ();"
        each = view(files(**{"modules/gold/deploy/one.sql": text}), f"{number % 10}")
        resolving.states(each, spec_of(each, "shop"))
        resolving.states(each, spec_of(each, "blog"))
    assert len(resolving._states) == 3
    assert max(len(kept) for kept in resolving._states.values()) <= 2


def test_permissions_hold_for_each_source() -> None:
    """What a source may not use is a problem of its environments, and part of their digests."""

    own = OwnSecrets(variables=frozenset(), files=frozenset())

    def restricted(_source: str, parsed: tuple[ParsedEnvironment, ...]) -> tuple[ParsedEnvironment, ...]:
        return restrict(parsed, AllowSettings(environments=("blog",)), own)

    found = Parsing(restrict=restricted).view("site", tree(files()), "environments")
    assert found.environments["shop"].spec is None
    assert found.environments["blog"].spec is not None
    free = view(files())
    assert found.inputs["shop"] != free.inputs["shop"]
    assert found.inputs["blog"] == free.inputs["blog"]


GLOB_SPEC = SPEC.replace('path: "modules/${{tier}}"', 'modules: "modules/*"')


def test_a_module_that_appears_or_goes_changes_who_finds_it() -> None:
    """An environment with globs is made anew where they find another folder, and no other environment is."""
    found = files(**{"environments/blog.yaml": GLOB_SPEC.format(name="blog", tier="gold", dsn="SHOP_DSN")})
    third = {
        "modules/third/pgpm.plan": PLAN.format(name="third"),
        "modules/third/deploy/one.sql": "SELECT 1;",
    }
    before, after = view(found), view(found | third, "2")
    assert before.inputs["blog"] != after.inputs["blog"]
    assert before.inputs["shop"] == after.inputs["shop"]
    resolving = Resolving()
    names = [
        [module.component for module in resolving.states(each, spec_of(each, "blog"))[0].modules]
        for each in (before, after, before)
    ]
    assert names == [["gold", "silver"], ["gold", "silver", "third"], ["gold", "silver"]]


def test_what_globs_do_not_find_is_told_where_they_stand_now() -> None:
    """A spec that moved in its file tells its problem at the new line, though nothing was resolved anew."""
    text = GLOB_SPEC.replace("modules/*", "nothing/*").format(name="blog", tier="gold", dsn="SHOP_DSN")
    resolving, lines = Resolving(), []
    for blanks in ("", "# moved\n\n"):
        each = view(files(**{"environments/blog.yaml": blanks + text}))
        with pytest.raises(SpecError) as caught:
            resolving.states(each, spec_of(each, "blog"))
        (problem,) = caught.value.problems
        assert problem.file == "environments/blog.yaml"
        lines.append(problem.line)
    assert lines == [14, 16]


LISTED = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: tenants}
spec:
  deploymentsFrom: {file: tenants.csv, postgres: {dsn: {env: "${region}_DSN"}}}
  components:
    - {name: db, kind: Database, database: "t_${deployment}"}
    - {name: m, kind: Module, database: {from: db}, path: modules/gold}
"""


def listed(rows: str, **changed: str) -> dict[str, str]:
    found = files(**{"environments/tenants.yaml": LISTED, "tenants.csv": f"name,region\n{rows}"})
    return {**found, **changed}


def test_a_list_that_changes_is_read_anew() -> None:
    """What a spec file is made from is the list too: one blob there, and the file is parsed again."""
    parser = parsing()
    first = parser.view("site", tree(listed("a,EU\n")), "environments")
    after = tree(listed("a,EU\nb,US\n"), "2")
    assert [list(paths) for paths in parser.slices("site", after, "environments")] == [
        ["environments/tenants.yaml"]
    ]
    second = parser.view("site", after, "environments")
    names = [[place.name for place in spec_of(each, "tenants").deployments] for each in (first, second)]
    assert names == [["a"], ["a", "b"]]
    assert first.inputs["tenants"] != second.inputs["tenants"]
    assert {**first.inputs, "tenants": ""} == {**second.inputs, "tenants": ""}


def test_a_deployment_that_joins_a_list_leaves_the_others_as_they_are() -> None:
    """Only deployments whose own content changed are resolved again."""
    parser, resolving = parsing(), Resolving()
    first = parser.view("site", tree(listed("a,EU\nb,EU\n")), "environments")
    second = parser.view("site", tree(listed("a,EU\nc,EU\nb,US\n"), "2"), "environments")
    resolving.states(first, spec_of(first, "tenants"))
    with mock.patch.object(resolving, "_resolve", wraps=resolving._resolve) as resolved:
        states = resolving.states(second, spec_of(second, "tenants"))
    assert [call.args[2] for call in resolved.call_args_list] == ["c", "b"]
    assert [state.postgres.env for state in states] == ["EU_DSN", "EU_DSN", "US_DSN"]


def test_a_module_that_changes_is_resolved_anew_everywhere() -> None:
    """A digest of one deployment covers the files of its modules."""
    parser, resolving = parsing(), Resolving()
    first = parser.view("site", tree(listed("a,EU\n")), "environments")
    script = {"modules/gold/deploy/one.sql": "CREATE TABLE other ();"}
    second = parser.view("site", tree(listed("a,EU\n", **script), "2"), "environments")
    (before,) = resolving.states(first, spec_of(first, "tenants"))
    (after,) = resolving.states(second, spec_of(second, "tenants"))
    assert before.modules[0].changes[0].script_hash != after.modules[0].changes[0].script_hash
