"""Objects components, from the spec and the files of a commit to what a deployment wants."""

# ruff: noqa: E501 - expected messages stand in one piece

from collections.abc import Mapping

import pytest

from reconciler.errors import SpecError
from reconciler.objects.model import ObjectName
from reconciler.spec.parse import ParsedEnvironment, parse_file
from reconciler.state.desired import (
    DesiredAssertion,
    DesiredDeferred,
    DesiredObjects,
    DesiredRefresh,
)
from reconciler.state.resolve import resolve

HEAD = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  variables: {region: eu, tier: gold}
  deployments:
    - {name: one, postgres: {dsn: {env: EU}}}
    - {name: two, postgres: {dsn: {env: EU}}, variables: {region: us}}
  components:
    - {name: db, kind: Database, database: "shop_${deployment}"}
"""
PLAIN = HEAD + "    - {name: analytics, kind: Objects, database: {from: db}, path: objects/a}\n"
FULL = (
    HEAD
    + """\
    - name: analytics
      kind: Objects
      database: {from: db}
      path: objects/a/
      externals: [public.orders]
      variables: {region: nowhere, tier: silver}
      retain: 0s
      readyWithin: 5m
      dataAge: 15m
      dependents: adopt
      handMadeGrants: carry
      altered: replace
      assertions:
        - {name: no-gaps, sql: "SELECT 1 FROM a.daily WHERE tier <> '${tier}'; -- any"}
      refresh:
        - {name: hourly, schedule: "0 * * * *", views: [a.daily, '"a"."daily2"']}
      deferred:
        - {name: publish, sql: "CREATE PUBLICATION p FOR TABLE public.orders"}
        - {name: tell, url: "https://hooks.example.com/${deployment}"}
