"""Lists of deployments: read whole, every problem at its place, and put into their environment."""

import pytest

from reconciler.spec.deployment_list import read_list
from reconciler.spec.environment import DEPLOYMENTS_MAX, EnvironmentSpec
from reconciler.spec.parse import ParsedEnvironment, parse_file
from reconciler.spec.variables import for_deployment

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: tenants}
spec:
  variables: {plan: free}
  deploymentsFrom:
    file: tenants.csv
    postgres: {dsn: {env: "TENANTS_${region}_DSN"}}
    wave: 2
  components:
    - {name: db, kind: Database, database: "t_${deployment}"}
"""
WRITTEN = """\
  deployments:
    - {name: acme, wave: 0, postgres: {dsn: {env: ACME_DSN}}}
"""


def parsed(listed: str | bytes, *, spec: str = SPEC, name: str = "tenants.csv") -> ParsedEnvironment:
    content = listed.encode() if isinstance(listed, str) else listed
    (found,) = parse_file("e.yaml", spec.encode(), {name: content}.get)
    return found


def sound(listed: str | bytes, *, spec: str = SPEC, name: str = "tenants.csv") -> EnvironmentSpec:
    found = parsed(listed, spec=spec, name=name)
    assert found.spec is not None, [str(problem) for problem in found.problems]
    return found.spec


def told(listed: str | bytes, *, spec: str = SPEC, name: str = "tenants.csv") -> list[str]:
    found = parsed(listed, spec=spec, name=name)
    assert found.spec is None
    return [str(problem) for problem in found.problems]


def test_a_list_makes_deployments_behind_those_of_the_spec() -> None:
    """Names, variables and waves of the list, all else from what its deployments have in common."""
    spec = sound("name,region,plan,wave\none,EU,gold,1\ntwo,US,,\n", spec=SPEC + WRITTEN)
    assert [place.name for place in spec.deployments] == ["acme", "one", "two"]
    assert spec.waves == {"acme": 0, "one": 1, "two": 2}
    one, two = (for_deployment(spec, name) for name in ("one", "two"))
    assert one.deployments[0].postgres.dsn.env == "TENANTS_EU_DSN"
    assert one.databases[0].database == "t_one"
    assert (one.deployments[0].variables["plan"], "plan" in two.deployments[0].variables) == ("gold", False)


def test_csv_is_read_as_spreadsheets_write_it() -> None:
    """Quotes, commas and line breaks inside them, CRLF, a byte order mark and empty lines."""
    text = '\ufeffname,region,note\r\none,EU,"a, ""b""\r\nc"\r\n\r\ntwo,US,x\r\n'
    found = read_list("t.csv", text.encode())
    assert found.problems == ()
    assert [(row.name, row.mark.line) for row in found.rows] == [("one", 2), ("two", 5)]
    assert found.rows[0].variables == {"region": "EU", "note": 'a, "b"\r\nc'}


def test_a_list_may_be_yaml() -> None:
    """The same list as YAML means the same."""
    text = "- {name: one, region: EU, wave: 1}\n- name: two\n  region: US\n"
    spec = sound(text, name="t.yaml", spec=SPEC.replace("tenants.csv", "t.yaml"))
    same = sound("name,region,wave\none,EU,1\ntwo,US,\n")
    assert spec.deployments == same.deployments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "tenants.csv:1:1: lists no deployments"),
        ("name,region\n", "tenants.csv:1:1: lists no deployments"),
        ("region\nEU\n", "tenants.csv:1:1: has no column 'name'"),
        ("name;region\na;EU\n", "tenants.csv:1:1: has no column 'name'"),
        ("name,region,region\na,EU,EU\n", "tenants.csv:1:1: column 'region' stands there twice"),
        ("name,Wave\na,1\n", "tenants.csv:1:1: unknown column 'Wave'"),
        ("name,a b\na,1\n", "tenants.csv:1:1: column 'a b'"),
        ("name,deployment\na,1\n", "tenants.csv:1:1: column 'deployment'"),
        ("name,dsn\na,postgresql://u:p@h/d\n", "tenants.csv:1:1: column 'dsn' is not for a list"),
        ("name,region\na,EU\nb\n", "tenants.csv:3:1: has 1 cells, and there are 2 columns"),
        ("name,region\nA b,EU\n", "tenants.csv:2:1: name 'A b' is not a valid name"),
        ("name,region\n,EU\n", "tenants.csv:2:1: has no name"),
        ("name,region\na,EU\na,US\n", "tenants.csv:3:1: duplicate deployment 'a'"),
        ("name,region,wave\na,EU,x\n", "tenants.csv:2:1: 'wave' must be a whole number"),
        ('name,region\na,"EU\n', "tenants.csv:2:1: is not CSV"),
        (b"name,region\na,\xff\n", "tenants.csv:2:3: byte 0xff is not UTF-8"),
        (b"name,region\na,\x00\n", "tenants.csv:2:3: control character U+0000"),
        (f"name,region\na,{'x' * 1025}\n", "tenants.csv:2:1: 'region' has more than 1024 characters"),
    ],
    ids=[
        "empty", "header-only", "no-name", "semicolons", "twice", "near", "not-a-name", "reserved", "secret",
        "short-row", "bad-name", "no-cell", "duplicate", "wave", "quote", "encoding", "control", "long",
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_list_is_told_at_its_line(text: str | bytes, expected: str) -> None:
    """Each broken rule is told with file and line, and the environment is not used."""
    assert any(line.startswith(expected) for line in told(text)), told(text)


def test_a_cell_that_holds_a_connection_string_is_never_told() -> None:
    """What is refused of a list quotes no value."""
    text = "name,dsn\na,postgresql://u:hidden-secret@h/d\n"
    assert not any("hidden-secret" in line for line in told(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", "t.yaml:1:1: lists no deployments"),
        ("", "t.yaml:1:1: must be a list of deployments"),
        ("a: b", "t.yaml:1:1: must be a list of deployments"),
        ("- one", "t.yaml:1:3: must be a mapping"),
        ("- {name: one, region: 5}", "t.yaml:1:23: 'region' must be text"),
        ("- {name: one, region: EU}\n- {name: one, region: EU}", "t.yaml:2:10: duplicate deployment 'one'"),
        ("- {name: one, name: two}", "t.yaml:1:15"),
        ("- {name: one, region: EU}\n---\n- {name: two}", "t.yaml:3:1: a list is one document"),
        ("- {name: one, region: EU, wave: -1}", "t.yaml:1:33: 'wave' must be a whole number"),
    ],
    ids=["empty", "nothing", "mapping", "text", "number", "duplicate", "twice", "documents", "wave"],
)
def test_what_is_wrong_in_a_yaml_list_is_told_at_its_place(text: str, expected: str) -> None:
    """YAML lists are as strict as CSV."""
    found = told(text, name="t.yaml", spec=SPEC.replace("tenants.csv", "t.yaml"))
    assert any(line.startswith(expected) for line in found), found


def test_all_problems_are_told_at_once() -> None:
    """Those of the spec, of what its deployments have in common, and of the list."""
    spec = SPEC.replace("kind: Database,", "kind: Database, nope: 1,").replace("${region}", "${regoin}")
    found = told("name,region\na,EU\na,EU\nB,US\n", spec=spec)
    assert [line.split(": ")[0] for line in found] == [
        "e.yaml:8:27",
        "e.yaml:11:34",
        "tenants.csv:3:1",
        "tenants.csv:4:1",
    ]
    assert "unknown variable 'regoin'" in found[0]


def test_a_name_of_the_spec_cannot_stand_in_the_list_too() -> None:
    """Duplicates are found over both."""
    (line,) = told("name,region\nacme,EU\n", spec=SPEC + WRITTEN)
    assert line.startswith("tenants.csv:2:1: deployment 'acme', 'name': duplicate deployment 'acme'")


def test_what_is_broken_for_all_is_told_once() -> None:
    """A thousand deployments with one mistake in common have one problem."""
    rows = "".join(f"t{number},EU\n" for number in range(1000))
    (line,) = told(f"name,region\n{rows}", spec=SPEC.replace("t_${deployment}", "t_${nope}"))
    assert line.startswith("e.yaml:11:")


HERE = "spec.deploymentsFrom"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("tenants.csv", "gone.csv", f"e.yaml:7:11: {HERE}.file: there is no file 'gone.csv'"),
        ("    wave: 2\n", "    waev: 2\n", f"e.yaml:9:5: {HERE}: unknown key 'waev'"),
        ("{env: ", "{password: ", f"e.yaml:8:21: {HERE}.postgres.dsn: must have exactly one key"),
        ("  deploymentsFrom:\n", "  deployments_from:\n", "e.yaml:6:3: spec: unknown key"),
        ("  deploymentsFrom:\n    file:", "  deploymentsFrom: a.csv\n  x:", f"e.yaml:6:20: {HERE}: must"),
    ],
    ids=["missing", "key", "secret", "spelling", "text"],
)  # fmt: skip
def test_what_is_wrong_about_a_list_is_told_in_the_spec(before: str, after: str, expected: str) -> None:
    """What the spec says of its list is judged as strictly as the rest."""
    spec = SPEC.replace(before, after)
    if "file:" in before:
        spec = spec.replace('    postgres: {dsn: {env: "TENANTS_${region}_DSN"}}\n    wave: 2\n', "")
    found = told("name,region\na,EU\n", spec=spec)
    assert any(line.startswith(expected) for line in found), found


def test_a_list_has_a_limit() -> None:
    """More deployments than an environment may have are refused, and nothing is made of them."""
    rows = "".join(f"t{number},EU\n" for number in range(DEPLOYMENTS_MAX + 1))
    assert any("lists more than" in line for line in told(f"name,region\n{rows}"))


def test_waves_are_named_or_come_last() -> None:
    """Without any wave there is one; where one is named, who names none comes after all that do."""
    bare = SPEC.replace("    wave: 2\n", "")
    assert sound("name,region,wave\na,EU,\nb,EU,7\n", spec=bare).waves == {"a": 8, "b": 7}
    assert sound("name,region\na,EU\nb,EU\n", spec=bare).waves == {"a": 0, "b": 0}