"""
)
FILES = {
    "objects/a/a/daily.sql": "CREATE MATERIALIZED VIEW daily AS SELECT :'region' AS region, :'tier' AS tier FROM orders",
    "objects/a/a/daily2.sql": "CREATE MATERIALIZED VIEW daily2 AS SELECT 1 AS one",
    "objects/a/a/plain.sql": "CREATE VIEW plain AS SELECT * FROM a.daily",
    "objects/a/README.md": "what the board reads",
}


def parsed(text: str) -> ParsedEnvironment:
    (found,) = parse_file("env.yaml", text.encode())
    return found


def wanted(text: str, files: Mapping[str, str], deployment: str = "one") -> tuple[DesiredObjects, ...]:
    found = parsed(text)
    assert found.spec is not None, found.problems
    contents = {path: content.encode("utf-8", "surrogateescape") for path, content in files.items()}
    return resolve(found.spec, deployment, "c" * 40, contents).objects


def told(text: str, files: Mapping[str, str] = FILES, unread: Mapping[str, str] | None = None) -> list[str]:
    """Everything wrong with a document, beside files, with places."""
    found = parsed(text)
    if found.spec is None:
        return [str(problem) for problem in found.problems]
    contents = {path: content.encode("utf-8", "surrogateescape") for path, content in files.items()}
    with pytest.raises(SpecError) as caught:
        resolve(found.spec, "one", "c" * 40, contents, unread=unread or {})
    return [str(problem) for problem in found.placed(caught.value.problems)]


def test_all_that_a_component_says_is_wanted() -> None:
    """Each key has its place in what is wanted, and variables are put into the spec and the files."""
    (found,) = wanted(FULL, FILES, "two")
    assert (found.component, found.stage, found.database_component) == ("analytics", "objects", "db")
    assert (found.database, found.path) == ("shop_two", "objects/a")
    assert (found.retain_s, found.ready_within_s, found.data_age_s) == (0.0, 300.0, 900.0)
    assert (found.dependents, found.hand_made, found.altered) == ("adopt", "carry", "replace")
    assert found.assertions == (
        DesiredAssertion(name="no-gaps", sql="SELECT 1 FROM a.daily WHERE tier <> 'gold'"),
    )
    assert found.refresh == (
        DesiredRefresh(
            name="hourly", schedule="0 * * * *", views=(ObjectName("a", "daily"), ObjectName("a", "daily2"))
        ),
    )
    assert found.deferred == (
        DesiredDeferred(name="publish", sql="CREATE PUBLICATION p FOR TABLE public.orders"),
        DesiredDeferred(name="tell", url="https://hooks.example.com/two"),
    )
    daily = found.project.objects[ObjectName("a", "daily")]
    assert "'us' AS region, 'silver' AS tier" in daily.creates[0].text
    assert list(found.project.objects) == [
        ObjectName("a", "daily"),
        ObjectName("a", "daily2"),
        ObjectName("a", "plain"),
    ]


def test_defaults_are_the_careful_ones() -> None:
    """Left out, what is displaced is kept for an hour, and nothing that others did by hand is touched."""
    (found,) = wanted(PLAIN, {"objects/a/a/v.sql": "CREATE VIEW v AS SELECT 1 AS one"})
    assert (found.retain_s, found.ready_within_s, found.data_age_s) == (3600.0, 1800.0, None)
    assert {found.dependents, found.hand_made, found.altered} == {"refuse"}
    assert (found.assertions, found.refresh, found.deferred, found.warnings) == ((), (), (), ())


def test_what_is_no_file_of_objects_is_left_alone() -> None:
    """A folder of which no file is an object wants nothing to be there."""
    (found,) = wanted(PLAIN, {"objects/a/README.md": "nothing yet", "objects/b/b/v.sql": "CREATE VIEW v"})
    assert (dict(found.project.objects), dict(found.project.schemas)) == ({}, {})


def test_a_declared_external_that_nothing_reads_is_a_warning_at_its_place() -> None:
    """It does not stop anything."""
    (found,) = wanted(FULL.replace("[public.orders]", "[public.orders, public.lines]"), FILES)
    assert [str(each) for each in parsed(FULL).placed(found.warnings)] == [
        "env.yaml: spec.components[1].externals[1]: external 'public.lines' is declared, and no object reads it (leave it out)"
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("retain: 0s", "retian: 1h", ["env.yaml:17:7: spec.components[1]: unknown key 'retian' (did you mean 'retain'?)"]),
        ("retain: 0s", "retain: 5s", ["env.yaml:17:15: spec.components[1].retain: is not 0s or a duration from 10s to 30d (write it as in 0s, 30m, 1h or 1d)"]),
        ("adopt", "drop", ["env.yaml:20:19: spec.components[1].dependents: must be refuse or adopt, not 'drop' (did you mean 'adopt'?)"]),
        ("0 * * * *", "0 25 * * *", ["env.yaml:26:36: spec.components[1].refresh[0].schedule: its hour is not from 0 to 23 (write minute, hour, day, month and weekday, as in \"0 * * * *\" or \"30 4 * * mon-fri\")"]),
        ("https://hooks", "ftp://hooks", ["env.yaml:29:29: spec.components[1].deferred[1].url: in deployment 'one', is not an address that begins with https:// or http:// (write it as in https://hooks.example.com/published)"]),
        ("https://hooks", "https://me:secret@hooks", ["env.yaml:29:29: spec.components[1].deferred[1].url: in deployment 'one', must not hold a user or password (write it as in https://hooks.example.com/published)"]),
        ("tell, url", "tell, sql: SELECT 1, url", ["env.yaml:29:11: spec.components[1].deferred[1]: a deferred action has `sql` or `url`, not both (write one action for each thing to do)"]),
        ("tell, url: \"https://hooks.example.com/${deployment}\"", "tell", ["env.yaml:29:11: spec.components[1].deferred[1]: a deferred action needs `sql` or `url` (write one action for each thing to do)"]),
        ("{name: tell", "{name: publish", ["env.yaml:28:9: spec.components[1].deferred: 'publish' is the name of two of them (give each its own name)"]),
        ("SELECT 1 FROM a.daily WHERE tier <> '${tier}'; -- any", "DELETE FROM a.daily", ["env.yaml:24:32: spec.components[1].assertions[0].sql: must be a SELECT, not DELETE (write one SELECT of the rows that there must not be)"]),
        ("SELECT 1 FROM a.daily WHERE tier <> '${tier}'; -- any", "SELECT 1; SELECT 2", ["env.yaml:24:32: spec.components[1].assertions[0].sql: must be one statement, and has 2 (write one SELECT of the rows that there must not be)"]),
        ("SELECT 1 FROM a.daily WHERE tier <> '${tier}'; -- any", "SELECT 1 INTO t", ["env.yaml:24:32: spec.components[1].assertions[0].sql: must be a SELECT, not one that makes a table (write one SELECT of the rows that there must not be)"]),
        ("SELECT 1 FROM a.daily WHERE tier <> '${tier}'; -- any", "SELEC 1", ["env.yaml:24:32: spec.components[1].assertions[0].sql: is no SQL: syntax error at or near \"SELEC\""]),
        ("CREATE PUBLICATION p FOR TABLE public.orders", "BEGIN; COMMIT", [
            "env.yaml:28:32: spec.components[1].deferred[0].sql: BEGIN cannot be deferred: it and its record are one transaction, which nothing in it begins or ends (put it into a change of a module)",
            "env.yaml:28:32: spec.components[1].deferred[0].sql: COMMIT cannot be deferred: it and its record are one transaction, which nothing in it begins or ends (put it into a change of a module)",
        ]),
        ("CREATE PUBLICATION p FOR TABLE public.orders", "VACUUM", ["env.yaml:28:32: spec.components[1].deferred[0].sql: VACUUM cannot be deferred: VACUUM cannot run inside of a transaction (put it into a change of a module)"]),
        ("[a.daily, ", "[a.dialy, ", ["env.yaml:26:57: spec.components[1].refresh[0].views[0]: 'a.dialy' is no object of 'objects/a' (did you mean 'a.daily'?)"]),
        ("[a.daily, ", "[a.plain, ", ["env.yaml:26:57: spec.components[1].refresh[0].views[0]: 'a.plain' is a view, and only materialized views are refreshed"]),
        ("[a.daily, ", "[daily, ", ["env.yaml:26:57: spec.components[1].refresh[0].views[0]: 'daily' is no name in full (write SCHEMA.VIEW, as SQL does)"]),
        ("[a.daily, ", "[a.daily2, ", ["env.yaml:26:67: spec.components[1].refresh[0].views[1]: '\"a\".\"daily2\"' is listed twice (name it once)"]),
        ("[public.orders]", "[orders]", [
            "env.yaml:15:19: spec.components[1].externals[0]: external 'orders' is no name in full (write SCHEMA.RELATION, as SQL does)",
            "objects/a/a/daily.sql:1:84: undeclared external 'orders': schema 'a' of the project has no such object (declare it on the component: externals: [public.orders])",
        ]),
        ("path: objects/a/", "path: objects/other", ["env.yaml:14:13: spec.components[1].path: there is no file below 'objects/other' (paths begin at the root of the source; to have no objects any more, keep another file in it)"]),
    ],
)  # fmt: skip
def test_each_mistake_is_told_at_its_place(old: str, new: str, expected: list[str]) -> None:
    """What is wrong in the spec has its line there, what is wrong in a file its line in the file."""
    assert old in FULL
    assert told(FULL.replace(old, new)) == expected


def test_all_mistakes_are_told_at_once() -> None:
    """Those of files, of the spec, and of modules beside them."""
    text = FULL.replace("SELECT 1 FROM", "SELEC 1 FROM").replace("BLICATION p", "BLICTION p")
    text += "    - {name: m, kind: Module, database: {from: db}, path: modules/m}\n"
    files = {**FILES, "objects/a/a/bad.sql": "CREATE VIEW bad AS SELECT * FROM nowhere.at_all"}
    found = told(text, files)
    assert [line.split(": ")[0] for line in found] == [
        "modules/m",
        "objects/a/a/bad.sql:1:34",
        "env.yaml:24:32",
        "env.yaml:28:32",
    ]


def test_two_components_make_no_schema_together() -> None:
    """On one database each schema is one component's; on two databases they do not meet."""
    other = "    - {name: more, kind: Objects, database: {from: db}, path: objects/b}\n"
    files = {
        "objects/a/a/v.sql": "CREATE VIEW v AS SELECT 1 AS one",
        "objects/b/a.sql": "SET api = stable",
        "objects/b/b/v.sql": "CREATE VIEW v AS SELECT 1 AS one",
    }
    assert told(PLAIN + other, files) == [
        "env.yaml:12:63: spec.components[2].path: schema a of database 'shop_one' is made by two components, 'analytics' and 'more' (a schema goes live as a whole: keep its files in the folder of one of them)"
    ]
    elsewhere = (
        other.replace("from: db", "from: db2") + "    - {name: db2, kind: Database, database: other}\n"
    )
    assert [part.database for part in wanted(PLAIN + elsewhere, files)] == ["shop_one", "other"]


def test_a_folder_is_the_objects_of_one_component() -> None:
    """The same folder twice in one database is told in the spec already."""
    other = "    - {name: more, kind: Objects, database: {from: db}, path: objects/a}\n"
    assert told(PLAIN + other) == [
        "env.yaml:12:63: spec.components[2].path: objects 'objects/a' are deployed to 'db' twice in deployment 'one' (the other one is spec.components[1])"
    ]


def test_a_file_that_cannot_be_read_is_told_and_has_no_other_fault() -> None:
    """Neither is what names its object wrong, nor does a folder that was left out pass for an empty one."""
    files = {
        "objects/a/a/bad.sql": "CREATE VIEW bad AS\nSELECT '\udcff'",
        "objects/a/a/reads.sql": "CREATE VIEW reads AS SELECT * FROM bad, linked",
    }
    unread = {"objects/a/a/linked.sql": "it is a symbolic link, which is never followed"}
    assert sorted(told(PLAIN, files, unread)) == [
        "objects/a/a/bad.sql:2: not UTF-8: byte 0xff (save the file as UTF-8)",
        "objects/a/a/linked.sql: was not read: it is a symbolic link, which is never followed (commit a plain file of 8 MiB at most in its place; links are not followed)",
    ]
    link = {
        "objects/a/b": "it is a symbolic link, which is never followed",
        "objects/a/notes.md": "no matter",
    }
    assert [line.partition(":")[0] for line in told(PLAIN, files, link)] == [
        "objects/a/b",
        "objects/a/a/bad.sql",
    ]
    assert told(PLAIN, {}, {"objects": "it is a symbolic link"}) == [
        "env.yaml:11:68: spec.components[1].path: 'objects/a' was not read: 'objects' is no folder: it is a symbolic link (commit a plain file of 8 MiB at most in its place; links are not followed)"
    ]


def test_a_unit_test_that_cannot_run_is_told() -> None:
    """What it reads and does not mock is known before anything is built."""
    test = "EXECUTE UNIT TEST t EXPECTED (one int) AS (VALUES (1))"
    files = {
        "objects/a/a/v.sql": "CREATE VIEW v AS SELECT 1 AS one",
        "objects/a/a/w.sql": f"CREATE VIEW w AS SELECT * FROM v;\n{test}",
    }
    (problem,) = told(PLAIN, files)
    assert problem.startswith(
        "objects/a/a/w.sql:2: unit test 't' of view a.w: nothing stands for a.v, which it reads"
    )


def test_unknown_variables_of_files_are_told_with_those_there_are() -> None:
    """A variable is the environment's, the component's, the deployment's, or built in."""
    files = {"objects/a/a/v.sql": "CREATE VIEW v AS SELECT :'regoin', :'environment', :'deployment' AS d"}
    assert told(PLAIN, files) == [
        "objects/a/a/v.sql:1:25: unknown variable 'regoin' (did you mean 'region'?)"
    ]
